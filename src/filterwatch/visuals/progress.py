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
from functools import partial

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from filterwatch._compat import either
from filterwatch.detection import ProgressCallback

# Seconds that a probe may take without a bar.
DELAY = 3.0
# Seconds between two changes of a bar that still names the same layer.
_PAUSE = 0.1

# Shows a text, and what is done out of how much, in a line that is there while a context lasts.
Show = Callable[[str, int, int], None]
OpenLine = Callable[[], AbstractContextManager[Show]]


def progress_bar(
    title: str, console: Console | None = None
) -> AbstractContextManager[ProgressCallback]:
    """Show a bar of our own while the context lasts.

    Args:
        title: What is being worked on.
        console: Where to; standard error by default.

    Returns:
        A context of what `detect_anomaly_filters` takes as ``on_progress``.
    """
    console = Console(stderr=True) if console is None else console
    open_line = partial(_rich_line, Progress(console=console, transient=True))
    return _delayed(open_line if console.is_terminal else None, title)


def probe_progress(trainer: Trainer) -> AbstractContextManager[ProgressCallback]:
    """Show a line in the Trainer's progress bar while the context lasts; see `progress_bar`."""
    bar = trainer.progress_bar_callback
    open_line: OpenLine | None = None
    if isinstance(bar, either(RichProgressBar)) and bar.is_enabled and bar.progress is not None:
        if bar.progress.console.is_terminal:
            open_line = partial(_rich_line, bar.progress)
    elif isinstance(bar, either(TQDMProgressBar)) and bar.is_enabled and sys.stdout.isatty():
        # Below the bar of training, where that of validation was.
        open_line = partial(_tqdm_line, 2 * bar.process_position + 1)
    return _delayed(open_line, "probe")


@contextmanager
def _delayed(open_line: OpenLine | None, title: str) -> Iterator[ProgressCallback]:
    """Open a line at the first news after `DELAY`; ``None`` for one that is never shown."""
    started = time.monotonic()
    show: Show | None = None
    shown, shown_at = "", 0.0

    def on_progress(step: str, layer: str, done: int, total: int) -> None:
        nonlocal show, shown, shown_at
        now, text = time.monotonic(), f"{title}: {step}, {layer}"
        if open_line is None or os.environ.get("CI") or now - started < DELAY:
            return
        if show is None:
            show = opened.enter_context(open_line())
        if text != shown or now - shown_at > _PAUSE:
            show(text, done, total)
            shown, shown_at = text, now

    with ExitStack() as opened:
        yield on_progress


@contextmanager
def _rich_line(progress: Progress) -> Iterator[Show]:
    """Open a line in a display that is running, or in one that runs for this line."""
    task = progress.add_task("")
    with ExitStack() as closing:
        if progress.live.is_started:
            closing.callback(progress.refresh)  # the last one added comes first
            closing.callback(progress.remove_task, task)
        else:
            closing.enter_context(progress)
        yield lambda text, done, total: progress.update(
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
            bar.total, bar.n = total, done
            bar.set_description_str(text)

        yield show
