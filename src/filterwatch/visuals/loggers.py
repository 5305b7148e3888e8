"""Bringing pictures to whatever logger the Trainer has, and a layout of curves to TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    loss: Sequence[str],
    accuracy: Sequence[str],
    counts: Sequence[str],
    memorization: Sequence[str],
) -> None:
    """Give each TensorBoard logger its `scalar_layout`; call it in the first process alone."""
    layout = scalar_layout(loss, accuracy, counts, memorization)
    for logger in trainer.loggers:
        if isinstance(logger, either(TensorBoardLogger)):
            logger.experiment.add_custom_scalars(layout)


def scalar_layout(
    loss: Sequence[str],
    accuracy: Sequence[str],
    counts: Sequence[str],
    memorization: Sequence[str],
) -> Layout:
    """Return the layout of TensorBoard's page of custom scalars, as ``SummaryWriter`` takes it.

    TensorBoard has one color a run, so that two lines of a chart look the same. A chart here has
    one line. That of a validation metric has a band that reaches to the training metric: its width
    is what they differ by. What a layer has is in the pictures.

    Args:
        loss: Tags of the known losses.
        accuracy: Tags of the known accuracies.
        counts: Names of the metrics that count anomaly filters.
        memorization: Names of the metrics that are the memorization of the deepest layer.

    Returns:
        Dashboard to chart to kind and tags; those of lines are regular expressions.
    """
    own = [*counts, *(name for metric in memorization for name in memorization_names(metric))]
    others = "(?i)(?!.*_step$)" + "".join(f"(?!{re.escape(name)})" for name in own)
    charts: dict[str, list[Any]] = {}
    for metric in memorization:
        charts |= {name: _line(f"{re.escape(name)}$") for name in memorization_names(metric)}
    for title, part, tags in (("loss", "loss", loss), ("accuracy", "acc", accuracy)):
        pairs = _pairs(tags)
        for training, validation in pairs:
            heading = f"{validation} (line), {training} (edge of the band)"
            charts[heading] = ["Margin", [validation, training, validation]]
        if not pairs:
            charts |= {tag: _line(f"{re.escape(tag)}$") for tag in tags}
            if tags and not any("val" in tag.lower() for tag in tags):  # it is logged later on
                charts[f"{title}: validation"] = _line(f"{others}(?=.*{part}).*val.*$")
    charts |= {metric: _line(f"{re.escape(metric)}$") for metric in counts}
    return {"Overfitting": charts}


def _line(pattern: str) -> list[Any]:
    return ["Multiline", [pattern]]


def _pairs(tags: Sequence[str]) -> list[tuple[str, str]]:
    """Return the tags that differ by "train" and "val" alone, training first."""
    found: dict[str, dict[str, str]] = {"train": {}, "val": {}}
    for tag in tags:
        part = re.search(r"train(ing)?|val(id(ation)?)?", tag, re.IGNORECASE)
        if part is not None:
            side = "train" if part[0].lower().startswith("train") else "val"
            stem = tag[: part.start()] + tag[part.end() :]
            found[side][stem.removesuffix("_epoch").lower()] = tag
    training, validation = found["train"], found["val"]
    return [(training[stem], tag) for stem, tag in validation.items() if stem in training]


def memorization_names(metric: str) -> list[str]:
    """Return the names of what is logged beside the memorization of layers, itself first."""
    prefix = metric.removesuffix(METRICS[0])
    return [prefix + name for name in METRICS]


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
