"""What normalises images on their way to a network, and where that is known from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filterwatch.analysis.errors import InputError
from filterwatch.datamodules import imagenet_statistics


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation that images are normalised by.

    Attributes:
        mean: Of each channel, of pixels in [0, 1].
        std: Of each channel, likewise.
        origin: Where they are known from, for people.
        is_assumed: Whether nothing says that the network was trained with them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    is_assumed: bool = False

    @property
    def notes(self) -> list[str]:
        """What the reader of a result should know."""
        if not self.is_assumed:
            return []
        return [
            "nothing says what normalised the images in training: mean and standard deviation are "
            f"assumed to be {self.origin}. If they were others, give them with --mean and --std"
        ]


def choose_statistics(
    n_channels: int,
    known: Statistics | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Statistics:
    """Return what to normalise by: what is asked for, else what is known, else ImageNet's.

    Args:
        n_channels: Channels of an image, 1 or 3.
        known: What the network was trained with.
        mean: What is asked for, one number or one a channel; ``None`` asks for nothing.
        std: Likewise.

    Raises:
        InputError: If there are not as many numbers as channels, or a deviation is not positive.
    """
    for option, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, n_channels):
            raise InputError(
                f"{option} needs 1 or {n_channels} numbers, one a channel, got {len(values)}"
            )
    if std is not None and not all(value > 0 for value in std):
        raise InputError(f"--std must be positive, got {' '.join(map(str, std))}")
    if known is None:
        known = Statistics(*imagenet_statistics(n_channels), "ImageNet's", is_assumed=True)
    if mean is not None and std is not None:
        return Statistics(_per_channel(mean, n_channels), _per_channel(std, n_channels), "as given")
    if mean is not None:
        origin = f"the mean as given, the deviation {known.origin}"
        return Statistics(_per_channel(mean, n_channels), known.std, origin, known.is_assumed)
    if std is not None:
        origin = f"the deviation as given, the mean {known.origin}"
        return Statistics(known.mean, _per_channel(std, n_channels), origin, known.is_assumed)
    return known


def _per_channel(values: Sequence[float], n_channels: int) -> tuple[float, ...]:
    return tuple(values) * n_channels if len(values) == 1 else tuple(values)
