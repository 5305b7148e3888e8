"""The probe: a random, class-balanced sample of a folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from filterwatch.analysis.errors import InputError, first_few
from filterwatch.analysis.statistics import Statistics, choose_statistics
from filterwatch.datamodules import (
    ImageSource,
    Preprocessing,
    Stream,
    class_balanced_subset,
    open_images,
    seeded_generator,
)

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}
_IN_MEMORY = 2 * 1024**3  # bytes of decoded images; more are decoded when they are needed


@dataclass(frozen=True)
class ProbeImages:
    """The images of a probe, as stored and as the network sees them.

    Attributes:
        directory: The folder that they come from.
        files: Path of each below that folder, with forward slashes.
        source: The images, uint8.
        labels: Class of each, int64 [N]; ``None`` where the folder has no class subfolders.
        class_names: Names of the classes, in the order of the labels.
        n_available: Number of images in the folder.
        preprocessing: What brings the images to the network.
        size_origin: Why they have the size that they are brought to, for people.
        statistics: What they are normalised by.
        notes: What the reader of a result should know.
    """

    directory: str
    files: list[str]
    source: ImageSource
    labels: Tensor | None
    class_names: list[str]
    n_available: int
    preprocessing: Preprocessing
    size_origin: str
    statistics: Statistics
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def first(self, n_images: int) -> ProbeImages:
        """Return the first images of the probe as a probe of their own."""
        labels = None if self.labels is None else self.labels[:n_images]
        return replace(self, files=self.files[:n_images], labels=labels)

    def normalised_by(self, statistics: Statistics) -> ProbeImages:
        """Return the same images, to be normalised by other statistics."""
        preprocessing = replace(self.preprocessing, mean=statistics.mean, std=statistics.std)
        return replace(self, preprocessing=preprocessing, statistics=statistics)

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

    Subfolders are classes, numbered by sorted name; without subfolders all images are taken as
    one unlabelled class.

    Args:
        directory: The folder.
        size: How many images; a folder with fewer is taken whole.
        seed: Seed of the choice.
        in_channels: 3, or 1 to read the images in grey.
        image_size: Side in pixels to bring the images to. Default: their own size where they share
            one and are square, else ``usual_image_size``.
        usual_image_size: The side that the network was designed for.
        mean: Mean of each channel, of pixels in [0, 1]. Default: ImageNet's.
        std: Standard deviation of each channel. Default: ImageNet's.

    Raises:
        InputError: If there is no such folder, no image in it, the folder is one of splits, an
            image cannot be decoded, or see `choose_statistics`.
    """
    directory = Path(directory)
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise InputError(f"--images {directory} {what}: give a folder of images")
    if in_channels not in (1, 3):
        raise InputError(
            f"the network takes images of {in_channels} channels: image files give 3, or 1 in grey"
        )
    if size < 1:
        raise InputError(f"--probe-size must be at least 1, got {size}")
    paths, labels, class_names, notes = _list_images(directory)
    chosen = _choose(labels, size, seed)
    probe_paths = [paths[row] for row in chosen.tolist()]
    size_origin = "as given"
    if image_size is None:
        image_size, size_origin = _image_size(probe_paths, usual_image_size)
    statistics = choose_statistics(in_channels, None, mean, std)
    try:
        # The text of the default message names an argument of the datamodules.
        source = open_images(
            [str(path) for path in probe_paths], image_size, in_channels == 1, _IN_MEMORY
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    return ProbeImages(
        directory=str(directory),
        files=[path.relative_to(directory).as_posix() for path in probe_paths],
        source=source,
        labels=labels[chosen] if class_names else None,
        class_names=class_names,
        n_available=len(paths),
        preprocessing=Preprocessing(image_size, statistics.mean, statistics.std),
        size_origin=size_origin,
        statistics=statistics,
        notes=notes,
    )


def _list_images(directory: Path) -> tuple[list[Path], Tensor, list[str], list[str]]:
    """Return paths, labels [N], class names (none without subfolders), and notes."""
    folders = sorted(
        entry for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    names = [folder.name for folder in folders]
    if len(names) > 1 and {name.lower() for name in names} <= _SPLITS:
        raise InputError(
            f"--images {directory} holds the splits {', '.join(names)}, not classes: give one of "
            f"them, {directory / names[-1]} for instance"
        )
    loose = _images_in(directory, recursive=False)
    by_class = [_images_in(folder, recursive=True) for folder in folders]
    paths = [path for files in by_class for path in files]
    notes: list[str] = []
    if not paths:
        if not loose:
            raise InputError(
                f"--images {directory} holds no images: expected {directory}/<class>/<name>.png or "
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


def _images_in(folder: Path, *, recursive: bool) -> list[Path]:
    entries = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in entries
        if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".")
    )


def _choose(labels: Tensor, size: int, seed: int) -> Tensor:
    """Return the chosen rows in ascending order."""
    generator = seeded_generator(seed, Stream.PROBE)
    return class_balanced_subset(labels, min(size, len(labels)), generator).sort().values


def _image_size(paths: list[Path], usual: int | None) -> tuple[int | None, str]:
    """Return the side to bring images to, ``None`` for their own, and why it is that."""
    sizes = Counter(_stored_size(path) for path in paths)
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) == 1 and width == height:
        return None, "they share it"
    if usual is not None:
        return usual, "the network's usual one"
    return min(width, height), "that of most images"


def _stored_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as file:
            width, height = file.size
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} cannot be opened as an image: repair or remove it") from error
    return width, height
