"""What the benchmarks measure on: a trained network, a probe, and clocks."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning
import numba
import sklearn
import torch
from lightning.pytorch import Trainer, seed_everything
from threadpoolctl import threadpool_limits
from torch import Tensor

from filterwatch.datamodules import DigitsDataModule, ImageDataModule, ImageFolderDataModule
from filterwatch.models import ImageClassifier

FOLDER = Path(__file__).parent / "data"
PROBE_SIZE = 1000


@dataclass(frozen=True)
class Setting:
    """A data set and a simple CNN trained on it.

    Attributes:
        name: The data set's name.
        datamodule: Its images, loaded.
        classifier: The network at its last epoch.
        probe: Held-out images [N, C, 32, 32].
        epochs: Number of epochs trained.
    """

    name: str
    datamodule: ImageDataModule
    classifier: ImageClassifier
    probe: Tensor
    epochs: int


def make_datamodule(data: Path | None) -> tuple[str, ImageDataModule]:
    """Return CIFAR-10 from a folder of images, or the embedded digits where there is none."""
    if data is not None:
        return "CIFAR-10", ImageFolderDataModule(root=str(data), image_size=32)
    return "digits", DigitsDataModule(train_size=300, label_noise=0.2, batch_size=32)


def prepare(data: Path | None, epochs: int) -> Setting:
    """Train the simple CNN, or take the weights that an earlier call left."""
    name, datamodule = make_datamodule(data)
    datamodule.prepare_data()
    datamodule.setup("fit")
    seed_everything(0, verbose=False)
    classifier = ImageClassifier("simple_cnn", in_channels=datamodule.in_channels)
    FOLDER.mkdir(exist_ok=True)
    weights = FOLDER / f"simple_cnn-{name.lower()}-{epochs}.pt"
    if weights.exists():
        classifier.load_state_dict(torch.load(weights, weights_only=True))
    else:
        quiet_trainer(max_epochs=epochs).fit(classifier, datamodule=datamodule)
        torch.save(classifier.state_dict(), weights)
    classifier.eval()
    held_out = [*datamodule.probe_dataset, *datamodule.val_dataset]
    probe = torch.stack([image for image, _ in held_out[:PROBE_SIZE]])
    return Setting(name, datamodule, classifier, probe, epochs)


def quiet_trainer(**options: object) -> Trainer:
    """Return a Trainer that prints and writes nothing."""
    return Trainer(
        **{
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            **options,
        }  # type: ignore[arg-type]
    )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Hold torch, BLAS and the compiled code at so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)


def seconds(
    work: Callable[[], object], *, repeats: int = 3, clock: str = "cpu", warm_up: bool = True
) -> float:
    """Return the least time of several calls.

    Args:
        work: What to time.
        repeats: Number of timed calls.
        clock: ``"cpu"`` counts the process's processor time, which other processes on a busy
            machine disturb least; ``"wall"`` what a user waits.
        warm_up: Whether an untimed call comes first.
    """
    read = time.process_time if clock == "cpu" else time.perf_counter
    if warm_up:
        work()
    best = float("inf")
    for _ in range(repeats):
        started = read()
        work()
        best = min(best, read() - started)
    return best


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = (torch, lightning, sklearn, numba)
    return {
        "python": platform.python_version(),
        **{package.__name__: str(package.__version__) for package in packages},
    }


def data_folder(argument: str | None) -> Path | None:
    """Return the folder with CIFAR-10's ``train`` and ``test``, if one is named or known."""
    named = argument or os.environ.get("FILTERWATCH_CIFAR10")
    return None if named is None else Path(named)
