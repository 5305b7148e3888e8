"""Reading batches: their images and labels, and the logits in what a module returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from filterwatch.actions.batches import _LABEL_NAMES, _named, find_logits
from filterwatch.detection import find_images

__all__ = ["count_samples", "find_images", "find_labels", "find_logits"]


def count_samples(batch: object) -> int:
    """Return the number of images in a batch."""
    return len(find_images(batch))


def find_labels(batch: object, n_samples: int) -> Tensor | None:
    """Return the class labels of a batch, int64 [N], or ``None`` if there are none.

    Args:
        batch: A mapping, dataclass, named tuple, tuple or list; in the first three, usual names
            ("label", "y", …) go first. Labels are integers [N] of at least 0.
        n_samples: N, the number of images.
    """
    named = _named(batch)
    candidates: list[Any] = [named[name] for name in _LABEL_NAMES if name in named]
    candidates += named.values()
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes, Mapping)):
        candidates += batch
    return next((found.long() for found in candidates if _are_labels(found, n_samples)), None)


def _are_labels(values: object, n_samples: int) -> bool:
    if not isinstance(values, Tensor) or values.shape != (n_samples,) or n_samples == 0:
        return False
    kind = str(values.dtype)
    return ("int" in kind) and int(values.min()) >= 0
