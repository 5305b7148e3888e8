"""A table of an epoch's metrics, one line an epoch."""

import time
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer


class EpochTable(Callback):
    """Prints one line an epoch: the epoch's number, its metrics, and the seconds it took.

    Logs nothing. The lines are plain text, so they look the same in a terminal, in a pipe and in
    a log file; switch the progress bar off beside it (``enable_progress_bar=False``). The seconds
    are wall time and include validation and whatever other callbacks do at the epoch's end.
    Whole numbers are printed as such until the column shows its first fraction.

    Args:
        metrics: Names of the columns, in order; a metric without a value prints as "-". ``None``
            takes every metric logged so far, except those grouped by a "/" and the per-step
            values, and prints a new header when a new one appears.

    Raises:
        ValueError: If ``metrics`` is empty.

    Example:
        >>> table = EpochTable(metrics=["train_loss", "val_loss", "anomaly_filters"])
    """

    def __init__(self, metrics: Sequence[str] | None = None) -> None:
        super().__init__()
        if metrics is not None and len(metrics) == 0:
            raise ValueError("metrics must name at least one metric, or be None for all: got none")
        self.metrics = None if metrics is None else list(metrics)
        self._columns: list[str] | None = None
        self._fractional: set[str] = set()
        self._epoch: int | None = None
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new table."""
        self._columns, self._fractional, self._epoch = None, set(), None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the previous epoch, now that every callback has logged what it had to."""
        self._print_epoch(trainer)
        self._epoch, self._started = trainer.current_epoch, time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch."""
        self._print_epoch(trainer)

    def _print_epoch(self, trainer: Trainer) -> None:
        # Every rank reads the metrics, because reading may synchronise; one of them prints.
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._epoch is None or not trainer.is_global_zero:
            return
        columns = self.metrics or [
            name for name in values if "/" not in name and not name.endswith("_step")
        ]
        if self._columns is None or set(columns) - set(self._columns):
            self._columns = columns
            self._print_row("epoch", columns, "seconds")
        cells = [self._format(name, values.get(name)) for name in self._columns]
        self._print_row(str(self._epoch), cells, f"{time.perf_counter() - self._started:.1f}")

    def _print_row(self, epoch: str, cells: list[str], seconds: str) -> None:
        widths = [max(len(name), 8) for name in self._columns or []]
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
        print("  ".join([f"{epoch:>5}", *aligned, f"{seconds:>7}"]), flush=True)

    def _format(self, name: str, value: float | None) -> str:
        if value is None:
            return "-"
        if not value.is_integer():
            self._fractional.add(name)
        return f"{value:.4f}" if name in self._fractional else f"{value:.0f}"
