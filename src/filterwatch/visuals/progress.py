"""A progress bar for long probes, in a fit or on the command line: the step, and the layer at work.

It appears after a few seconds only, and never in CI or in a pipe. While Lightning shows a progress
bar of its own, ours is a line of that display; where it shows none, neither do we.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

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

# Shows a text, and what is done out of how much, in a line that is there while a context lasts.
Show = Callable[[str, int, int], None]
Line = AbstractContextManager[Show]


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
    with _delayed((lambda: _own_line(shown_on)) if watched else None, title) as on_progress:
        yield on_progress


@contextmanager
def probe_progress(trainer: Trainer) -> Iterator[ProgressCallback]:
    """Show a line in the Trainer's progress bar while the context lasts; see `progress_bar`."""
    with _delayed(_line_of(trainer), "probe") as on_progress:
        yield on_progress


def _in_ci() -> bool:
    return bool(os.environ.get("CI"))


def _line_of(trainer: Trainer) -> Callable[[], Line] | None:
    bar = trainer.progress_bar_callback
    if _in_ci() or not trainer.is_global_zero:
        return None
    if isinstance(bar, RichProgressBar) and bar.is_enabled and bar.progress is not None:
        progress: Progress = bar.progress
        return (lambda: _rich_line(progress)) if progress.console.is_terminal else None
    if isinstance(bar, TQDMProgressBar) and bar.is_enabled and sys.stdout.isatty():
        # Below the bar of training, where that of validation was.
        position = 2 * bar.process_position + 1
        return lambda: _tqdm_line(position)
    return None


@contextmanager
def _delayed(open_line: Callable[[], Line] | None, title: str) -> Iterator[ProgressCallback]:
    """Open a line at the first news after `DELAY`; ``None`` for one that is never shown."""
    started = time.monotonic()
    show: Show | None = None
    shown, shown_at = "", 0.0

    def on_progress(step: str, layer: str, done: int, total: int) -> None:
        nonlocal show, shown, shown_at
        now, text = time.monotonic(), f"{title}: {step}, {layer}"
        if open_line is None or now - started < DELAY:
            return
        if show is None:
            show = opened.enter_context(open_line())
        if text != shown or now - shown_at > _PAUSE:
            show(text, done, total)
            shown, shown_at = text, now

    with ExitStack() as opened:
        yield on_progress


@contextmanager
def _own_line(console: Console) -> Iterator[Show]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield _shown_by(progress, progress.add_task(""))


@contextmanager
def _rich_line(progress: Progress) -> Iterator[Show]:
    task = progress.add_task("")
    try:
        yield _shown_by(progress, task)
    finally:
        progress.remove_task(task)
        progress.refresh()


def _shown_by(progress: Progress, task: TaskID) -> Show:
    return lambda text, done, total: progress.update(
        task, description=escape(text), completed=done, total=total, refresh=True
    )


@contextmanager
def _tqdm_line(position: int) -> Iterator[Show]:
    with Tqdm(
        position=position,
        leave=False,
        dynamic_ncols=True,
        file=sys.stdout,
        bar_format="{desc} {percentage:3.0f}%|{bar}|",
    ) as bar:

        def show(text: str, done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.set_description_str(text, refresh=False)
            bar.refresh()

        yield show
