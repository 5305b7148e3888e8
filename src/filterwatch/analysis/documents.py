"""What is printed, written as JSON and shown on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from filterwatch._words import first_few
from filterwatch.analysis.analyses import Analysis, Comparison, Filter
from filterwatch.analysis.folder_probe import ProbeImages
from filterwatch.analysis.model_files import DETECTION
from filterwatch.analysis.training_images import Memorization
from filterwatch.datamodules import resize
from filterwatch.visuals import PageImages, PageMemorization, PageModel, write_page

_SHOWN = 8
_FEW = 200  # images: below, 1% of them is one image


def report_document(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as plain data, which ``AnomalyReport.from_dict`` reads, too."""
    model, images, statistics = analysis.model, analysis.images, analysis.images.statistics
    predictions, confidences = analysis.predictions, analysis.confidences
    document = analysis.report.to_dict() | {
        "model": {
            "name": model.name,
            "file": str(model.path),
            "kind": model.kind,
            "notes": model.notes,
            "judged_by": analysis.judged_by,
            "n_outputs": analysis.n_outputs,
            "accuracy": analysis.accuracy,
        },
        "probe": {
            "directory": images.directory,
            "n_available": images.n_available,
            "class_names": images.class_names,
            "files": images.files,
            "labels": None if images.labels is None else images.labels.tolist(),
            "image_size": images.image_size,
            "image_size_origin": images.size_origin,
            "mean": list(statistics.mean),
            "std": list(statistics.std),
            "statistics_origin": statistics.origin,
            "statistics_assumed": statistics.is_assumed,
            "notes": images.notes,
            "output_names": analysis.output_names,
            "predictions": None if predictions is None else predictions.tolist(),
            "confidences": None
            if confidences is None
            # A model that puts out NaN has no confidence; JSON has no NaN.
            else [round(value, 4) if value == value else None for value in confidences.tolist()],
        },
    }
    if analysis.memorization is not None:
        document["memorization"] = _memorization_document(analysis.memorization)
    return document


