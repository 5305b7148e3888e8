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
from filterwatch.visuals import PageImages, PageModel, write_page

_SHOWN = 8
_FEW = 200  # images: below, 1% of them is one image


def report_document(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as plain data, which ``AnomalyReport.from_dict`` reads, too."""
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
    sides = {"model": analysis}
    yield from (f"{term}: {text}" for term, text in _origin(sides))
    if analysis.accuracy is not None:
        yield f"accuracy on the probe: {analysis.accuracy:.1%}"
    isolated = list(analysis.report.outlier_samples().items())[:_SHOWN]
    if isolated:
        yield f"images isolated by most anomaly filters (how many): {_counted(isolated, analysis)}"
    yield from (f"note: {note}" for note in _notes(sides))


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
        shown = _counted(comparison.isolated_by(filters, analysis).items(), analysis)
        yield f"{what}: {named}; they isolate (by how many): {shown}"
    yield from (f"{term}: {text}" for term, text in _origin(sides))
    for what, analysis in sides.items():
        if analysis.accuracy is not None:
            yield f"accuracy of the {what} on the probe: {analysis.accuracy:.1%}"
    yield from (f"note: {note}" for note in _notes(sides))
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
    model, images = analysis.model, analysis.images
    write_page(
        path,
        [page_model(analysis)],
        page_images(images),
        title=f"Anomaly filters of {model.path.name}",
        subject=f"{model.name}, {model.kind}, on {len(images):,} images of {images.directory}",
        facts=_facts({"model": analysis}),
        n_charts=n_charts,
    )


def write_comparison(comparison: Comparison, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the page of two models side by side; see `write_report`."""
    first, second = comparison.first, comparison.second
    images, paths = first.images, (first.model.path, second.model.path)
    facts = _facts({"first": first, "second": second})
    if comparison.unmatched:
        facts.append(("Not in both", ", ".join(comparison.unmatched)))
    write_page(
        path,
        [page_model(first), page_model(second)],
        page_images(images),
        title=f"Anomaly filters: {paths[0].name} and {paths[1].name}",
        subject=f"first: {paths[0]}; second: {paths[1]}; {len(images):,} images of "
        f"{images.directory}",
        facts=facts,
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


def _facts(sides: dict[str, Analysis]) -> list[tuple[str, str]]:
    """Return how a page was made, as terms and texts."""
    report = next(iter(sides.values())).report
    criteria, limit = report.criteria, report.small_cluster_limit
    alpha, beta, theta = (
        "off" if ratio is None else f"{ratio:g}"
        for ratio in (criteria.small_cluster_ratio, criteria.ch_ratio, criteria.activation_ratio)
    )
    images = "1 image" if limit == 1 else f"{limit:,} images"
    thresholds = (
        f"small clusters of at most {images} (λ), more than {alpha} of the clusters (α), CH index "
        f"above {beta} (β) and activation of at least {theta} (θ) times the layer’s mean"
    )
    settings = ", ".join(f"{name} = {value}" for name, value in report.settings.items())
    seconds = " and ".join(f"{analysis.seconds:.1f} s" for analysis in sides.values())
    return [
        *((term.capitalize(), text) for term, text in _origin(sides)),
        ("Thresholds", thresholds),
        ("Clustering", settings),
        ("Time", seconds),
        *(("Note", note) for note in _notes(sides)),
        *(
            (f"Skipped {layer}", reason)
            for analysis in sides.values()
            for layer, reason in analysis.report.skipped.items()
        ),
    ]


def _origin(sides: dict[str, Analysis]) -> Iterator[tuple[str, str]]:
    """Yield which models, which probe, and what normalized it for each, as terms and texts."""
    for side, analysis in sides.items():
        model = analysis.model
        yield side, f"{model.name} from {model.path} ({model.kind})"
    images = next(iter(sides.values())).images
    classes = f"{len(images.class_names)} classes" if images.class_names else "no class folders"
    size = images.preprocessing.image_size
    how = "at their own size" if size is None else f"brought to {size}x{size} pixels"
    yield (
        "probe",
        f"{len(images)} of {images.n_available} images of {images.directory}, chosen at random, "
        f"{classes}; {how} ({images.size_origin})",
    )
    normalized = {side: _normalization(analysis.images) for side, analysis in sides.items()}
    if len(set(normalized.values())) == 1:
        yield "normalised by", next(iter(normalized.values()))
    else:
        yield from ((f"normalised for the {side} by", text) for side, text in normalized.items())


def _normalization(images: ProbeImages) -> str:
    statistics = images.statistics
    mean, std = (
        " ".join(f"{value:g}" for value in values) for values in (statistics.mean, statistics.std)
    )
    return f"mean {mean}, standard deviation {std} ({statistics.origin})"


def _notes(sides: dict[str, Analysis]) -> Iterable[str]:
    """Return all that the reader of a result should know, each once."""
    notes: dict[str, None] = {}
    for analysis in sides.values():
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


def _counted(isolated: Iterable[tuple[int, int]], analysis: Analysis) -> str:
    files = analysis.images.files
    return first_few([f"{files[index]} ({count})" for index, count in isolated], _SHOWN)
