"""The probe: a random, class-balanced sample of a folder, prepared for each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from filterwatch._words import first_few
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import LoadedModel, Statistics
from filterwatch.datamodules import (
    ImageSource,
    Preprocessing,
    Stream,
    class_balanced_subset,
    imagenet_statistics,
    open_images,
    seeded_generator,
)

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


@dataclass(frozen=True)
class ProbeImages:
    """The images of a probe, as stored and as the network sees them."""

    directory: str  # that they come from
    files: list[str]  # path of each below that folder, with forward slashes
    source: ImageSource  # uint8
    labels: Tensor | None  # class of each, int64 [N]; None where there are no class subfolders
    class_names: list[str]  # in the order of the labels
    n_available: int  # images in the folder
    image_size: int | None  # side in pixels that they are brought to; None for their own
    size_origin: str  # why it is that, for people
    statistics: Statistics  # what they are normalized by
    notes: list[str] = field(default_factory=list)  # what the reader of a result should know

    def __len__(self) -> int:
        return len(self.files)

    @property
    def preprocessing(self) -> Preprocessing:
        """What brings them to the network."""
        return Preprocessing(self.image_size, self.statistics.mean, self.statistics.std)

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images of the probe as stored, uint8 [B, C, H, W]."""
        return self.source.read(rows)


