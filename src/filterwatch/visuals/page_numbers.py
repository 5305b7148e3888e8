"""The numbers of a page: compact, exact where verdicts depend on them, and plain data."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection import AnomalyReport, nearly_dead
from filterwatch.visuals.remarks import met_criteria

# What all scatter plots of a page may take for a probe of up to 1,000 images; in proportion for
# larger ones, up to the second figure. Beside them come plotly.js (4.8 MB) and the thumbnails.
_CHART_BYTES = 2_200_000
_MOST_CHART_BYTES = 12_000_000
_COORDINATE_STEPS = 65535


@dataclass(frozen=True)
class PageModel:
    """A model as a page shows it."""

    report: AnomalyReport  # with points and labels
    file: str  # names it among two
    accuracy: float | None = None
    comparable: bool = False  # whether a prediction can be right or wrong
    output_names: list[str] = field(default_factory=list)
    predictions: Tensor | None = None  # a class for each image, int64 [N]
    confidences: Tensor | None = None  # the probability of that class, [N]


def page_numbers(models: Sequence[PageModel], chart_filters: Sequence[int]) -> dict[str, Any]:
    """Return what a page of one or two models computes with, as plain data.

    ``chart_filters`` are positions of the filters to draw scatter plots of, the most wanted first;
    those that do not fit the page's size are left out.
    """
    report = models[0].report
    budget = min(_CHART_BYTES * max(report.n_samples / 1000, 1), _MOST_CHART_BYTES)
    bytes_a_chart = report.n_samples * 5 * 4 / 3 * len(models)
    kept = list(chart_filters)[: max(1, int(budget / bytes_a_chart))]
    return {
        "n_samples": report.n_samples,
        "criteria": asdict(report.criteria) | {"limit": report.small_cluster_limit},
        "runs": [_run(model, kept) for model in models],
    }


def rank_filters(reports: Sequence[AnomalyReport]) -> tuple[list[int], int]:
    """Order the filters of a network, the most anomalous first.

    Flagged ones come first, then those that meet most of the three criteria; among equals the
    Calinski-Harabasz index relative to the layer's mean decides. Nearly dead filters come last,
    dead ones are left out. Of several reports on the same layers the best of a filter's places
    counts.

    Returns:
        Positions among all filters of all layers, and how many are flagged in at least one report.
    """
    scores = torch.stack([_scores(report) for report in reports]).amax(0)
    flagged = torch.stack([_concatenated(report, "is_anomaly") for report in reports]).any(0)
    order = (scores + 4 * flagged).argsort(descending=True, stable=True)
    return order[scores[order] > -torch.inf].tolist(), int(flagged.sum())


def _scores(report: AnomalyReport) -> Tensor:
    """Return the number of criteria met, plus a share below 1 for the relative CH index."""
    met = met_criteria(report)
    scores = []
    for name, layer in report.layers.items():
        relative = layer.ch_index / max(layer.mean_ch_index, 1e-300)
        score = relative / (1 + relative) + sum(of_layers[name] for of_layers in met)
        score[nearly_dead(layer.ch_index, layer.cluster_sizes)] = 0.0
        scores.append(score.nan_to_num(nan=-torch.inf))
    return torch.cat(scores)


def _concatenated(report: AnomalyReport, attribute: str) -> Tensor:
    return torch.cat([getattr(layer, attribute) for layer in report.layers.values()])


def pack(values: Tensor, dtype: str) -> dict[str, str]:
    """Return numbers as base64 of their little-endian bytes; ``"<f8"`` stores doubles."""
    data = np.ascontiguousarray(values.numpy(), dtype=np.dtype(dtype))
    return {"dtype": dtype[1:], "data": base64.b64encode(data.tobytes()).decode("ascii")}


def _run(model: PageModel, chart_filters: list[int]) -> dict[str, Any]:
    report = model.report
    return {
        "file": model.file,
        "accuracy": model.accuracy,
        "comparable": model.comparable,
        "output_names": model.output_names,
        "predictions": None if model.predictions is None else model.predictions.tolist(),
        "confidences": None if model.confidences is None else pack(model.confidences, "<f4"),
        "layers": [
            {
                "name": name,
                "kind": layer.kind,
                "filters": len(layer.ch_index),
                # As the detection computes them: the page must come to the same verdicts.
                "mean_ch": _number(layer.mean_ch_index),
                "mean_activation": _number(layer.activation[~layer.ch_index.isnan()].mean()),
            }
            for name, layer in report.layers.items()
        ],
        "ch_index": pack(_concatenated(report, "ch_index"), "<f8"),
        "activation": pack(_concatenated(report, "activation"), "<f8"),
        "nearly_dead": pack(
            torch.cat(
                [
                    nearly_dead(layer.ch_index, layer.cluster_sizes)
                    for layer in report.layers.values()
                ]
            ),
            "<u1",
        ),
        "max_clusters": _max_clusters(report),
        "cluster_sizes": pack(
            _concatenated(report, "cluster_sizes"), "<u2" if report.n_samples < 2**16 else "<u4"
        ),
        **_sources(report),
        "charts": _charts(report, chart_filters),
    }


def _number(value: float | Tensor) -> float | None:
    return None if math.isnan(value) else float(value)


def _max_clusters(report: AnomalyReport) -> int:
    return max(layer.cluster_sizes.shape[1] for layer in report.layers.values())


def _sources(report: AnomalyReport) -> dict[str, Any]:
    """Return the convolution filter behind each map, as positions in a list of modules."""
    modules: dict[str, int] = {}
    pairs = [
        (-1, -1) if source is None else (modules.setdefault(source[0], len(modules)), source[1])
        for layer in report.layers.values()
        for source in layer.sources
    ]
    return {"modules": list(modules), "sources": pack(torch.tensor(pairs), "<i4")}


def _charts(report: AnomalyReport, chart_filters: list[int]) -> dict[str, Any]:
    """Return points and labels of some filters; coordinates as steps between two bounds."""
    if not chart_filters:
        return {"filters": [], "bounds": [], "points": None, "labels": None}
    layers = report.layers.values()
    places = [(layer, channel) for layer in layers for channel in range(len(layer.ch_index))]
    points, labels = [], []
    for layer, channel in (places[position] for position in chart_filters):
        if layer.points is None or layer.labels is None:
            raise ValueError("the report was kept without its points: detect again to draw them")
        points.append(layer.points[channel].double())
        labels.append(layer.labels[channel])
    together = torch.stack(points)  # [filters, N, 2]
    low, high = together.amin(1), together.amax(1)
    extent = (high - low).where(high > low, 1.0)
    steps = ((together - low[:, None]) / extent[:, None] * _COORDINATE_STEPS).round()
    return {
        "filters": chart_filters,
        "bounds": torch.cat([low, low + extent], 1).tolist(),  # x0, y0, x1, y1
        "points": pack(steps, "<u2"),
        # A dead filter's labels are -1; the page knows dead filters by their index.
        "labels": pack(
            torch.stack(labels).clamp(min=0), "<u1" if _max_clusters(report) <= 256 else "<u2"
        ),
    }
