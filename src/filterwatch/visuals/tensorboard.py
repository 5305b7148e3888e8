"""What only TensorBoard shows: a dashboard of chosen curves, and the projector."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F

from filterwatch.visuals.thumbnails import Thumbnails

Layout = dict[str, dict[str, list[Any]]]

# Lines in one chart that eyes can still tell apart.
_LINES = 7
_THUMBNAIL_SIDE = 40
# Pixels of the image that holds all thumbnails; more than browsers take would show none.
_SPRITE_SIDE = 8192


def writers(trainer: Trainer) -> list[Any]:
    """Return the event writer of each TensorBoard logger; call it in the first process alone."""
    return [
        logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)
    ]


def scalar_layout(loss: bool, accuracy: bool, layers: Mapping[str, Sequence[str]]) -> Layout:
    """Return the layout of the custom scalars page.

    Loss, accuracy and the number of anomaly filters stand on one dashboard, the numbers of single
    layers on another, a few layers a chart.

    Args:
        loss: Whether a loss is logged.
        accuracy: Whether an accuracy is logged.
        layers: Names of the watched layers, by the name of the metric that counts in all of them.

    Returns:
        Dashboard to chart to kind and tags, as ``SummaryWriter.add_custom_scalars`` takes it; tags
        are regular expressions.
    """
    # An epoch's values, not those of steps; also of metrics that are logged later on.
    others = "(?i)(?!.*_step$)" + "".join(f"(?!{re.escape(metric)})" for metric in layers)
    overview: dict[str, list[Any]] = {}
    if loss:
        overview["loss"] = ["Multiline", [f"{others}.*loss.*$"]]
    if accuracy:
        overview["accuracy"] = ["Multiline", [f"{others}.*acc.*$"]]
    by_layer: dict[str, list[Any]] = {}
    for metric, names in layers.items():
        prefix = "" if len(layers) == 1 else f"{metric}: "
        overview[metric] = ["Multiline", [f"{re.escape(metric)}(_distinct)?$"]]
        n_charts = math.ceil(len(names) / _LINES)
        for number in range(n_charts):  # of even size, but for one line
            start, stop = (len(names) * at // n_charts for at in (number, number + 1))
            group = names[start:stop]
            ends = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
            tags = [f"{re.escape(metric)}_by_layer/{re.escape(name)}$" for name in group]
            by_layer[prefix + ends] = ["Multiline", tags]
    return {"Overfitting": overview, "Anomaly filters by layer": by_layer}


def write_projection(
    writer: Any, name: str, points: Tensor, clusters: Tensor, thumbnails: Thumbnails, step: int
) -> None:
    """Write a filter's points for TensorBoard's projector, each with its sample's image.

    The projector can colour and search them by cluster, label and prediction.

    Args:
        writer: A ``SummaryWriter``.
        name: What the projector lists the points by.
        points: [N, 2].
        clusters: Cluster of each, [N].
        thumbnails: The N samples' images.
        step: The step that the scalars of the same epoch have.
    """
    side = min(_THUMBNAIL_SIDE, _SPRITE_SIDE // math.ceil(math.sqrt(len(points))))
    images = [_square(thumbnails.image(sample), side) for sample in range(len(points))]
    columns: dict[str, Callable[[int], str | None]] = {
        "sample": thumbnails.name,
        "cluster": lambda sample: str(int(clusters[sample])),
        "label": thumbnails.label,
        "prediction": thumbnails.prediction,
    }
    known = {name: get for name, get in columns.items() if get(0) is not None}
    writer.add_embedding(
        # The projector takes nothing flatter than space.
        F.pad(points, (0, 1)),
        metadata=[[_field(get(sample)) for get in known.values()] for sample in range(len(points))],
        metadata_header=list(known),
        label_img=torch.stack(images),
        global_step=step,
        tag=name,
    )


def _square(pixels: Any, side: int) -> Tensor:
    """Bring pixels [h, w, 3] into the middle of a square [3, side, side], from 0 to 1."""
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    scale = side / max(image.shape[1:])
    height, width = (max(1, round(length * scale)) for length in image.shape[1:])
    image = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(image, (left, side - width - left, top, side - height - top)).clamp(0, 1)


def _field(text: str | None) -> str:
    """Return a text that cannot be taken for two fields of a table."""
    return re.sub(r"\s+", " ", text or "")
