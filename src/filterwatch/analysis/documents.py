"""What is written as JSON and printed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rich.markup import escape
from rich.table import Table

from filterwatch.analysis.comparison import Comparison, Filter
from filterwatch.analysis.errors import first_few
from filterwatch.analysis.images import ProbeImages
from filterwatch.analysis.run import Analysis

_SHOWN = 8
_FEW = 200  # images: below, 1% of them is one image


def report_document(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as plain data.

    It holds all of ``AnomalyReport.to_dict()``, so that ``AnomalyReport.from_json`` reads it, and
    beside that ``model`` and ``probe``: what was analysed, on which images, with their labels and
    predictions.
    """
    return analysis.report.to_dict() | {
        "model": _model_document(analysis),
        "probe": probe_document(analysis.images)
        | normalisation_document(analysis.images)
        | _outputs_document(analysis),
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    sides = {"first": comparison.first, "second": comparison.second}
    changes = {
        "turned": comparison.turned,
        "ceased": comparison.ceased,
        "kept": comparison.kept,
    }
    return {
        "format": 1,
        **{
            name: [{"layer": layer, "channel": channel} for layer, channel in filters]
            for name, filters in changes.items()
        },
        "isolated_by_turned": _counts(comparison.isolated_by(comparison.turned, comparison.second)),
        "isolated_by_ceased": _counts(comparison.isolated_by(comparison.ceased, comparison.first)),
        "unmatched_layers": comparison.unmatched,
        "probe": probe_document(comparison.first.images),
        **{
            side: analysis.report.to_dict()
            | {
                "model": _model_document(analysis),
                "normalisation": normalisation_document(analysis.images),
                "outputs": _outputs_document(analysis),
            }
            for side, analysis in sides.items()
        },
    }


def report_notes(analysis: Analysis) -> Iterator[str]:
    """Yield the lines to print below an analysis's table."""
    images, report = analysis.images, analysis.report
    yield f"model: {_model_line(analysis)}"
    yield f"probe: {_probe_line(images)}"
    yield f"normalised by: {_normalisation_line(images)}"
    if analysis.accuracy is not None:
        yield f"accuracy on the probe: {analysis.accuracy:.1%}"
    isolated = report.outlier_samples()
    if isolated:
        shown = ", ".join(
            f"{images.files[index]} ({count})" for index, count in islice(isolated.items(), _SHOWN)
        )
        yield f"images isolated by most anomaly filters (how many): {shown}"
    yield from (f"note: {note}" for note in notes_of(analysis))


def comparison_table(comparison: Comparison) -> Table:
    """Return the layers of two models with the anomaly filters of each, as a printable table."""
    first, second = comparison.first, comparison.second
    table = Table(
        title=f"{first.report.count} anomaly filters in {escape(str(first.model.path))}, "
        f"{second.report.count} in {escape(str(second.model.path))}",
        show_footer=True,
    )
    table.add_column("layer", footer="all layers", overflow="fold")
    columns: dict[str, list[Filter]] = {
        "first": [(found.layer, found.channel) for found in first.report.anomalies],
        "second": [(found.layer, found.channel) for found in second.report.anomalies],
        "turned": comparison.turned,
        "ceased": comparison.ceased,
    }
    for name, filters in columns.items():
        table.add_column(name, footer=str(len(filters)), justify="right")
    silent = 0
    for name in first.report.layers:
        counts = [sum(layer == name for layer, _ in filters) for filters in columns.values()]
        if any(counts):
            table.add_row(escape(name), *map(str, counts))
        else:
            silent += 1
    if silent:
        table.add_row(f"{silent} other layers", *["0"] * len(columns))
    return table


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """Yield the lines to print below a comparison's table."""
    for what, filters, analysis in (
        ("turned anomalous", comparison.turned, comparison.second),
        ("ceased to be anomalous", comparison.ceased, comparison.first),
    ):
        if not filters:
            yield f"{what}: none"
            continue
        named = first_few([f"{layer} {channel}" for layer, channel in filters], _SHOWN)
        isolated = comparison.isolated_by(filters, analysis)
        shown = first_few(
            [f"{analysis.images.files[index]} ({count})" for index, count in isolated.items()],
            _SHOWN,
        )
        yield f"{what}: {named}; they isolate (by how many): {shown}"
    sides = (("first", comparison.first), ("second", comparison.second))
    for what, analysis in sides:
        yield f"{what}: {_model_line(analysis)}"
    yield f"probe: {_probe_line(comparison.first.images)}"
    normalised = {what: _normalisation_line(analysis.images) for what, analysis in sides}
    if normalised["first"] == normalised["second"]:
        yield f"normalised by: {normalised['first']}"
    else:
        yield from (f"normalised for the {what} by: {line}" for what, line in normalised.items())
    for what, analysis in sides:
        if analysis.accuracy is not None:
            yield f"accuracy of the {what} on the probe: {analysis.accuracy:.1%}"
    notes = [note for _, analysis in sides for note in notes_of(analysis)]
    yield from (f"note: {note}" for note in dict.fromkeys(notes))
    if comparison.unmatched:
        yield f"not in both models: {first_few(comparison.unmatched, _SHOWN)}"


def probe_document(images: ProbeImages) -> dict[str, Any]:
    """Return the images of a probe, as they were chosen, as plain data."""
    return {
        "directory": images.directory,
        "n_available": images.n_available,
        "class_names": images.class_names,
        "files": images.files,
        "labels": None if images.labels is None else images.labels.tolist(),
        "image_size": images.preprocessing.image_size,
        "image_size_origin": images.size_origin,
        "notes": images.notes,
    }


def normalisation_document(images: ProbeImages) -> dict[str, Any]:
    """Return what normalised the images of a probe for one model, as plain data."""
    statistics = images.statistics
    return {
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "statistics_origin": statistics.origin,
        "statistics_assumed": statistics.is_assumed,
    }


def notes_of(analysis: Analysis) -> list[str]:
    """Return all that the reader of a result should know."""
    images, report = analysis.images, analysis.report
    notes = [*analysis.model.notes, *images.notes, *images.statistics.notes]
    if len(images) < _FEW:
        limit = report.small_cluster_limit
        one = "a single image is" if limit == 1 else f"{limit} images are"
        notes.append(
            f"{len(images)} images are few: where {one} a small cluster, many filters have one by "
            "chance. Counts mean more on a probe of 1,000 images"
        )
    return notes


def _model_line(analysis: Analysis) -> str:
    return f"{analysis.model.name} from {analysis.model.path} ({analysis.model.kind})"


def _probe_line(images: ProbeImages) -> str:
    classes = f"{len(images.class_names)} classes" if images.class_names else "no class folders"
    size = images.preprocessing.image_size
    how = "at their own size" if size is None else f"brought to {size}x{size} pixels"
    return (
        f"{len(images)} of {images.n_available} images of {images.directory}, {classes}; {how} "
        f"({images.size_origin})"
    )


def _normalisation_line(images: ProbeImages) -> str:
    statistics = images.statistics
    mean, std = (
        " ".join(f"{value:g}" for value in values) for values in (statistics.mean, statistics.std)
    )
    return f"mean {mean}, standard deviation {std} ({statistics.origin})"


def _model_document(analysis: Analysis) -> dict[str, Any]:
    model = analysis.model
    return {
        "name": model.name,
        "file": str(model.path),
        "kind": model.kind,
        "notes": model.notes,
        "n_outputs": analysis.n_outputs,
        "accuracy": analysis.accuracy,
    }


def _outputs_document(analysis: Analysis) -> dict[str, Any]:
    predictions, confidences = analysis.predictions, analysis.confidences
    return {
        "output_names": analysis.output_names,
        "predictions": None if predictions is None else predictions.tolist(),
        "confidences": None
        if confidences is None
        # A model that puts out NaN has no confidence; JSON has no NaN.
        else [round(value, 4) if value == value else None for value in confidences.tolist()],
    }


def _counts(isolated: dict[int, int]) -> dict[str, int]:
    return {str(index): count for index, count in isolated.items()}
