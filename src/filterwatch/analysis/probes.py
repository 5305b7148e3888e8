"""One probe for all models that are looked at, prepared for each as in its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filterwatch.analysis.errors import InputError
from filterwatch.analysis.images import ProbeImages, sample_probe
from filterwatch.analysis.loading import LoadedModel
from filterwatch.analysis.statistics import choose_statistics


def sample_probes(
    models: Sequence[LoadedModel],
    directory: str | Path,
    size: int = 1000,
    *,
    seed: int = 0,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> list[ProbeImages]:
    """Choose the images of a folder that models are to be probed with.

    All models get the same images in the same size; each gets them normalised as in its training,
    where that is known, so that of several models each is seen at its own work.

    Args:
        models: The models, at least one.
        directory: The folder.
        size: How many images.
        seed: Seed of the choice.
        image_size: Side in pixels to bring the images to. Default: the one that the models take,
            else the one that they were trained on, else see `sample_probe`.
        mean: Mean of each channel, of pixels in [0, 1]. Default: see `choose_statistics`.
        std: Standard deviation of each channel. Default: likewise.

    Returns:
        The probe as each model sees it.

    Raises:
        InputError: If the models take images of different shapes, or see `sample_probe`.
    """
    first = models[0]
    for other in models[1:]:
        if (other.in_channels, other.fixed_image_size) != (
            first.in_channels,
            first.fixed_image_size,
        ):
            raise InputError(f"{first.path} and {other.path} take images of different shapes")
    if first.fixed_batch_size is not None:
        size = max(size - size % first.fixed_batch_size, 1)
    side, origin = _image_size(models, image_size)
    images = sample_probe(
        directory,
        size,
        seed=seed,
        in_channels=first.in_channels,
        image_size=side,
        usual_image_size=first.usual_image_size,
    )
    if side is not None:
        images = replace(images, size_origin=origin)
    return [
        images.normalised_by(choose_statistics(model.in_channels, model.statistics, mean, std))
        for model in models
    ]


def _image_size(models: Sequence[LoadedModel], asked: int | None) -> tuple[int | None, str]:
    """Return the side of the images, ``None`` where their own decides, and why it is that."""
    first = models[0]
    fixed = first.fixed_image_size
    if asked is not None:
        if asked < 1:
            raise InputError(f"--image-size must be at least 1, got {asked}")
        if fixed not in (None, asked):
            raise InputError(
                f"--image-size {asked}: {first.name} of {first.path} takes images of {fixed} pixels"
            )
        return asked, "as given"
    if fixed is not None:
        return fixed, "all that the network takes"
    trained = {
        model.trained_image_size: model.path
        for model in models
        if model.trained_image_size is not None
    }
    if len(trained) > 1:
        sizes = ", ".join(f"{path} on {side} pixels" for side, path in trained.items())
        raise InputError(f"the models were trained on other sizes ({sizes}): say --image-size")
    return next(iter(trained), None), "as in training, kept in the checkpoint"
