"""``filterwatch demo``: a network that overfits on purpose, watched while it does."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import Trainer
from PIL import Image

from filterwatch import lightning_cli
from filterwatch._compat import callbacks_of
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.datamodules import DigitsDataModule, ImageDataset

_SHOWN = 30  # memorized samples that are compared with the labels that were made wrong
_FOLDERS = ("held_out", "training")  # of images, in this order

_INTRODUCTION = """\
A small CNN learns 300 digits by heart, a fifth of them with a wrong label. Of the 500 held-out
images that it is watched with, ten are blank. In the table below:

  generalization_gap  how much more the network knows of training labels than of new ones, in nats
  memorized_samples   training images learned by heart, wrong labels first
  anomaly_filters     filters that set a few held-out images apart from all others
"""


class Findings(NamedTuple):
    """What was planted in the data, and how much of it was found."""

    n_memorized: int  # samples at the head of those that were memorized, at most 30
    n_wrong_among_them: int  # with a label that was made wrong
    n_blank: int  # images of the probe
    n_blank_on_top: int  # of them among as many images that most anomaly filters isolate


def run(args: Sequence[str]) -> None:
    """Run ``filterwatch demo``; ``args`` are the subcommand's name and its arguments.

    Raises:
        SystemExit: After ``--help``, and with status 2 on a wrong option.
    """
    options = build_parser().parse_args(args[1:])
    trainer = train(options.output, options.seed, introduce=True)
    folder = Path(str(trainer.log_dir))
    datamodule = _datamodule(trainer)
    write_images(datamodule, folder / "images")
    found = find_planted(trainer)
    print(
        f"\nOf the {found.n_memorized} training images memorized most, "
        f"{found.n_wrong_among_them} have a wrong label.\n"
        f"Of the {found.n_blank} images isolated by most anomaly filters, "
        f"{found.n_blank_on_top} are blank.\n\n"
        f"Curves and pictures:\n\n    {shlex.join(tensorboard_command(folder))}\n\n"
        f"Every filter and every image, as a page:\n\n    {shlex.join(analyze_command(folder))}\n"
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``demo``."""
    parser = argparse.ArgumentParser(
        prog="filterwatch demo",
        description="Train a small CNN on the digits of scikit-learn until it overfits, and watch "
        "its filters meanwhile; then say where to look. One to two minutes on two CPU cores, "
        "without a download. The same as: filterwatch fit --config quickstart.",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_seed,
        default=0,
        help="seed of the network and of the choice of images; %(default)s by default",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("logs", "quickstart"),
        help="folder for the results; each run has one of its own in it, version_0, version_1, …; "
        "%(default)s by default",
    )
    return parser


def train(
    output: Path, seed: int = 0, more: Sequence[str] = (), *, introduce: bool = False
) -> Trainer:
    """Train the quickstart, and return its Trainer.

    Args:
        output: Folder that the run's own is made in.
        seed: Seed of the network and of the choice of images.
        more: More arguments of ``filterwatch fit``.
        introduce: Whether to print what the columns of the table mean.
    """
    if introduce:
        print(_INTRODUCTION, flush=True)
    with _quiet_lightning():
        finished = lightning_cli.run(
            [
                *("fit", "--config", "quickstart"),
                *(f"--seed_everything={seed}", f"--data.seed={seed}"),
                f"--trainer.logger.save_dir={output.parent}",
                f"--trainer.logger.name={output.name}",
                *more,
            ]
        )
    return finished.trainer


def find_planted(trainer: Trainer) -> Findings:
    """Return how much of what was planted in the data a finished run has found."""
    datamodule, watch = _datamodule(trainer), _watch(trainer)
    assert watch.report is not None
    assert watch.memorization is not None
    assert watch.training_probe_indices is not None
    memorized = watch.memorization.memorized(_SHOWN)
    rows = [watch.training_probe_indices[sample.index] for sample in memorized]
    n_blank = datamodule.blank_probe_images
    most_isolated = list(watch.report.outlier_samples())[:n_blank]
    return Findings(
        len(memorized),
        int(datamodule.train_dataset.is_mislabelled[rows].sum()),
        n_blank,
        sum(sample < n_blank for sample in most_isolated),
    )


def write_images(datamodule: DigitsDataModule, folder: Path) -> None:
    """Write the probe and the training images for ``filterwatch analyze``, in folders by label.

    What was planted is in the names: ``training/3/012_is_8.png``, ``held_out/5/004_blank.png``.
    """
    probe, training = datamodule.probe_dataset, datamodule.train_dataset
    blank = ["_blank" if row < datamodule.blank_probe_images else "" for row in range(len(probe))]
    wrong = [
        f"_is_{true}" if is_wrong else ""
        for true, is_wrong in zip(training.true_labels, training.is_mislabelled, strict=True)
    ]
    for name, dataset, remarks in zip(_FOLDERS, (probe, training), (blank, wrong), strict=True):
        _write_classes(dataset, folder / name, remarks)


def tensorboard_command(folder: Path) -> list[str]:
    """Return the words of the command that shows a run's curves."""
    return [*_program("tensorboard", "tensorboard.main"), "--logdir", str(folder)]


def analyze_command(folder: Path) -> list[str]:
    """Return the words of the command that looks at what a run has left."""
    held_out, training = (str(folder / "images" / name) for name in _FOLDERS)
    return [
        *(*_program("filterwatch", "filterwatch"), "analyze"),
        str(folder / "checkpoints" / "last.ckpt"),
        *("--images", held_out, "--training-images", training),
        *("--output", str(folder / "report")),
    ]


def _write_classes(dataset: ImageDataset, folder: Path, remarks: Sequence[str]) -> None:
    for label in dataset.labels.unique().tolist():
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
    pixels = dataset.source.read(dataset.indices)[:, 0].numpy()
    for row, (image, label, remark) in enumerate(
        zip(pixels, dataset.labels.tolist(), remarks, strict=True)
    ):
        Image.fromarray(image).save(folder / str(label) / f"{row:03}{remark}.png")


def _program(name: str, module: str) -> list[str]:
    """Return how to call a program of this environment, wherever the shell is."""
    if (found := shutil.which(name)) is not None and (
        Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    ):
        return [name]
    return [sys.executable, "-m", module]


def _datamodule(trainer: Trainer) -> DigitsDataModule:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, DigitsDataModule)
    return datamodule


def _watch(trainer: Trainer) -> AnomalyFilterCallback:
    return next(c for c in callbacks_of(trainer) if isinstance(c, AnomalyFilterCallback))


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and 2**32 - 1")
    return number


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says of devices, seeds and its own future."""

    def is_ours(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or record.getMessage().startswith("AnomalyFilter")

    loggers = [
        logging.getLogger(f"lightning.{package}.utilities.{module}")
        for package in ("pytorch", "fabric")
        for module in ("rank_zero", "seed")
    ]
    for logger in loggers:
        logger.addFilter(is_ours)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", ".*does not have many workers")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_ours)
