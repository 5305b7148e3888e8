"""A progress bar that names the layer at work; silent where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from filterwatch.detection.verdicts import ProgressCallback

_STEPS = ("feature maps", "principal components", "clustering")


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback | None]:
    """Show a bar on standard error while the context lasts, if that is a terminal and not CI.

    Args:
        title: What is being worked on.

    Yields:
        What `detect_anomaly_filters` takes as ``on_progress``; ``None`` where no bar is shown.
    """
    if os.environ.get("CI") or not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(title), total=None)

        def show(step: str, layer: str, done: int, total: int) -> None:
            number = _STEPS.index(step) + 1
            progress.update(
                task,
                description=escape(f"{title} {number}/{len(_STEPS)} {step}: {layer}"),
                completed=done,
                total=total,
            )

        yield show
