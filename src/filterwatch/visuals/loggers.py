"""Bringing pictures to whatever logger the Trainer has, through the logger's own image calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from PIL import Image

from filterwatch.visuals.figures import Pixels

# Takes a picture's name, its pixels [H, W, 3] and the step that the scalars of its epoch have.
Send = Callable[[str, Pixels, int], None]


def send_picture(trainer: Trainer, name: str, pixels: Pixels, step: int) -> None:
    """Give a picture to every logger that takes images; without one, write it as a PNG file.

    Call it in the first process alone. TensorBoard, Weights & Biases and MLflow take images. A
    file goes to `picture_directory`, into a folder for the step.

    Args:
        trainer: The Trainer.
        name: The picture's name; a "/" in it groups pictures.
        pixels: [H, W, 3].
        step: The step that the scalars of the same epoch have.
    """
    senders = [send for send in map(_image_call, trainer.loggers) if send is not None]
    for send in senders or [_png_files(picture_directory(trainer))]:
        send(name, pixels, step)


def picture_directory(trainer: Trainer) -> Path:
    """Return where PNG files go: the log directory, without a logger the default root directory."""
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, CSVLogger)):
        directory = logger.log_dir or logger.save_dir
        if directory is not None:
            return Path(directory)
    return Path(trainer.default_root_dir)


def scalar_step(trainer: Trainer) -> int:
    """Return the step that metrics of the running epoch's end are logged with.

    Call it in every process, in ``on_train_epoch_end``: a metric named "step" sets the step of all
    others, and reading it may synchronise processes.
    """
    logged = trainer.callback_metrics.get("step")
    if logged is not None:
        return int(logged)
    # Lightning counts one back for the epoch's end; global_step counts optimizers, not batches.
    batches: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return max(batches - 1, 0)


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
