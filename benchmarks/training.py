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

# Of which the first compiles, decodes and warms up, and one of the others draws pictures.
_EPOCHS = 6

Clock = tuple[float, float]


def _now() -> Clock:
    """Return wall time and the process's processor time."""
    return time.perf_counter(), time.process_time()


class EpochTimes(Callback):
    """Keeps when each epoch began and when its end reached this place in the list of callbacks."""

    def __init__(self) -> None:
        self.began: list[Clock] = []
        self.ended: list[Clock] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the clocks."""
        self.began.append(_now())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the clocks."""
        self.ended.append(_now())

    def seconds(self, clock: int) -> list[float]:
        """Return what each epoch took but the first: 0 for wall time, 1 for processor time."""
        both = zip(self.began, self.ended, strict=True)
        return [end[clock] - start[clock] for start, end in both][1:]


def rows(setting: Setting) -> list[Row]:
    """Return the rows: epochs with the callback's part and without it, and of a run without it.

    A machine's speed drifts by more than the callback costs. Read at both sides of the callback,
    the clocks tell its part in the very epoch that it belongs to.
    """
    before, after = _train(setting, [AnomalyFilterCallback(print_summary=False)])
    _, alone = _train(setting, [])
    walls, cpus = (
        (sum(after.seconds(clock)), sum(before.seconds(clock)), sum(alone.seconds(clock)))
        for clock in (0, 1)
    )
    parts = [end - start for start, end in zip(before.seconds(0), after.seconds(0), strict=True)]
    n_epochs = _EPOCHS - 1
    return [
        informs(
            "an epoch without the callback", walls[1] / n_epochs, f"{walls[1] / n_epochs:.2f} s"
        ),
        at_most(
            "an epoch with the callback at its defaults over the same one without its part, wall "
            "time",
            walls[0] / walls[1],
            1.05,
            "{:.3f}",
        ),
        informs("the same in processor time", cpus[0] / cpus[1], f"{cpus[0] / cpus[1]:.3f}"),
        informs(
            "the callback's part: median epoch, and the one that draws pictures",
            median(parts),
            f"{median(parts):.2f} s, {max(parts):.2f} s",
        ),
        informs(
            "against epochs of another run without it, the machine's drift included, wall time",
            walls[0] / walls[2],
            f"{walls[0] / walls[2]:.3f}",
        ),
    ]


def _train(setting: Setting, callbacks: list[Callback]) -> tuple[EpochTimes, EpochTimes]:
    seed_everything(0, verbose=False)
    before, after = EpochTimes(), EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            max_epochs=_EPOCHS,
            callbacks=[before, *callbacks, after],
            logger=TensorBoardLogger(folder),
        )
        network = ImageClassifier("simple_cnn", in_channels=setting.datamodule.in_channels)
        trainer.fit(network, datamodule=setting.datamodule)
    return before, after