def _memorization_document(found: Memorization) -> dict[str, Any]:
    """Return the report of a sample, which ``MemorizationReport.from_dict`` reads, and the whole.

    The whole is counted alone: its samples are in the table of suspects.
    """
    images, scores = found.folders.images, found.scores
    return found.report.to_dict() | {
        "directory": images.directory,
        "files": [images.files[row] for row in found.sample.tolist()],
        "class_names": images.class_names,
        "held_out_directory": found.folders.held_out.directory,
        "notes": images.notes,
        "all_training_images": {
            "n": len(scores),
            "n_contradicted": scores.n_contradicted,
            "n_memorized": scores.n_memorized,
            **{
                name: None if math.isnan(value) else value
                for name, value in (
                    ("memorized_samples", scores.memorized_samples),
                    ("memorized_error", scores.memorized_error),
                )
            },
        },
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data: what changed, and both sides as `report_document` has it.

    Both have the images: each normalizes and predicts for itself.
    """
    first, second = comparison.first, comparison.second
    document: dict[str, Any] = {
        "format": 1,
        "unmatched_layers": comparison.unmatched,
        "first": report_document(first),
        "second": report_document(second),
    }
    for change, filters, analysis in (
        ("turned", comparison.turned, second),
        ("ceased", comparison.ceased, first),
        ("kept", comparison.kept, second),
    ):
        isolated = comparison.isolated_by(filters, analysis)
        document[change] = [{"layer": layer, "channel": channel} for layer, channel in filters]
        document[f"isolated_by_{change}"] = {str(at): count for at, count in isolated.items()}
    return document


def report_notes(analysis: Analysis) -> Iterator[str]:
    """Yield the lines to print below an analysis's table."""
    isolated = list(analysis.report.outlier_samples().items())[:_SHOWN]
    if isolated:
        yield f"images isolated by most anomaly filters (how many): {_counted(isolated, analysis)}"
    yield from _notes({"model": analysis})


def suspect_notes(found: Memorization) -> Iterator[str]:
    """Yield the lines to print below the table of a memorization report."""
    scores, images = found.scores, found.folders.images
    network = f"; the network gives {scores.n_memorized} of them the label all the same"
    beyond = f", {scores.memorized_samples:.0f} ± {scores.memorized_error:.0f} beyond chance"
    yield (
        f"training images: {len(scores)} of {images.directory}, the table is of {len(found.sample)}"
        f" of them; the hidden layers contradict the label of {scores.n_contradicted}"
        + ("" if math.isnan(scores.memorized_samples) else network + beyond)
    )
    names = images.class_names
    suspects = [
        f"{images.files[each.index]} (rather {names[each.witness_label]})"
        for each in islice((each for each in scores if each.is_contradicted), _SHOWN)
    ]
    if suspects:
        yield f"contradicted most: {', '.join(suspects)}"
    yield from (f"note: {note} ({images.directory})" for note in images.notes)


def write_suspects(found: Memorization, path: str | Path) -> None:
    """Write a table, CSV, of all training images, those whose label is most in question first."""
    images = found.folders.images
    found.scores.to_csv(path, images.files, class_names=images.class_names)


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
        shown = _counted(comparison.isolated_by(filters, analysis).items(), analysis)
        yield f"{what}: {named}; they isolate (by how many): {shown}"
    if comparison.unmatched:
        yield f"not in both models: {first_few(comparison.unmatched, _SHOWN)}"
    yield from _notes({"first": comparison.first, "second": comparison.second})


def _notes(sides: dict[str, Analysis]) -> Iterator[str]:
    for side, analysis in sides.items():
        if analysis.accuracy is not None:
            yield f"accuracy of the {side} on the probe: {analysis.accuracy:.1%}"
    yield from (f"{term}: {text}" for term, text in _origin(sides))


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
    for name in first.report.layers:
        counts = [sum(layer == name for layer, _ in filters) for filters in columns.values()]
        table.add_row(escape(name), *map(str, counts))
    return table


def write_report(analysis: Analysis, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the page of one model, with scatter plots of ``n_charts`` filters beside the flagged.

    Raises:
        ValueError: If the report was kept without its points.
    """
    model = analysis.model
    found = analysis.memorization
    what = "Anomaly filters" if found is None else "Memorization and anomaly filters"
    title, subject = f"{what} of {model.path.name}", f"{model.name}, {model.kind}, on"
    facts = [] if found is None else list(_memorization_facts(found))
    _write_page({"model": analysis}, path, n_charts, title, subject, facts)


def write_comparison(comparison: Comparison, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the page of two models side by side; see `write_report`."""
    first, second = comparison.first.model.path, comparison.second.model.path
    title = f"Anomaly filters: {first.name} and {second.name}"
    unmatched = [("Not in both", ", ".join(comparison.unmatched))] if comparison.unmatched else []
    sides = {"first": comparison.first, "second": comparison.second}
    _write_page(sides, path, n_charts, title, f"first: {first}; second: {second};", unmatched)


def _write_page(
    sides: dict[str, Analysis],
    path: str | Path,
    n_charts: int,
    title: str,
    subject: str,
    more_facts: Sequence[tuple[str, str]] = (),
) -> None:
    shown = [page_memorization(analysis) for analysis in sides.values()]
    first = next(iter(sides.values()))
    images, settings = first.images, asdict(first.report.criteria) | first.report.settings
    facts = [
        *((term.capitalize(), text) for term, text in _origin(sides)),
        ("Settings", ", ".join(f"{name} = {value}" for name, value in settings.items())),
        *(
            (f"Skipped {layer}", reason)
            for analysis in sides.values()
            for layer, reason in analysis.report.skipped.items()
        ),
    ]
    write_page(
        path,
        [page_model(analysis) for analysis in sides.values()],
        page_images(images),
        title=title,
        subject=f"{subject} {len(images):,} images of {images.directory}",
        facts=[*facts, *more_facts],
        n_charts=n_charts,
        memorization=shown[0],  # a comparison has none
    )


def _memorization_facts(found: Memorization) -> Iterator[tuple[str, str]]:
    images, held_out = found.folders.images, found.folders.held_out
    yield (
        "Training images",
        f"{len(found.sample)} of {len(images)} images of {images.directory}, chosen at random, "
        f"classes in proportion; against {len(held_out)} of {held_out.directory}",
    )
    for name, reason in found.report.skipped.items():
        yield f"Memorization of {name} left out", reason
    yield from (("Note", note) for note in images.notes)


def page_memorization(analysis: Analysis) -> PageMemorization | None:
    """Return the memorization of training images as a page shows it, where it was measured."""
    found = analysis.memorization
    if found is None:
        return None
    images = page_images(found.folders.images, found.sample)
    watched = analysis.model.watched
    if watched is None:
        return PageMemorization(found.report, images)
    return PageMemorization(found.report, images, watched.history, watched.losses)


def page_images(images: ProbeImages, chosen: Tensor | None = None) -> PageImages:
    """Return images, all or those at some positions [n], as a page shows them."""
    chosen = torch.arange(len(images)) if chosen is None else chosen
    height, width = images.pixels(chosen[:1]).shape[-2:]
    return PageImages(
        files=[images.files[row] for row in chosen.tolist()],
        labels=None if images.labels is None else images.labels[chosen].tolist(),
        class_names=images.class_names,
        # Cropped as for networks.
        thumbnails=lambda rows, side: resize(images.pixels(chosen[rows]), side),
        side=min(height, width, images.image_size or height),
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


def _origin(sides: dict[str, Analysis]) -> Iterator[tuple[str, str]]:
    """Yield which models, which probe, what normalized it for each, and what else to know."""
    normalized: dict[str, str] = {}
    notes: dict[str, None] = {}  # each once
    for side, analysis in sides.items():
        model, statistics = analysis.model, analysis.images.statistics
        yield side, f"{model.name} from {model.path} ({model.kind})"
        mean, std = (
            " ".join(f"{value:g}" for value in values)
            for values in (statistics.mean, statistics.std)
        )
        normalized[side] = f"mean {mean}, standard deviation {std} ({statistics.origin})"
        notes |= dict.fromkeys([*model.notes, *analysis.images.notes, *statistics.notes])
    first = next(iter(sides.values()))
    judging = asdict(first.report.criteria) | {
        name: first.report.settings[name] for name in DETECTION if name in first.report.settings
    }
    shown = ", ".join(
        f"{name} = {'off' if value is None else value}" for name, value in judging.items()
    )
    yield "judged by", f"{shown} ({first.judged_by})"
    images, limit = first.images, first.report.small_cluster_limit  # both models' are the same
    classes = f"{len(images.class_names)} classes" if images.class_names else "no class folders"
    size = images.image_size
    how = "at their own size" if size is None else f"brought to {size}x{size} pixels"
    yield (
        "probe",
        f"{len(images)} of {images.n_available} images of {images.directory}, chosen at random, "
        f"{classes}; {how} ({images.size_origin})",
    )
    if len(set(normalized.values())) == 1:
        yield "normalised by", next(iter(normalized.values()))
    else:
        yield from ((f"normalised for the {side} by", text) for side, text in normalized.items())
    yield from (("note", note) for note in notes)
    if len(images) < _FEW:
        one = "a single image is" if limit == 1 else f"{limit} images are"
        yield (
            "note",
            f"{len(images)} images are few: where {one} a small cluster, many filters have one "
            "by chance. Counts mean more on a probe of 1,000 images",
        )


def _counted(isolated: Iterable[tuple[int, int]], analysis: Analysis) -> str:
    files = analysis.images.files
    return first_few([f"{files[index]} ({count})" for index, count in isolated], _SHOWN)
