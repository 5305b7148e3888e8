"""A table of an epoch's metrics, one line an epoch."""

import time
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

_USUAL = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "anomaly_filters")


class EpochTable(Callback):
    """Prints one line an epoch: the epoch's number, its metrics, and the seconds it took.

    Logs nothing. The lines are plain text, so they look the same in a terminal, in a pipe and in
    a log file; switch the progress bar off beside it (``enable_progress_bar=False``). The seconds
    are wall time and include validation and whatever other callbacks do at the epoch's end.
    Values have three digits, 0.987 or 60.5; whole numbers are printed as such until the column
    shows its first fraction. Names are broken over two lines at an underscore.

    Args:
        metrics: Names of the columns, in order; a metric without a value prints as "-". By default
            those that ``ImageClassifier`` and ``AnomalyFilterCallback`` log.

    Raises:
        ValueError: If no metric is named.
    """

    def __init__(self, metrics: Sequence[str] = _USUAL) -> None:
        super().__init__()
        if not metrics:
            raise ValueError("metrics must name at least one metric, such as 'val_loss': got none")
        self.metrics = list(metrics)
        self._fractional: set[str] = set()
        self._epoch: int | None = None
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new table."""
        self._fractional, self._epoch = set(), None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the header, or the previous epoch, now that every callback has logged its own."""
        self._print_epoch(trainer)
        self._epoch, self._started = trainer.current_epoch, time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch."""
        self._print_epoch(trainer)

    def _print_epoch(self, trainer: Trainer) -> None:
        # Every rank reads the metrics, because reading may synchronize; one of them prints.
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not trainer.is_global_zero:
            return
        if self._epoch is None:
            above, below = zip(*map(_in_two_lines, self.metrics), strict=True)
            if any(above):
                self._print_row("", above, "")
            self._print_row("epoch", below, "seconds")
            return
        cells = [self._format(name, values.get(name)) for name in self.metrics]
        self._print_row(str(self._epoch), cells, f"{time.perf_counter() - self._started:.1f}")

    def _print_row(self, epoch: str, cells: Sequence[str], seconds: str) -> None:
        widths = [max(*map(len, _in_two_lines(name)), 8) for name in self.metrics]
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
        print("  ".join([f"{epoch:>5}", *aligned, f"{seconds:>7}"]), flush=True)

    def _format(self, name: str, value: float | None) -> str:
        if value is None:
            return "-"
        if not value.is_integer():
            self._fractional.add(name)
        if name not in self._fractional:
            return f"{value:.0f}"
        n_whole = len(f"{abs(value):.0f}")
        return f"{value:.{max(0, 3 if abs(value) < 1 else 3 - n_whole)}f}"


def _in_two_lines(name: str) -> tuple[str, str]:
    """Break a name at the underscore nearest to its middle; a short one stays in the second."""
    if len(name) <= 8 or "_" not in name:
        return "", name
    at = min(
        (at for at, letter in enumerate(name) if letter == "_"),
        key=lambda at: abs(2 * at - len(name)),
    )
    return name[:at], name[at + 1 :]
