"""A flagged filter's clusters beside the images it sets apart, and those that most set apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from filterwatch.detection import (
    AnomalyFilter,
    AnomalyReport,
    LayerReport,
    nearly_dead,
    small_clusters,
)
from filterwatch.visuals.drawing import (
    COLORS,
    FAINT,
    GRID,
    INK,
    MARGIN,
    PAPER,
    Grid,
    Tiles,
    draw_heading,
    drawing,
    new_figure,
    note_figure,
    shortened,
)
from filterwatch.visuals.remarks import crowding, nearest_filter
from filterwatch.visuals.thumbnails import Thumbnails

# Clusters beyond the colors take them again, with another marker.
_MARKERS = ("o", "s", "^", "D")
# Where images stand beside a filter's clusters, how many at most, and where they stand alone.
_BESIDE = Grid(left=5.45, top=1.42, columns=4, side=0.86, pitch=(1.0, 1.26))
_MOST_BESIDE = 12
_ALONE = Grid(left=MARGIN, top=0.95, columns=8, side=0.88, pitch=(1.03, 1.3))


def most_anomalous(report: AnomalyReport, n_filters: int) -> list[AnomalyFilter]:
    """Return so many flagged maps whose CH index stands out most from their layer's.

    A convolution filter that is flagged again at its activation and its max-pool shows once, by
    the map that stands out most, while there are other filters to show. Nearly dead ones are last.
    """

    def rank(anomaly: AnomalyFilter) -> tuple[bool, float]:
        layer = report.layers[anomaly.layer]
        coincide = nearly_dead(layer.ch_index, layer.cluster_sizes)[anomaly.channel]
        return bool(coincide), -anomaly.ch_index / layer.mean_ch_index

    ranked = sorted(report.anomalies, key=rank)
    chosen: list[AnomalyFilter] = []
    seen: set[tuple[str | None, int | None]] = set()
    for anomaly in ranked:
        source = (anomaly.source_layer, anomaly.source_channel)
        if source not in seen:
            chosen.append(anomaly)
        if anomaly.source_layer is not None:
            seen.add(source)
    repeated = [anomaly for anomaly in ranked if anomaly not in chosen]
    return [*chosen, *repeated][:n_filters]


def nearest_filter_figure(report: AnomalyReport, thumbnails: Thumbnails) -> Figure:
    """Draw the filter that comes nearest to the criteria, for a report that flags none.

    Raises:
        ValueError: If the report was read from a file without points.
    """
    nearest = nearest_filter(report)
    if nearest is None:
        return note_figure("Nothing flagged", "All filters are dead, or nearly.")
    return filter_figure(report, nearest.filter, thumbnails, nearest.missing)


def filter_figure(
    report: AnomalyReport,
    anomaly: AnomalyFilter,
    thumbnails: Thumbnails,
    missing: Sequence[str] = (),
) -> Figure:
    """Draw a filter's clusters, outliers ringed, and their images (paper, figures 2, 3).

    Args:
        report: What was found.
        anomaly: The filter.
        thumbnails: The probe.
        missing: Why it is not flagged, where it stands for none.

    Raises:
        ValueError: If the report was read from a file without points.
    """
    layer = report.layers[anomaly.layer]
    if layer.points is None or layer.labels is None:
        raise ValueError(
            "this report has no points to draw: write it with to_json(..., include_samples=True)"
        )
    points, labels = layer.points[anomaly.channel], layer.labels[anomaly.channel]
    with drawing():
        figure = new_figure(9.6, 5.2)
        width, height = figure.get_size_inches()
        heading, *lines = _title(report, anomaly, layer)
        if missing:
            heading, lines = f"Nothing flagged. Nearest: {heading}", ["; ".join(missing), lines[0]]
        draw_heading(figure, heading, "\n".join(lines), INK)
        axes = figure.add_axes((0.7 / width, 0.48 / height, 4.45 / width, (height - 1.9) / height))
        shown = _farthest(points, anomaly.outliers)[:_MOST_BESIDE]
        _draw_clusters(axes, points, labels, anomaly.outliers, shown)
        _draw_outliers(figure, thumbnails, shown, len(anomaly.outliers))
    return figure


def isolated_samples_figure(
    report: AnomalyReport, thumbnails: Thumbnails, n_samples: int = 32
) -> Figure:
    """Draw so many of the samples that most flagged filters isolate, and by how many each is.

    Where none is isolated, or nearly all of them are, the picture says so.
    """
    heading = "Samples that most anomaly filters isolate"
    isolated = report.outlier_samples()
    if not isolated:
        return note_figure(f"{heading}: none", "No filter is flagged that isolates a sample.")
    shown = dict(list(isolated.items())[:n_samples])
    rows = math.ceil(len(shown) / _ALONE.columns)
    lines = (
        f"{len(shown)} of {len(isolated)} outlier samples of {report.count} anomaly filters; "
        "unusual to them, not mislabeled more often than others.\n"
        f"×: the number of filters that isolate it{thumbnails.legend}"
    )
    grid = _ALONE
    if (crowded := crowding(report)) is not None:
        lines += f"\n{crowded}"
        grid = grid._replace(top=grid.top + 0.16 * (1 + crowded.count("\n")))
    with drawing():
        figure = new_figure(8.6, grid.top + grid.pitch[1] * rows)
        draw_heading(figure, heading, lines)
        names = {sample: f"{thumbnails.name(sample)}  ×{n}" for sample, n in shown.items()}
        _add_images(figure, thumbnails, names, grid)
    return figure


def _title(report: AnomalyReport, anomaly: AnomalyFilter, layer: LayerReport) -> Iterator[str]:
    heading = f"{shortened(anomaly.layer, 60)}, channel {anomaly.channel}"
    source = (anomaly.source_layer, anomaly.source_channel)
    if anomaly.source_layer is not None and source != (anomaly.layer, anomaly.channel):
        heading += f"  (filter {anomaly.source_channel} of {shortened(anomaly.source_layer, 40)})"
    yield heading
    sizes = " ".join(str(size) for size in anomaly.cluster_sizes)
    yield f"K = {anomaly.n_clusters}, CH = {anomaly.ch_index:.4g}; cluster sizes {sizes}"
    criteria, limit = report.criteria, report.small_cluster_limit
    small = int(small_clusters(layer.cluster_sizes[anomaly.channel], limit).sum())
    yield (
        f"unbalanced: {small} of {anomaly.n_clusters} clusters have at most "
        f"{limit} samples ({small / anomaly.n_clusters:.2g} "
        f"{_limit('>', criteria.small_cluster_ratio)})"
    )
    defined = ~layer.ch_index.isnan()
    active = anomaly.activation / float(layer.activation[defined].mean())
    yield (
        f"CH index / layer's mean: {anomaly.ch_index / layer.mean_ch_index:.3g} "
        f"({_limit('>', criteria.ch_ratio)});  "
        f"activation / layer's mean: {active:.2g} ({_limit('≥', criteria.activation_ratio)})"
    )


def _limit(sign: str, threshold: float | None) -> str:
    return "no limit" if threshold is None else f"{sign} {threshold:g}"


def _farthest(points: Tensor, samples: list[int]) -> list[int]:
    """Order samples by their distance from where most points are, the farthest first."""
    distances = (points - points.median(0).values).norm(dim=1)
    return sorted(samples, key=lambda sample: -float(distances[sample]))


def _draw_clusters(
    axes: Axes, points: Tensor, labels: Tensor, outliers: list[int], numbered: list[int]
) -> None:
    markers = (labels // len(COLORS)).clamp(max=len(_MARKERS) - 1)
    for number, marker in enumerate(_MARKERS):
        # One call for each marker, largest clusters first: small ones come to lie above them.
        chosen = (markers == number).nonzero().flatten()
        chosen = chosen[labels[chosen].argsort(stable=True)]
        if len(chosen):
            axes.scatter(
                points[chosen, 0].numpy(),
                points[chosen, 1].numpy(),
                s=18,
                c=[COLORS[cluster % len(COLORS)] for cluster in labels[chosen].tolist()],
                marker=marker,
                edgecolors=PAPER,
                linewidths=0.3,
                zorder=2 + number / 10,
            )
    axes.scatter(
        points[outliers, 0].numpy(),
        points[outliers, 1].numpy(),
        s=64,
        facecolors="none",
        edgecolors=INK,
        linewidths=0.9,
        zorder=4,
        label="outliers",
    )
    # Numbers stand beside their points, on the side away from the others, in typographic points.
    outwards = points[numbered] - points.median(0).values
    outwards = 9 * outwards / outwards.norm(dim=1, keepdim=True).clamp(min=1e-12)
    for number, sample in enumerate(numbered):
        x, y = points[sample].tolist()
        axes.annotate(
            str(number + 1),
            (x, y),
            outwards[number].tolist(),
            textcoords="offset points",
            fontsize=7.5,
            ha="center",
            va="center",
            zorder=5,
        )
    axes.set_xlabel("first principal component", labelpad=2)
    axes.set_ylabel("second principal component", labelpad=1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.locator_params(nbins=5)
    axes.grid(color=GRID, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)


def _draw_outliers(figure: Figure, thumbnails: Thumbnails, shown: list[int], total: int) -> None:
    some = "outliers" if len(shown) == total else f"{len(shown)} of {total} outliers"
    width, height = figure.get_size_inches()
    figure.text(
        _BESIDE.left / width,
        1 - (_BESIDE.top - 0.08) / height,
        f"{some}, farthest first{thumbnails.legend}" if shown else "no outliers",
        fontsize=8.5,
        color=FAINT,
        va="bottom",
    )
    names = {sample: f"{at}  {thumbnails.name(sample)}" for at, sample in enumerate(shown, start=1)}
    _add_images(figure, thumbnails, names, _BESIDE)


def _add_images(figure: Figure, thumbnails: Thumbnails, names: dict[int, str], grid: Grid) -> None:
    """Add samples' images, each with its name and its caption below."""
    captions = [f"{name}\n{thumbnails.caption(sample)}" for sample, name in names.items()]
    figure.add_artist(Tiles([thumbnails.image(sample) for sample in names], captions, grid))
