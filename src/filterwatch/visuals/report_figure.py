"""A report in one figure: where filters are flagged, and what the clusters of some look like."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from filterwatch.detection import AnomalyReport
from filterwatch.visuals.drawing import (
    COLORS,
    FAINT,
    GRID,
    INK,
    draw_heading,
    drawing,
    new_figure,
    shortened,
)
from filterwatch.visuals.filter_figures import _draw_clusters, most_anomalous

_MOST_LAYERS = 20
_MOST_FILTERS = 3
_WIDTH, _SIDE = 3.4, 2.3  # inches


def report_figure(report: AnomalyReport) -> Figure:
    """Draw the flagged filters of each layer, and the clusters of the three that stand out most.

    A report that was read from a file without points has the layers alone. Of more than 20 layers
    those with most flagged filters are shown.
    """
    counts = report.count_by_layer
    most = sorted(counts, key=lambda name: -counts[name])[:_MOST_LAYERS]
    names = [name for name in counts if name in most]
    shown = [
        anomaly
        for anomaly in most_anomalous(report, _MOST_FILTERS)
        if report.layers[anomaly.layer].points is not None
    ]
    with drawing():
        width = _WIDTH + (_SIDE + 0.75) * len(shown) + 0.6
        figure = new_figure(max(width, 6.0), max(0.24 * len(names), _SIDE) + 1.35)
        width, height = figure.get_size_inches()
        draw_heading(
            figure,
            f"{report.count} anomaly filters on {report.n_samples:,} samples",
            f"{len(report.outlier_samples())} samples are isolated by one of them at least"
            + ("; rings: samples in small clusters" if shown else ""),
        )
        left = 0.35 + 0.07 * max((len(shortened(name, 22)) for name in names), default=0)
        box = (left / width, 0.5 / height, (_WIDTH - left) / width, (height - 1.3) / height)
        axes = figure.add_axes(box)
        rows = np.arange(len(names))
        axes.barh(rows, [counts[name] for name in names], height=0.66, color=COLORS[0])
        axes.set_yticks(rows, [shortened(name, 22) for name in names], fontsize=8)
        axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        axes.set_xlim(0, max([*counts.values(), 1]))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("flagged filters")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        for at, anomaly in enumerate(shown):
            start = _WIDTH + 0.75 + (_SIDE + 0.75) * at
            top = (height - 0.8 - _SIDE) / height
            plot = figure.add_axes((start / width, top, _SIDE / width, _SIDE / height))
            layer = report.layers[anomaly.layer]
            assert layer.points is not None
            assert layer.labels is not None
            points, labels = layer.points[anomaly.channel], layer.labels[anomaly.channel]
            _draw_clusters(plot, points, labels, anomaly.outliers, [])
            title = f"{shortened(anomaly.layer, 22)}, channel {anomaly.channel}"
            plot.set_title(title, fontsize=8.5, color=FAINT, loc="left")
            plot.set(xlabel="", ylabel="")
    return figure
