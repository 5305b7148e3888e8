"""Bringing pictures to whatever logger the Trainer has, and a layout of curves to TensorBoard."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
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

from filterwatch._compat import either, scalar_step
from filterwatch.memorization import METRICS
from filterwatch.visuals.drawing import Pixels

Layout = dict[str, dict[str, list[Any]]]

# Lines in one chart that eyes can still distinguish.
_LINES = 7


def send_picture(trainer: Trainer, name: str, pixels: Pixels, step: int) -> None:
    """Give a picture [H, W, 3] to every logger that takes images; else write it as a PNG file.

    Call it in the first process alone. TensorBoard, Weights & Biases and MLflow take images. A
    file goes to the log directory, into a folder for the step; a "/" in names groups pictures.
    """
    taken = [_give(logger, name, pixels, step) for logger in trainer.loggers]
    if not any(taken):
        group, _, rest = name.rpartition("/")
        folder = _directory(trainer) / (group or "pictures") / f"step_{step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        # A tenth larger than by default, twice as fast.
        Image.fromarray(pixels).save(folder / f"{rest}.png", compress_level=3)


def send_layout(
    trainer: Trainer,
    loss: bool,
    accuracy: bool,
    layers: Mapping[str, Sequence[str]],
    memorization: Mapping[str, Sequence[str]],
) -> None:
    """Give each TensorBoard logger its `scalar_layout`; call it in the first process alone."""
    layout = scalar_layout(loss, accuracy, layers, memorization)
    for logger in trainer.loggers:
        if isinstance(logger, either(TensorBoardLogger)):
            logger.experiment.add_custom_scalars(layout)


def scalar_layout(
    loss: bool,
    accuracy: bool,
    layers: Mapping[str, Sequence[str]],
    memorization: Mapping[str, Sequence[str]],
) -> Layout:
    """Return the layout of TensorBoard's page of custom scalars, as ``SummaryWriter`` takes it.

    Loss, accuracy, memorization and the number of anomaly filters are on one dashboard, the numbers
    of single layers on others, a few layers a chart.

    Args:
        loss: Whether a loss is logged.
        accuracy: Whether an accuracy is logged.
        layers: Names of the watched layers, by the name of the metric that counts in all of them.
        memorization: Names of the layers whose memorization is measured, by the name of the metric
            that is that of the deepest.

    Returns:
        Dashboard to chart to kind and tags, which are regular expressions.
    """
    own = [*layers, *(name for metric in memorization for name in memorization_names(metric))]
    # An epoch's values, not those of steps; also of metrics that are logged later on.
    others = "(?i)(?!.*_step$)" + "".join(f"(?!{re.escape(metric)})" for metric in own)
    overview: dict[str, list[Any]] = {}
    if loss:
        overview["loss"] = ["Multiline", [f"{others}.*loss.*$"]]
    if accuracy:
        overview["accuracy"] = ["Multiline", [f"{others}.*acc.*$"]]
    for metric in memorization:
        deepest, gap, _ = map(re.escape, memorization_names(metric))
        overview[metric] = ["Multiline", [f"{deepest}$", f"{gap}$"]]
    for metric in layers:
        overview[metric] = ["Multiline", [f"{re.escape(metric)}(_distinct)?$"]]
    layout = {
        "Overfitting": overview,
        "Memorization by layer": _layer_charts(memorization, "/"),
        "Anomaly filters by layer": _layer_charts(layers, "_by_layer/"),
    }
    return {dashboard: charts for dashboard, charts in layout.items() if charts}


def memorization_names(metric: str) -> list[str]:
    """Return the names of what is logged beside the memorization of layers, itself first."""
    prefix = metric.removesuffix(METRICS[0])
    return [prefix + name for name in METRICS]


def _layer_charts(layers: Mapping[str, Sequence[str]], between: str) -> dict[str, list[Any]]:
    """Return charts of each metric's layers; ``between`` stands between its name and theirs."""
    charts: dict[str, list[Any]] = {}
    for metric, names in layers.items():
        prefix = "" if len(layers) == 1 else f"{metric}: "
        n_charts = math.ceil(len(names) / _LINES)
        for number in range(n_charts):  # of even size, but for one line
            start, stop = (len(names) * at // n_charts for at in (number, number + 1))
            group = names[start:stop]
            ends = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
            tags = [f"{re.escape(metric + between + name)}$" for name in group]
            charts[prefix + ends] = ["Multiline", tags]
    return charts


def send_text(trainer: Trainer, name: str, lines: Sequence[str]) -> None:
    """Put lines into the loggers that show text; call it in every process, as `scalar_step`."""
    step = scalar_step(trainer)
    if not lines or not trainer.is_global_zero:
        return
    text = "\n".join(f"- {line}" for line in lines)
    for logger in trainer.loggers:
        if isinstance(logger, either(TensorBoardLogger)):
            logger.experiment.add_text(name, text, step)


def _directory(trainer: Trainer) -> Path:
    """Return where PNG files go: the log directory, without a logger the default root directory."""
    first = either(CSVLogger)
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, first)):
        directory = logger.log_dir or logger.save_dir
        if directory is not None:
            return Path(directory)
    return Path(trainer.default_root_dir)


def _give(logger: Logger, name: str, pixels: Pixels, step: int) -> bool:
    """Give a picture to a logger; return whether it takes pictures."""
    if isinstance(logger, either(TensorBoardLogger)):
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif isinstance(logger, either(WandbLogger)):
        logger.log_image(name, [pixels], step=step)
    elif isinstance(logger, either(MLFlowLogger)):
        # What MLflow allows; Lightning makes the names of metrics the same way.
        key = re.sub(r"[^a-zA-Z0-9_/. -]+", "", name)
        logger.experiment.log_image(logger.run_id, pixels, key=key, step=step)
    else:
        return False
    return True
