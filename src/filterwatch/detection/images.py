"""Finding the images in whatever a DataLoader yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass

from torch import Tensor

# Tried in this order before any other key of a dict batch.
_IMAGE_KEYS = ("image", "images", "img", "imgs", "x", "input", "inputs", "pixel_values", "data")


def find_images(batch: object) -> Tensor:
    """Return the images of a batch: the first 4-D floating-point tensor in it.

    Args:
        batch: A tensor [B, C, H, W]; or a tuple, list, mapping or dataclass that holds one, nested
            or not. In a mapping the usual names ("image", "x", "pixel_values", …) go first.

    Raises:
        ValueError: If there is none; the message says what was found instead.
    """
    images = _search(batch)
    if images is None:
        raise ValueError(
            f"found no images, a 4-D floating-point tensor, in a batch of {_describe(batch)}: "
            "convert the images to float tensors [B, C, H, W], or say how a batch goes through the "
            "model (`probe_step` of the callback, `forward` of detect_anomaly_filters)"
        )
    return images


def _search(batch: object) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim == 4 and batch.is_floating_point() else None
    if is_dataclass(batch) and not isinstance(batch, type):
        batch = asdict(batch)
    if isinstance(batch, Mapping):
        first = [batch[key] for key in _IMAGE_KEYS if key in batch]
        children = [*first, *batch.values()]
    elif isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        children = list(batch)
    else:
        return None
    return next((found for found in map(_search, children) if found is not None), None)


def _describe(batch: object) -> str:
    if isinstance(batch, Tensor):
        return f"{batch.dtype} tensor {list(batch.shape)}"
    if isinstance(batch, Mapping):
        inside = ", ".join(f"{key!r}: {_describe(value)}" for key, value in batch.items())
        return f"{{{inside}}}"
    if isinstance(batch, (tuple, list)):
        shown = [_describe(value) for value in batch[:4]] + ["…"] * (len(batch) > 4)
        return f"{type(batch).__name__}({', '.join(shown)})"
    return type(batch).__name__
