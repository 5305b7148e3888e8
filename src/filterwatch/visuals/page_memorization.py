"""What a page says of memorization: layers, epochs, and the training images learned by heart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from filterwatch.memorization import MemorizationReport
from filterwatch.visuals.history_figures import Curve, lowest_validation_loss
from filterwatch.visuals.memorization_figures import color_limits, memorization_table
from filterwatch.visuals.sprite_sheet import PageImages, sprite_sheet

# Memorized samples that a page holds at most: nobody looks at more, and each takes its bytes.
_MOST_SAMPLES = 180


@dataclass(frozen=True)
class PageMemorization:
    """What a page shows of memorization.

    Attributes:
        report: That of the model.
        images: The training images, in the report's order.
        history: A callback's history from the model's checkpoint, for the map over epochs; ``None``
            where it is not known. One without memorization is as good as none.
        loss_curves: Losses of that fit, to mark the epoch of the lowest validation loss.
    """

    report: MemorizationReport
    images: PageImages
    history: Sequence[Mapping[str, Any]] | None = None
    loss_curves: Mapping[str, Curve] = field(default_factory=dict)


def memorization_numbers(memorization: PageMemorization) -> dict[str, Any]:
    """Return what a page draws memorization from, as plain data."""
    report = memorization.report
    memorized = report.memorized()
    shown = memorized[:_MOST_SAMPLES]
    names = memorization.images.class_names

    def name(label: int) -> str:
        return names[label] if 0 <= label < len(names) else str(label)

    return {
        "rows": [
            {
                "name": row,
                "kind": layer.kind,
                "value": _number(layer.value),
                "error": _number(layer.standard_error),
                "significant": layer.is_significant,
                "training_accuracy": layer.training_accuracy,
                "held_out_accuracy": layer.held_out_accuracy,
            }
            for row, layer in report.layers.items()
        ],
        "memorization": _number(report.memorization),
        "gap": _number(report.generalization_gap),
        "n_training": len(report.labels),
        "n_held_out": report.n_held_out,
        "n_memorized": len(memorized),
        "beyond_chance": _number(report.memorized_samples),
        "beyond_chance_error": _number(report.memorized_error),
        "samples": [
            {
                "index": sample.index,
                "file": memorization.images.files[sample.index],
                "label": name(sample.label),
                "rather": name(sample.witness_label),
                "evidence": sample.evidence,
                "confidence": _number(sample.confidence),
            }
            for sample in shown
        ],
        "sprite": _sheet(memorization.images, [sample.index for sample in shown]),
        "epochs": _epochs(memorization),
    }


def _sheet(images: PageImages, chosen: list[int]) -> dict[str, Any] | None:
    """Return the picture of some of the images."""
    if not chosen:
        return None
    rows = torch.tensor(chosen)
    some = replace(
        images,
        files=[images.files[row] for row in chosen],
        labels=None,
        thumbnails=lambda positions, side: images.thumbnails(rows[positions], side),
    )
    return asdict(sprite_sheet(some))


def _epochs(memorization: PageMemorization) -> dict[str, Any] | None:
    """Return the map of layers by epochs, ``None`` where no epoch is known."""
    measured = [entry for entry in memorization.history or () if "memorization" in entry]
    if not measured:
        return None
    layers, values, errors = memorization_table(measured)
    return {
        "layers": layers,
        "epochs": [entry["epoch"] for entry in measured],
        "values": _plain(values),
        "errors": _plain(errors),
        "limits": color_limits(layers, values, errors),
        "lowest_loss": lowest_validation_loss(memorization.loss_curves),
    }


def _plain(values: np.ndarray[Any, Any]) -> list[list[float | None]]:
    return [[_number(round(value, 4)) for value in row] for row in values.tolist()]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
