"""The table printed at the end of a fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from filterwatch.actions import Action
from filterwatch.callbacks.probe import Probe
from filterwatch.callbacks.record import Record
from filterwatch.detection import AnomalyReport

_SHOWN_SAMPLES = 8


def print_summary(
    record: Record,
    report: AnomalyReport,
    samples: Probe | None,
    fit_seconds: float,
    actions: Iterable[Action],
) -> None:
    """Print what a fit's probes found, and what the actions say; see `summary_table`."""
    console = Console()
    console.print(summary_table(record, report, samples, fit_seconds))
    for action in actions:
        if (summary := action.summary()) is not None:
            console.print(summary, markup=False)


def summary_table(
    record: Record, report: AnomalyReport, samples: Probe | None, fit_seconds: float
) -> Table:
    """Return what a fit's probes found, one at least: first, fewest and last, layer by layer."""
    history = record.history
    first, last = history[0], history[-1]
    fewest = min(history, key=lambda entry: entry["count"])
    columns = {"first": first, "fewest": fewest, "last": last}
    table = Table(
        title="Anomaly filters over the fit",
        caption=escape("\n".join(_notes(record, report, samples, fit_seconds))),
        caption_justify="left",
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
    return table


def _notes(
    record: Record, report: AnomalyReport, samples: Probe | None, fit_seconds: float
) -> Iterator[str]:
    if samples is not None:
        yield f"probe: {samples.n_samples} samples of {samples.source}"
    total = sum(record.seconds_in_fit)
    share = f", {total / fit_seconds:.0%} of the fit's time" if fit_seconds > 0 else ""
    yield f"epochs probed: {len(record.history)}; {total:.1f} s in this fit{share}"
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
