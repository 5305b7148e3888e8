"""The numbers of a page: compact, exact where verdicts depend on them, and plain data."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from filterwatch import __version__
from filterwatch.analysis.documents import normalisation_document, notes_of, probe_document
from filterwatch.analysis.run import Analysis
from filterwatch.detection.criteria import mean_index
from filterwatch.detection.report import AnomalyReport
from filterwatch.visuals.html_images import sprite_sheet

# What all scatter plots of a page may take for a probe of up to 1,000 images; in proportion for
# larger ones, up to the second figure. Beside them come plotly.js (4.8 MB) and the thumbnails.
_CHART_BYTES = 2_200_000
_MOST_CHART_BYTES = 12_000_000
_COORDINATE_STEPS = 65535


def build_payload(analyses: Sequence[Analysis], chart_filters: Sequence[int]) -> dict[str, Any]:
    """Return what a page shows.

    Args:
        analyses: One or two models on the same probe and the same layers.
        chart_filters: Positions of the filters to draw scatter plots of, the most wanted first;
            those that do not fit the page's size are left out.
    """
    first = analyses[0]
    n_samples = first.report.n_samples
    budget = min(_CHART_BYTES * max(n_samples / 1000, 1), _MOST_CHART_BYTES)
    bytes_a_chart = n_samples * 5 * 4 / 3 * len(analyses)
    kept = list(chart_filters)[: max(1, int(budget / bytes_a_chart))]
    return {
        "version": __version__,
        "n_samples": n_samples,
        "criteria": asdict(first.report.criteria) | {"limit": first.report.small_cluster_limit},
        "settings": first.report.settings,
        "probe": probe_document(first.images),
        "sprite": asdict(sprite_sheet(first.images)),
        "runs": [_run(analysis, kept) for analysis in analyses],
    }


def _run(analysis: Analysis, chart_filters: list[int]) -> dict[str, Any]:
    report = analysis.report
    reports = report.layers.values()
    confidences = analysis.confidences
    return {
        "name": analysis.model.name,
        "file": str(analysis.model.path),
        "kind": analysis.model.kind,
        "normalisation": normalisation_document(analysis.images),
        "notes": notes_of(analysis),
        "seconds": round(analysis.seconds, 1),
        "accuracy": analysis.accuracy,
        "comparable": analysis.labels_comparable,
        "output_names": analysis.output_names,
        "predictions": None if analysis.predictions is None else analysis.predictions.tolist(),
        "confidences": None if confidences is None else pack(confidences, "<f4"),
        "skipped": report.skipped,
        "layers": [
            {
                "name": name,
                "kind": layer.kind,
                "filters": len(layer.ch_index),
                # As the detection computes them: the page must come to the same verdicts.
                "mean_ch": _number(mean_index(layer.ch_index, layer.cluster_sizes)),
                "mean_activation": _defined_mean(layer.activation, layer.ch_index),
            }
            for name, layer in report.layers.items()
        ],
        "ch_index": pack(torch.cat([layer.ch_index for layer in reports]), "<f8"),
        "activation": pack(torch.cat([layer.activation for layer in reports]), "<f8"),
        "max_clusters": max(layer.cluster_sizes.shape[1] for layer in reports),
        "cluster_sizes": pack(
            torch.cat([layer.cluster_sizes for layer in reports]),
            "<u2" if report.n_samples < 2**16 else "<u4",
        ),
        **_sources(report),
        "charts": _charts(report, chart_filters),
    }


def pack(values: Tensor, dtype: str) -> dict[str, str]:
    """Return numbers as base64 of their little-endian bytes.

    Args:
        values: The numbers, of any shape.
        dtype: NumPy's name of the type to store them as, ``"<f8"`` for instance.
    """
    data = np.ascontiguousarray(values.numpy(), dtype=np.dtype(dtype))
    return {"dtype": dtype[1:], "data": base64.b64encode(data.tobytes()).decode("ascii")}


def _defined_mean(values: Tensor, ch_index: Tensor) -> float | None:
    defined = ~torch.isnan(ch_index)
    return float(values[defined].mean()) if bool(defined.any()) else None


def _number(value: Tensor) -> float | None:
    return None if bool(torch.isnan(value)) else float(value)


def _sources(report: AnomalyReport) -> dict[str, Any]:
    """Return the convolution filter behind each map, as positions in a list of modules."""
    modules: dict[str, int] = {}
    pairs = []
    for layer in report.layers.values():
        for source in layer.sources:
            if source is None:
                pairs.append((-1, -1))
            else:
                pairs.append((modules.setdefault(source[0], len(modules)), source[1]))
    return {"modules": list(modules), "sources": pack(torch.tensor(pairs), "<i4")}


def _charts(report: AnomalyReport, chart_filters: list[int]) -> dict[str, Any]:
    """Return points and labels of some filters; coordinates as steps between two bounds."""
    points, labels = [], []
    starts = np.cumsum([0, *(len(layer.ch_index) for layer in report.layers.values())])
    layers = list(report.layers.values())
    for filter_ in chart_filters:
        at = int(np.searchsorted(starts, filter_, side="right")) - 1
        layer, channel = layers[at], filter_ - int(starts[at])
        if layer.points is None or layer.labels is None:
            raise ValueError("the report was kept without its points: detect again to draw them")
        points.append(layer.points[channel].double())
        labels.append(layer.labels[channel])
    if not points:
        return {"filters": [], "bounds": [], "points": None, "labels": None}
    together = torch.stack(points)  # [filters, N, 2]
    low, high = together.amin(1), together.amax(1)
    extent = (high - low).where(high > low, 1.0)
    most = max(layer.cluster_sizes.shape[1] for layer in layers)
    steps = ((together - low[:, None]) / extent[:, None] * _COORDINATE_STEPS).round()
    # A dead filter's labels are -1; the page knows dead filters by their index.
    return {
        "filters": chart_filters,
        "bounds": torch.cat([low, low + extent], 1).tolist(),  # x0, y0, x1, y1
        "points": pack(steps, "<u2"),
        "labels": pack(torch.stack(labels).clamp(min=0), "<u1" if most <= 256 else "<u2"),
    }
