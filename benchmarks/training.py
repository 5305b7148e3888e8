"""What an epoch costs with the callback over one without."""

from __future__ import annotations

import tempfile
import time
from statistics import median

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from benchmarks.rows import Row, at_most, informs
from benchmarks.setting import Setting, quiet_trainer
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.models import ImageClassifier

_ROUNDS = 2
_EPOCHS = 4


class EpochTimes(Callback):
    """Keeps what each epoch took: wall time and the process's processor time."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clocks; standing behind the callback in the list, its work is in them."""
        self.wall.append(time.perf_counter() - self._wall)
        self.cpu.append(time.process_time() - self._cpu)


def rows(setting: Setting) -> list[Row]:
    """Train with and without in turn, and compare medians: a machine's speed drifts."""
    times: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(_ROUNDS):
        for name in ("without", "with", "with, no pictures"):
            clock = _train(setting, name)
            wall, cpu = times.setdefault(name, ([], []))
            # The first epoch compiles, decodes and warms up.
            wall += clock.wall[1:]
            cpu += clock.cpu[1:]
    wall = {name: sum(kept[0]) / len(kept[0]) for name, kept in times.items()}
    cpu = {name: sum(kept[1]) / len(kept[1]) for name, kept in times.items()}
    middle = {name: median(kept[0]) for name, kept in times.items()}
    return [
        informs("an epoch without the callback", wall["without"], f"{wall['without']:.2f} s"),
        at_most(
            "an epoch with the callback at its defaults over one without, wall time, mean",
            wall["with"] / wall["without"],
            1.05,
            "{:.3f}",
        ),
        informs(
            "the same, median of the epochs",
            middle["with"] / middle["without"],
            f"{middle['with'] / middle['without']:.3f}",
        ),
        informs(
            "the same in processor time",
            cpu["with"] / cpu["without"],
            f"{cpu['with'] / cpu['without']:.3f}",
        ),
        informs(
            "pictures=False, wall time",
            wall["with, no pictures"] / wall["without"],
            f"{wall['with, no pictures'] / wall['without']:.3f}",
        ),
    ]


def _train(setting: Setting, name: str) -> EpochTimes:
    seed_everything(0, verbose=False)
    clock = EpochTimes()
    callbacks: list[Callback] = []
    if name == "with":
        callbacks.append(AnomalyFilterCallback(print_summary=False))
    elif name == "with, no pictures":
        callbacks.append(AnomalyFilterCallback(print_summary=False, pictures=False))
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            max_epochs=_EPOCHS,
            callbacks=[*callbacks, clock],
            logger=TensorBoardLogger(folder),
        )
        network = ImageClassifier("simple_cnn", in_channels=setting.datamodule.in_channels)
        trainer.fit(network, datamodule=setting.datamodule)
    return clock
