"""Bringing pictures to whatever logger the Trainer has, and a layout of curves to TensorBoard."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from PIL import Image

from filterwatch.visuals.drawing import Pixels

# Takes a picture's name, its pixels [H, W, 3] and the step that the scalars of its epoch have.
Send = Callable[[str, Pixels, int], None]
Layout = dict[str, dict[str, list[Any]]]

# Lines in one chart that eyes can still distinguish.
_LINES = 7


def send_picture(trainer: Trainer, name: str, pixels: Pixels, step: int) -> None:
    """Give a picture to every logger that takes images; without one, write it as a PNG file.

    Call it in the first process alone. TensorBoard, Weights & Biases and MLflow take images. A
    file goes to the log directory, into a folder for the step.

    Args:
        trainer: The Trainer.
        name: The picture's name; a "/" in it groups pictures.
        pixels: [H, W, 3].
        step: The step that the scalars of the same epoch have.
    """
    senders = [send for send in map(_image_call, trainer.loggers) if send is not None]
    for send in senders or [_png_files(_directory(trainer))]:
        send(name, pixels, step)


def send_layout(
    trainer: Trainer, loss: bool, accuracy: bool, layers: Mapping[str, Sequence[str]]
) -> None:
    """Give each TensorBoard logger the layout of its custom scalars; see `scalar_layout`.

    Call it in the first process alone.
    """
    layout = scalar_layout(loss, accuracy, layers)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_custom_scalars(layout)


def scalar_layout(loss: bool, accuracy: bool, layers: Mapping[str, Sequence[str]]) -> Layout:
    """Return the layout of TensorBoard's page of custom scalars.

    Loss, accuracy and the number of anomaly filters stand on one dashboard, the numbers of single
    layers on another, a few layers a chart.

    Args:
        loss: Whether a loss is logged.
        accuracy: Whether an accuracy is logged.
        layers: Names of the watched layers, by the name of the metric that counts in all of them.

    Returns:
        Dashboard to chart to kind and tags (regular expressions), as ``SummaryWriter`` takes it.
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


def _directory(trainer: Trainer) -> Path:
    """Return where PNG files go: the log directory, without a logger the default root directory."""
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, CSVLogger)):
        directory = logger.log_dir or logger.save_dir
        if directory is not None:
            return Path(directory)
    return Path(trainer.default_root_dir)


def _image_call(logger: Logger) -> Send | None:
    if isinstance(logger, TensorBoardLogger):
        writer = logger.experiment
        return lambda name, pixels, step: writer.add_image(name, pixels, step, dataformats="HWC")
    if isinstance(logger, WandbLogger):
        return lambda name, pixels, step: logger.log_image(name, [pixels], step=step)
    if isinstance(logger, MLFlowLogger):
        client, run_id = logger.experiment, logger.run_id
        return lambda name, pixels, step: client.log_image(
            run_id,
            pixels,
            # What MLflow allows; Lightning makes the names of metrics the same way.
            key=re.sub(r"[^a-zA-Z0-9_/. -]+", "", name),
            step=step,
        )
    return None


def _png_files(directory: Path) -> Send:
    def send(name: str, pixels: Pixels, step: int) -> None:
        group, _, rest = name.rpartition("/")
        path = directory / (group or "pictures") / f"step_{step:07d}" / f"{rest}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=3)  # a tenth larger, twice as fast

    return send
