"""Finding the labels of a batch, and the logits in what a module returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

_LABEL_NAMES = (
    *("label", "labels", "target", "targets", "y"),
    *("class", "classes", "class_id", "class_ids", "class_label", "class_labels"),
)
_LOGIT_NAMES = ("logits", "logit", "output", "outputs", "out", "y_hat", "prediction", "predictions")


def find_labels(batch: object, n_samples: int) -> Tensor | None:
    """Return the class labels of a batch, int64 [N], or ``None`` if there are none.

    Args:
        batch: A mapping, dataclass or named tuple, in which usual names ("label", "y", …) are
            looked for; or a tuple or list, of which the first integers [N] are taken.
        n_samples: N, the number of images.
    """
    named = _named(batch)
    candidates = [named[name] for name in _LABEL_NAMES if name in named]
    if isinstance(batch, (tuple, list)):
        candidates += batch
    for candidate in candidates:
        is_labels = isinstance(candidate, Tensor) and not candidate.is_floating_point()
        if is_labels and candidate.shape == (n_samples,):
            labels: Tensor = candidate.long()
            return labels
    return None


def find_logits(output: object) -> Tensor | None:
    """Return the first tensor in what a module returned, or ``None`` if there is none.

    Args:
        output: A tensor; a mapping, dataclass or named tuple, in which usual names ("logits",
            "output", …) are looked for; or a tuple or list that begins with one of these.
    """
    if isinstance(output, Tensor):
        return output
    named = _named(output)
    children = [named[name] for name in _LOGIT_NAMES if name in named]
    if isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        children += output
    return next((found for found in map(find_logits, children) if found is not None), None)


def describe(value: object) -> str:
    """Return what something is, in words: a tensor's shape, or the names of what is in it."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor {list(value.shape)}"
    named = _named(value)
    return type(value).__name__ + (f" with {', '.join(map(str, named))}" if named else "")


def _named(value: object) -> Mapping[Any, Any]:
    """Return what is in a mapping, dataclass or named tuple, by name; nothing for others."""
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    return {}
