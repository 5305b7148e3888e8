"""What is printed, written as JSON and shown on a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from filterwatch.analysis.analyses import Analysis, Comparison, Filter
from filterwatch.analysis.folder_probe import ProbeImages
from filterwatch.analysis.model_files import first_few
from filterwatch.detection import AnomalyReport
from filterwatch.visuals import PageImages, PageModel, write_page

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
        "probe": _probe_document(analysis.images)
        | _normalization_document(analysis.images)
        | _outputs_document(analysis),
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    first, second = comparison.first, comparison.second

    def maps(filters: list[Filter]) -> list[dict[str, Any]]:
        return [{"layer": layer, "channel": channel} for layer, channel in filters]

    def isolated(filters: list[Filter], analysis: Analysis) -> dict[str, int]:
        counts = comparison.isolated_by(filters, analysis)
        return {str(index): count for index, count in counts.items()}

    def side(analysis: Analysis) -> dict[str, Any]:
        return analysis.report.to_dict() | {
            "model": _model_document(analysis),
            "normalisation": _normalization_document(analysis.images),
            "outputs": _outputs_document(analysis),
        }

    return {
        "format": 1,
        "turned": maps(comparison.turned),
        "ceased": maps(comparison.ceased),
        "kept": maps(comparison.kept),
        "isolated_by_turned": isolated(comparison.turned, second),
        "isolated_by_ceased": isolated(comparison.ceased, first),
        "unmatched_layers": comparison.unmatched,
        "probe": _probe_document(first.images),
        "first": side(first),
        "second": side(second),
    }


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


def _probe_document(images: ProbeImages) -> dict[str, Any]:
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


def _normalization_document(images: ProbeImages) -> dict[str, Any]:
    statistics = images.statistics
    return {
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "statistics_origin": statistics.origin,
        "statistics_assumed": statistics.is_assumed,
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


def report_notes(analysis: Analysis) -> Iterator[str]:
    """Yield the lines to print below an analysis's table."""
    images = analysis.images
    yield f"model: {_model_line(analysis)}"
    yield f"probe: {_probe_line(images)}"
    yield f"normalised by: {_normalization_line(images)}"
    if analysis.accuracy is not None:
        yield f"accuracy on the probe: {analysis.accuracy:.1%}"
    isolated = analysis.report.outlier_samples()
    if isolated:
        shown = _counted(dict(list(isolated.items())[:_SHOWN]), images)
        yield f"images isolated by most anomaly filters (how many): {shown}"
    yield from (f"note: {note}" for note in _notes(analysis))


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """Yield the lines to print below a comparison's table."""
    sides = {"first": comparison.first, "second": comparison.second}
    for what, filters, analysis in (
        ("turned anomalous", comparison.turned, comparison.second),
        ("ceased to be anomalous", comparison.ceased, comparison.first),
    ):
        if not filters:
            yield f"{what}: none"
            continue
        named = first_few([f"{layer} {channel}" for layer, channel in filters], _SHOWN)
        shown = _counted(comparison.isolated_by(filters, analysis), analysis.images)
        yield f"{what}: {named}; they isolate (by how many): {shown}"
    yield from (f"{what}: {_model_line(analysis)}" for what, analysis in sides.items())
    yield f"probe: {_probe_line(comparison.first.images)}"
    yield from (f"{term}: {line}" for term, line in _normalizations(sides, "normalised"))
    for what, analysis in sides.items():
        if analysis.accuracy is not None:
            yield f"accuracy of the {what} on the probe: {analysis.accuracy:.1%}"
    yield from (f"note: {note}" for note in _notes(*sides.values()))
    if comparison.unmatched:
        yield f"not in both models: {first_few(comparison.unmatched, _SHOWN)}"


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


