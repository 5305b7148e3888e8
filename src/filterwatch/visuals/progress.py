"""A progress bar for long probes, in a fit or on the command line: the step, and the layer at work.

It appears after a few seconds only, and never in CI or in a pipe. While Lightning shows a progress
bar of its own, ours is a line of that display; where it shows none, neither do we.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from filterwatch.detection import ProgressCallback

# Seconds that a probe may take without a bar.
DELAY = 3.0

# Seconds between two changes of a bar that still names the same layer.
_PAUSE = 0.1


class _Bar(Protocol):
    """What a bar on the screen can do."""

    def show(self, text: str, done: int, total: int) -> None: ...

    def close(self) -> None: ...


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[ProgressCallback]:
    """Show a bar of our own while the context lasts.

    Args:
        title: What is being worked on.
        console: Where to; standard error by default.

    Yields:
        What `detect_anomaly_filters` takes as ``on_progress``.
    """
    shown_on = Console(stderr=True) if console is None else console
    watched = shown_on.is_terminal and not _in_ci()
    with _delayed((lambda: _RichBar(shown_on)) if watched else None, title) as on_progress:
        yield on_progress


@contextmanager
def probe_progress(trainer: Trainer) -> Iterator[ProgressCallback]:
    """Show a line in the Trainer's progress bar while the context lasts.

    Args:
        trainer: The Trainer.

    Yields:
        What `detect_anomaly_filters` takes as ``on_progress``.
    """
    with _delayed(_trainers_bar(trainer), "probe") as on_progress:
        yield on_progress


def _in_ci() -> bool:
    return bool(os.environ.get("CI"))


def _trainers_bar(trainer: Trainer) -> Callable[[], _Bar] | None:
    bar = trainer.progress_bar_callback
    if _in_ci() or not trainer.is_global_zero:
        return None
    if isinstance(bar, RichProgressBar) and bar.is_enabled and bar.progress is not None:
        progress: Progress = bar.progress
        return (lambda: _RichTask(progress)) if progress.console.is_terminal else None
    if isinstance(bar, TQDMProgressBar) and bar.is_enabled and sys.stdout.isatty():
        # Below the bar of training, where that of validation was.
        position = 2 * bar.process_position + 1
        return lambda: _TqdmBar(position)
    return None


@contextmanager
def _delayed(open_bar: Callable[[], _Bar] | None, title: str) -> Iterator[ProgressCallback]:
    """Open a bar at the first news after `DELAY`; ``None`` for one that is never shown."""
    started = time.monotonic()
    bar: _Bar | None = None
    shown, shown_at = "", 0.0

    def on_progress(step: str, layer: str, done: int, total: int) -> None:
        nonlocal bar, shown, shown_at
        now, text = time.monotonic(), f"{title}: {step}, {layer}"
        if open_bar is None or now - started < DELAY:
            return
        if bar is None:
            bar = open_bar()
        if text != shown or now - shown_at > _PAUSE:
            bar.show(text, done, total)
            shown, shown_at = text, now

    try:
        yield on_progress
    finally:
        if bar is not None:
            bar.close()


class _RichBar:
    """A bar of our own, gone when it is closed."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("")

    def show(self, text: str, done: int, total: int) -> None:
        _update(self._progress, self._task, text, done, total)

    def close(self) -> None:
        self._progress.stop()


def _update(progress: Progress, task: TaskID, text: str, done: int, total: int) -> None:
    progress.update(task, description=escape(text), completed=done, total=total, refresh=True)


class _RichTask:
    """A line in the display of Lightning's `RichProgressBar`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("")

    def show(self, text: str, done: int, total: int) -> None:
        _update(self._progress, self._task, text, done, total)

    def close(self) -> None:
        self._progress.remove_task(self._task)
        self._progress.refresh()


class _TqdmBar:
    """A line below the bar of Lightning's `TQDMProgressBar`."""

    def __init__(self, position: int) -> None:
        self._bar = Tqdm(
            position=position,
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
            bar_format="{desc} {percentage:3.0f}%|{bar}|",
        )

    def show(self, text: str, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.n = done
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
