"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # it imports this module
    from filterwatch.detection.report import AnomalyReport


def report_table(report: AnomalyReport) -> Table:
    """Return a table of the layers, with what else there is to say below."""
    table = Table(
        title=f"{report.count} anomaly filters ({len(report.filters)} distinct convolution "
        f"filters) on a probe of {report.n_samples} samples",
        caption=escape("\n".join(_notes(report))) or None,
        caption_justify="left",
    )
    table.add_column("layer", overflow="fold")
    for heading in ("filters", "dead", "anomalies", "channels: outlier samples"):
        table.add_column(heading, justify="left" if ":" in heading else "right", overflow="fold")
    for name, layer in report.layers.items():
        flagged = [anomaly for anomaly in report.anomalies if anomaly.layer == name]
        shown = ", ".join(f"{anomaly.channel}: {len(anomaly.outliers)}" for anomaly in flagged[:8])
        more = f", … {len(flagged) - 8} more" if len(flagged) > 8 else ""
        table.add_row(
            escape(name),
            str(len(layer.ch_index)),
            str(len(layer.dead)),
            str(layer.count),
            shown + more,
        )
    return table


def _notes(report: AnomalyReport) -> Iterator[str]:
    samples = list(report.outlier_samples().items())
    if samples:
        shown = ", ".join(f"{index} ({count})" for index, count in samples[:8])
        yield f"{len(samples)} outlier samples; most isolated, with number of filters: {shown}"
    for name, reason in report.skipped.items():
        yield f"skipped {name}: {reason}"