def sample_probe(
    directory: str | Path,
    size: int = 1000,
    *,
    seed: int = 0,
    in_channels: int = 3,
    image_size: int | None = None,
    usual_image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ProbeImages:
    """Choose images of a folder at random, as many of each class as of every other.

    Args:
        directory: The folder. Its subfolders are classes, numbered by sorted name; without
            subfolders all images are taken as one unlabeled class.
        size: How many images; a folder with fewer is taken whole.
        seed: Seed of the choice.
        in_channels: 3, or 1 to read the images in gray.
        image_size: Side in pixels to bring the images to. Default: their own size where they share
            one and are square, else ``usual_image_size``.
        usual_image_size: The side that the network was designed for.
        mean: Mean of each channel, of pixels in [0, 1]. Default: ImageNet's.
        std: Standard deviation of each channel. Default: ImageNet's.

    Raises:
        InputError: If the folder cannot be used; also see `choose_statistics`.
    """
    directory = Path(directory)
    paths, labels, class_names, notes = list_images(directory)
    if in_channels not in (1, 3):
        raise InputError(
            f"the network takes images of {in_channels} channels: image files give 3, or 1 in grey"
        )
    if size < 1:
        raise InputError(f"--probe-size must be at least 1, got {size}")
    generator = seeded_generator(seed, Stream.PROBE)
    chosen = class_balanced_subset(labels, min(size, len(labels)), generator).sort().values
    probe_paths = [paths[row] for row in chosen.tolist()]
    size_origin = "as given"
    if image_size is None:
        image_size, size_origin = _own_size(probe_paths, usual_image_size)
    source = _opened(probe_paths, image_size, in_channels)
    return ProbeImages(
        directory=str(directory),
        files=[path.relative_to(directory).as_posix() for path in probe_paths],
        source=source,
        labels=labels[chosen] if class_names else None,
        class_names=class_names,
        n_available=len(paths),
        image_size=image_size,
        size_origin=size_origin,
        statistics=choose_statistics(in_channels, None, mean, std),
        notes=notes,
    )


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

    All models get the same images in the same size: the one asked for, else the one that they
    take, else the one that they were trained on, else see `sample_probe`. Each gets them normalized
    as `choose_statistics` says.

    Raises:
        InputError: If the models take images of different shapes; also see `sample_probe`.
    """
    first = models[0]
    shape = (first.in_channels, first.fixed_image_size)
    for other in models[1:]:
        if (other.in_channels, other.fixed_image_size) != shape:
            raise InputError(f"{first.path} and {other.path} take images of different shapes")
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
    chosen = (choose_statistics(m.in_channels, m.statistics, mean, std) for m in models)
    return [replace(images, statistics=statistics) for statistics in chosen]


def images_like(
    probe: ProbeImages,
    directory: Path,
    paths: Sequence[Path],
    labels: Tensor,
    *,
    n_available: int,
    notes: Sequence[str] = (),
) -> ProbeImages:
    """Open images of the probe's classes, brought to the network exactly as the probe is.

    Args:
        probe: The probe.
        directory: The folder that the images come from.
        paths: The images.
        labels: Class of each, numbered as in the probe, int64 [N].
        n_available: Images in the folder.
        notes: What the reader of a result should know.

    Raises:
        InputError: If an image cannot be decoded.
    """
    side = probe.image_size
    if side is None:  # that of the probe's own images
        side = probe.pixels(torch.tensor([0])).shape[-1]
    return replace(
        probe,
        directory=str(directory),
        files=[path.relative_to(directory).as_posix() for path in paths],
        source=_opened(paths, side, len(probe.statistics.mean)),
        labels=labels,
        n_available=n_available,
        image_size=side,
        notes=list(notes),
    )


def choose_statistics(
    n_channels: int,
    known: Statistics | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Statistics:
    """Return what to normalize by: what is asked for, else what is known, else ImageNet's.

    Raises:
        InputError: If there are not as many numbers as channels, a deviation is not positive, or
            only one of the two is given.
    """
    for option, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, n_channels):
            raise InputError(
                f"{option} needs 1 or {n_channels} numbers, one a channel, got {len(values)}"
            )
    if std is not None and not all(value > 0 for value in std):
        raise InputError(f"--std must be positive, got {' '.join(map(str, std))}")
    if mean is not None and std is not None:
        mean, std = (
            tuple(values) * (n_channels // len(values))  # a single number is that of all channels
            for values in (mean, std)
        )
        return Statistics(mean, std, "as given")
    if mean is not None or std is not None:
        raise InputError("--mean and --std belong together: give both, or neither")
    return known or Statistics(*imagenet_statistics(n_channels), "ImageNet's", is_assumed=True)


def list_images(
    directory: Path, option: str = "--images"
) -> tuple[list[Path], Tensor, list[str], list[str]]:
    """Return paths, labels [N], class names (none without subfolders), and notes.

    Raises:
        InputError: If there are no images; ``option`` is what gave the folder.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise InputError(f"{option} {directory} {what}: give a folder of images")
    folders = sorted(
        entry for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    names = [folder.name for folder in folders]
    if len(names) > 1 and {name.lower() for name in names} <= _SPLITS:
        raise InputError(
            f"{option} {directory} holds the splits {', '.join(names)}, not classes: give one of "
            f"them, {directory / names[-1]} for instance"
        )

    def images_in(folder: Path, pattern: str) -> list[Path]:
        return sorted(
            path
            for path in folder.glob(pattern)
            if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".")
        )

    loose = images_in(directory, "*")
    by_class = [images_in(folder, "**/*") for folder in folders]
    paths = [path for files in by_class for path in files]
    notes: list[str] = []
    if not paths:
        if not loose:
            raise InputError(
                f"{option} {directory} holds no images: expected {directory}/<class>/<name>.png or "
                f"{directory}/<name>.png ({', '.join(IMG_EXTENSIONS)})"
            )
        return loose, torch.zeros(len(loose), dtype=torch.int64), [], notes
    if loose:
        notes.append(f"{len(loose)} images beside the class folders were left out")
    empty = [name for name, files in zip(names, by_class, strict=True) if not files]
    if empty:
        notes.append(f"class folders without images: {first_few(empty)}")
    labels = [label for label, files in enumerate(by_class) for _ in files]
    return paths, torch.tensor(labels), names, notes


def _opened(paths: Sequence[Path], image_size: int | None, in_channels: int) -> ImageSource:
    try:
        return open_images([str(path) for path in paths], image_size, in_channels == 1)
    except ValueError as error:
        raise InputError(str(error)) from error


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
    trained = {m.trained_image_size: m.path for m in models if m.trained_image_size is not None}
    if len(trained) > 1:
        sizes = ", ".join(f"{path} on {side} pixels" for side, path in trained.items())
        raise InputError(f"the models were trained on other sizes ({sizes}): say --image-size")
    return next(iter(trained), None), "as in training, kept in the checkpoint"


def _own_size(paths: list[Path], usual: int | None) -> tuple[int | None, str]:
    """Return the side of images whose size nobody gave, ``None`` for their own, and why."""
    sizes: Counter[tuple[int, int]] = Counter()
    try:
        for path in paths:
            with Image.open(path) as file:
                sizes[file.size] += 1
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} cannot be opened as an image: repair or remove it") from error
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) == 1 and width == height:
        return None, "they share it"
    if usual is not None:
        return usual, "the network's usual one"
    return min(width, height), "that of most images"
