"""The table printed at the end of a fit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from filterwatch.actions import Action
from filterwatch.callbacks.probe import Probe
from filterwatch.callbacks.record import Record
from filterwatch.detection import AnomalyReport
from filterwatch.memorization import MemorizationReport

_SHOWN_SAMPLES = 10
_SHOWN_MEMORIZED = 5


class FitTime(NamedTuple):
    """Seconds of a fit: all of it, and those of it in which probes waited for kernels."""

    total: float
    compiling: float


def print_summary(
    record: Record,
    report: AnomalyReport,
    memorization: MemorizationReport | None,
    samples: Probe | None,
    training: Probe | None,
    time: FitTime,
    actions: Iterable[Action],
) -> None:
    """Print what a fit's probes found, and what the actions say.

    See `memorization_table` and `summary_table`.
    """
    console = Console()
    if memorization is not None:
        console.print(memorization_table(record, memorization, training))
    console.print(summary_table(record, report, samples, time))
    for action in actions:
        if (summary := action.summary()) is not None:
            console.print(summary, markup=False)


def memorization_table(record: Record, report: MemorizationReport, training: Probe | None) -> Group:
    """Return what has been memorized: at first, halfway, and at last, layer by layer."""
    measured = [entry for entry in record.history if "memorization" in entry]
    shown = {
        entry["epoch"]: entry
        for entry in (measured[0], measured[(len(measured) - 1) // 2], measured[-1])
    }
    table = Table(title="Memorization over the fit, in nats")
    table.add_column("layer", overflow="fold")
    for epoch in shown:
        table.add_column(f"epoch {epoch}", justify="right")
    for layer in dict.fromkeys(
        layer for entry in shown.values() for layer in entry["memorization"]
    ):
        table.add_row(escape(layer), *(_memorized(entry, layer) for entry in shown.values()))
    return Group(table, *map(Text, _memorization_notes(report, training)), "")


def _memorized(entry: Mapping[str, Any], layer: str) -> str:
    value = entry["memorization"].get(layer)
    if value is None:
        return "-"
    return f"{value:+.2f}{'*' if abs(value) > 3 * entry['memorization_errors'][layer] else ' '}"


def _memorization_notes(report: MemorizationReport, training: Probe | None) -> Iterator[str]:
    yield (
        "how much more a layer knows of its training images' labels than of new ones'; "
        "0: nothing memorized; below 0: it speaks against training labels, which may be wrong; "
        "*: beyond three standard errors"
    )
    if not math.isnan(report.memorized_samples):
        indices = None if training is None else training.indices
        worst = ", ".join(
            f"{sample.index if indices is None else indices[sample.index]} "
            f"(labeled {sample.label}, rather {sample.witness_label})"
            for sample in report.memorized(_SHOWN_MEMORIZED)
        )
        of = f" of {len(report.labels)} of {training.source}" if training is not None else ""
        yield f"memorized samples{of}: {report.memorized_samples:.0f} beyond chance"
        if worst:
            yield f"first to look at: {worst}"
    if report.left_out:
        yield f"not measured: {len(report.left_out)} classes with too few samples"
    yield from (f"not measured: {layer}: {reason}" for layer, reason in report.skipped.items())


def summary_table(
    record: Record,
    report: AnomalyReport,
    samples: Probe | None,
    time: FitTime,
) -> Group:
    """Return what a fit's probes found, one at least: first, fewest and last, layer by layer."""
    history = record.history
    first, last = history[0], history[-1]
    fewest = min(history, key=lambda entry: entry["count"])
    columns = {"first": first, "fewest": fewest, "last": last}
    table = Table(
        title="Anomaly filters over the fit",
        show_footer=True,
    )
    table.add_column("layer", footer="all layers", overflow="fold")
    for name, entry in columns.items():
        table.add_column(
            f"{name} (epoch {entry['epoch']})", footer=str(entry["count"]), justify="right"
        )
    silent = 0
    for layer in dict.fromkeys(layer for entry in columns.values() for layer in entry["by_layer"]):
        counts = [entry["by_layer"].get(layer) for entry in columns.values()]
        if any(counts):
            table.add_row(
                escape(layer), *("-" if count is None else str(count) for count in counts)
            )
        else:
            silent += 1
    if silent:
        table.add_row(f"{silent} other layers", *["0"] * len(columns))
    return Group(table, *map(Text, _notes(record, report, samples, time)))


def _notes(
    record: Record,
    report: AnomalyReport,
    samples: Probe | None,
    time: FitTime,
) -> Iterator[str]:
    if samples is not None:
        yield f"probe: {samples.n_samples} samples of {samples.source}"
    probes = record.seconds_in_fit
    share = sum(probes) / (time.total - time.compiling)
    once = f"; {time.compiling:.1f} s once, compiling" if time.compiling else ""
    yield f"{sum(probes):.1f} s in {len(probes)} probes, {share:.0%} of the fit's time{once}"
    indices = None if samples is None else samples.indices
    isolated = report.outlier_samples()
    if isolated:
        shown = ", ".join(
            f"{sample if indices is None else indices[sample]} ({count})"
            for sample, count in islice(isolated.items(), _SHOWN_SAMPLES)
        )
        yield f"outlier samples: {len(isolated)}; isolated by most filters (how many): {shown}"
    layers_by_reason = defaultdict(list)
    for layer, reason in report.skipped.items():
        layers_by_reason[reason].append(layer)
    for reason, layers in layers_by_reason.items():
        yield f"skipped {', '.join(layers)}: {reason}"
