"""Every goal of the engine, measured as a ratio within one run.

    python -m benchmarks [--data FOLDER] [--output docs/results/benchmarks.json]

FOLDER holds CIFAR-10 as train/<class> and test/<class>; without it (and without the environment
variable FILTERWATCH_CIFAR10) the embedded digits stand in. Processor time of one thread, unless a
row says otherwise.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import engine, large, memorization, setting, stability, training
from benchmarks.rows import Row

GROUPS: dict[str, Callable[[setting.Setting], list[Row]]] = {
    "engine": engine.rows,
    "stability": stability.rows,
    "training": training.rows,
    "memorization": memorization.rows,
    "large": large.rows,
    "cuda": large.cuda_rows,
}


def main() -> None:
    """Run the groups that were asked for, print them, and add them to the output file."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", help="folder with CIFAR-10's train and test")
    parser.add_argument("--epochs", type=int, default=12, help="of training before measuring")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--output", type=Path, help="JSON file to add the results to")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    chosen = setting.prepare(setting.data_folder(arguments.data), arguments.epochs)
    console = Console()
    for name in arguments.only:
        started = time.perf_counter()
        rows = GROUPS[name](chosen)
        duration = time.perf_counter() - started
        console.print(_table(name, chosen, rows))
        if arguments.output is not None:
            _save(arguments.output, name, chosen, rows, duration)


def _table(name: str, chosen: setting.Setting, rows: list[Row]) -> Table:
    table = Table(title=f"{name}: simple CNN, {chosen.name}, {chosen.epochs} epochs")
    for heading in ("what", "measured", "goal", "met"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.shown, row.goal, row.met)
    return table


def _save(path: Path, name: str, chosen: setting.Setting, rows: list[Row], duration: float) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {
        "command": f"python -m benchmarks --only {name}"
        + (" --data FOLDER" if chosen.name == "CIFAR-10" else ""),
        "data": chosen.name,
        "epochs": chosen.epochs,
        "duration_seconds": round(duration, 1),
        "processor": engine.processor(),
        "versions": setting.versions(),
        "rows": [row.as_dict() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
