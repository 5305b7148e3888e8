"""`Pictures`: what is drawn during a fit, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filterwatch._checks import check_integer


@dataclass(frozen=True)
class Pictures:
    """What `AnomalyFilterCallback` draws, and how often.

    Pictures are drawn after the first probe, then with the first probe that is ``every_n_epochs``
    or more after the last drawing, or that flags largely other filters, and at the end of the fit.
    ``fast_dev_run`` draws nothing.

    Args:
        every_n_epochs: Draw again after so many epochs.
        n_filters: Number of flagged filters to draw each time, the most anomalous ones; 0 draws
            none.
        n_samples: Number of most often isolated samples to draw; 0 draws none.
        change: Draw again when the flagged maps have changed by more than this share: those
            flagged either then or now, among those flagged then or now or both. ``None`` does not
            look at changes.
        projector: A layer's name and a channel, whose points are written for TensorBoard's
            projector at the end of the fit, with the samples' images.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    every_n_epochs: int = 5
    n_filters: int = 8
    n_samples: int = 32
    change: float | None = 0.9
    projector: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        check_integer("every_n_epochs", self.every_n_epochs, 1)
        check_integer("n_filters", self.n_filters, 0)
        check_integer("n_samples", self.n_samples, 0)
        if self.change is not None:
            if isinstance(self.change, bool) or not isinstance(self.change, (int, float)):
                raise TypeError(f"change must be a number or None, got {self.change!r}")
            if not 0 <= self.change <= 1:
                raise ValueError(f"change is a share from 0 to 1, or None, got {self.change!r}")
        if self.projector is not None:
            _check_projector(self.projector)


def check_pictures(pictures: object) -> None:
    """Raise unless the callback's argument ``pictures`` is one that `chosen_pictures` takes.

    Raises:
        TypeError: If it has the wrong type.
        ValueError: If it is an integer below 1.
    """
    if isinstance(pictures, bool | Pictures):
        return
    if not isinstance(pictures, int):
        raise TypeError(
            f"pictures={pictures!r} says nothing about pictures: pass True or False, a number of "
            "epochs between drawings, or Pictures(...)"
        )
    if pictures < 1:
        raise ValueError(
            f"pictures={pictures} is no number of epochs between drawings: pass 1 or more, or "
            "False to draw nothing"
        )


def chosen_pictures(pictures: Pictures | bool | int) -> Pictures | None:
    """Return what a callback's argument ``pictures`` stands for; ``None`` draws nothing."""
    if isinstance(pictures, Pictures):
        return pictures
    if isinstance(pictures, bool):
        return Pictures() if pictures else None
    return Pictures(every_n_epochs=pictures)


def _check_projector(projector: object) -> None:
    is_pair = isinstance(projector, Sequence) and not isinstance(projector, str)
    if not is_pair or [type(item) for item in projector] != [str, int]:  # type: ignore[attr-defined]
        raise TypeError(
            f"projector={projector!r} names no filter: pass a layer's name and a channel, such as "
            "['network.conv3', 7], or None"
        )
    if projector[1] < 0:  # type: ignore[index]
        raise ValueError(f"projector={projector!r}: channels are counted from 0")