def write_report(analysis: Analysis, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the page of one model, with scatter plots of ``n_charts`` filters beside the flagged.

    Raises:
        ValueError: If the report was kept without its points.
    """
    model, images, report = analysis.model, analysis.images, analysis.report
    write_page(
        path,
        [page_model(analysis)],
        page_images(images),
        title=f"Anomaly filters of {model.path.name}",
        subject=f"{model.name}, {model.kind}, on {len(images):,} images of {images.directory}",
        facts=[
            ("Model", _model_line(analysis)),
            ("Probe", f"{_probe_line(images)}; chosen at random"),
            ("Normalised by", _normalization_line(images)),
            *_method_facts(report),
            ("Time", f"{analysis.seconds:.1f} s"),
            *(("Note", note) for note in _notes(analysis)),
            *_skipped_facts(report),
        ],
        n_charts=n_charts,
    )


def write_comparison(comparison: Comparison, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the page of two models side by side; see `write_report`."""
    sides = {"First": comparison.first, "Second": comparison.second}
    first, second = sides.values()
    images = first.images
    files = [str(analysis.model.path) for analysis in sides.values()]
    unmatched = ", ".join(comparison.unmatched)
    write_page(
        path,
        [page_model(first), page_model(second)],
        page_images(images),
        title=f"Anomaly filters: {first.model.path.name} and {second.model.path.name}",
        subject=f"first: {files[0]}; second: {files[1]}; {len(images):,} images of "
        f"{images.directory}",
        facts=[
            *(
                (what, f"{_model_line(analysis)}, {analysis.seconds:.1f} s")
                for what, analysis in sides.items()
            ),
            ("Probe", f"{_probe_line(images)}; chosen at random"),
            *_normalizations(sides, "Normalised"),
            *_method_facts(first.report),
            *([("Not in both", unmatched)] if unmatched else []),
            *(("Note", note) for note in _notes(first, second)),
            *_skipped_facts(first.report),
            *_skipped_facts(second.report),
        ],
        n_charts=n_charts,
    )


def page_images(images: ProbeImages) -> PageImages:
    """Return the images of a probe as a page shows them."""
    return PageImages(
        files=images.files,
        labels=None if images.labels is None else images.labels.tolist(),
        class_names=images.class_names,
        thumbnails=images.thumbnails,
        side=images.side,
    )


def page_model(analysis: Analysis) -> PageModel:
    """Return a model as a page shows it."""
    return PageModel(
        analysis.report,
        str(analysis.model.path),
        accuracy=analysis.accuracy,
        comparable=analysis.labels_comparable,
        output_names=analysis.output_names,
        predictions=analysis.predictions,
        confidences=analysis.confidences,
    )


def _method_facts(report: AnomalyReport) -> Iterator[tuple[str, str]]:
    criteria, limit = report.criteria, report.small_cluster_limit
    alpha, beta, theta = (
        "off" if ratio is None else f"{ratio:g}"
        for ratio in (criteria.small_cluster_ratio, criteria.ch_ratio, criteria.activation_ratio)
    )
    images = "1 image" if limit == 1 else f"{limit:,} images"
    yield (
        "Thresholds",
        f"small clusters of at most {images} (λ), more than {alpha} of the clusters (α), CH index "
        f"above {beta} (β) and activation of at least {theta} (θ) times the layer’s mean",
    )
    yield "Clustering", ", ".join(f"{name} = {value}" for name, value in report.settings.items())


def _skipped_facts(report: AnomalyReport) -> Iterator[tuple[str, str]]:
    yield from ((f"Skipped {layer}", reason) for layer, reason in report.skipped.items())


def _notes(*analyses: Analysis) -> Iterable[str]:
    """Return all that the reader of a result should know."""
    notes: dict[str, None] = {}
    for analysis in analyses:
        images, limit = analysis.images, analysis.report.small_cluster_limit
        found = [*analysis.model.notes, *images.notes, *images.statistics.notes]
        if len(images) < _FEW:
            one = "a single image is" if limit == 1 else f"{limit} images are"
            found.append(
                f"{len(images)} images are few: where {one} a small cluster, many filters have one "
                "by chance. Counts mean more on a probe of 1,000 images"
            )
        notes |= dict.fromkeys(found)
    return notes


def _counted(isolated: dict[int, int], images: ProbeImages) -> str:
    return first_few([f"{images.files[at]} ({count})" for at, count in isolated.items()], _SHOWN)


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


def _normalization_line(images: ProbeImages) -> str:
    statistics = images.statistics
    mean, std = (
        " ".join(f"{value:g}" for value in values) for values in (statistics.mean, statistics.std)
    )
    return f"mean {mean}, standard deviation {std} ({statistics.origin})"


def _normalizations(sides: dict[str, Analysis], normalized: str) -> Iterator[tuple[str, str]]:
    lines = {what: _normalization_line(analysis.images) for what, analysis in sides.items()}
    if len(set(lines.values())) == 1:
        yield f"{normalized} by", next(iter(lines.values()))
    else:
        for what, line in lines.items():
            yield f"{normalized} for the {what.lower()} by", line
