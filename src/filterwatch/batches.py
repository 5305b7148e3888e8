"""Reading batches of any kind: their images, labels and logits; cutting, splitting, joining them.

What a loader yields, and what a module returns, is a tensor or a container: a tuple, list, mapping
(a Hugging Face ``BatchEncoding`` is one), named tuple, dataclass, or another object that can be
moved by ``.to()``, of such, nested or not. All of it is read here, and here alone. A NumPy array
is as good as a tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

# Looked at in this order before anything else.
_IMAGE_NAMES = ("image", "images", "img", "imgs", "x", "input", "inputs", "pixel_values", "data")
_LABEL_NAMES = (
    *("label", "labels", "target", "targets", "y", "class", "classes"),
    *("class_id", "class_ids", "class_label", "class_labels", "target_class"),
    *("fine_label", "coarse_label"),
)
_LOGIT_NAMES = ("logits", "logit", "output", "outputs", "out", "y_hat", "prediction", "predictions")

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# Images [N, C, H, W], (images, labels), a data set, or batches; see `as_batches`.
Samples = Tensor | np.ndarray[Any, Any] | Dataset[Any] | Iterable[Any]

# Returns the place of a name among those that are wanted; `_LAST` for any other.
_Rank = Callable[[object], int]
_LAST = 1000


def as_tensor(values: Any) -> Any:
    """Return a NumPy array of numbers as a tensor, doubles in torch's default type.

    A double is what NumPy makes of any arithmetic, and not what a network works with. Anything else
    is returned as it is.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        return values
    tensor = torch.from_numpy(np.require(values, requirements=("C", "W")))
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def as_pair(samples: object, name: str) -> tuple[Tensor, Tensor] | None:
    """Return (images [N, …], labels [N]), tensors or arrays, as tensors; ``None`` for all else.

    Raises:
        ValueError: If there are not as many of both.
    """
    if not isinstance(samples, (tuple, list)) or len(samples) != 2:
        return None
    images, labels = map(as_tensor, samples)
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        return None
    if images.ndim != 4 or labels.ndim == 4:
        return None
    if len(images) != len(labels):
        raise ValueError(
            f"{name} has {len(images)} images and {len(labels)} labels: pass as many of both"
        )
    return images, labels


def as_batches(samples: object, batch_size: int, name: str) -> Iterable[Any]:
    """Return samples in batches, whatever they are given as.

    Args:
        samples: Images [N, C, H, W], or (images, labels), as tensors or NumPy arrays; a data set; a
            DataLoader, whose samples come in the order of its data set, which indices are about,
            where it shuffles them all; or an iterable of batches, which is returned as it is.
        batch_size: Samples in a batch, where they do not come in batches.
        name: What the samples are called in messages.

    Raises:
        TypeError: If they are nothing of the kind.
        ValueError: If there are not as many images as labels.
    """
    images = as_tensor(samples)
    if isinstance(images, Tensor):
        return list(images.split(batch_size))
    pair = as_pair(samples, name)
    if pair is not None:
        return list(zip(*(part.split(batch_size) for part in pair), strict=True))
    if isinstance(samples, Dataset):
        # A generator of its own: a DataLoader draws from the global one otherwise.
        loader: DataLoader[Any] = DataLoader(samples, batch_size, generator=torch.Generator())
        return loader
    if isinstance(samples, DataLoader) and _shuffles(samples.sampler):
        return DataLoader(
            samples.dataset,
            batch_size=samples.batch_size,
            collate_fn=samples.collate_fn,
            num_workers=samples.num_workers,
            worker_init_fn=samples.worker_init_fn,
            generator=torch.Generator(),
        )
    if isinstance(samples, (str, Mapping, nn.Module)) or not isinstance(samples, Iterable):
        raise TypeError(
            f"{name}={describe(samples)} is no data: pass images [N, C, H, W] or (images, labels) "
            "as tensors or arrays, a data set, or a DataLoader or another iterable of batches"
        )
    return samples


def _shuffles(sampler: object) -> bool:
    """Return whether a sampler draws every sample once, in random order."""
    return (
        isinstance(sampler, RandomSampler)
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )


def channels_last_remedy(images: Tensor) -> str | None:
    """Return what to do with images [N, H, W, C]; ``None`` where channels seem to come first."""
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or min(images.shape[1:3]) <= 4:
        return None
    return (
        f"{list(images.shape)} looks like [N, H, W, C], and channels come first in torch: pass "
        "images.permute(0, 3, 1, 2)"
    )


def find_images(batch: object) -> Tensor:
    """Return the images of a batch: the first 4-D floating-point tensor in it.

    Args:
        batch: A tensor [B, C, H, W] or a container that holds one. Among names, the usual ones
            ("image", "x", "pixel_values", …) go first.

    Raises:
        ValueError: If there is none; the message says what was found instead.
    """
    for tensor in _tensors(batch, _rank_in(_IMAGE_NAMES), unwanted_too=True):
        if tensor.ndim == 4 and tensor.is_floating_point():
            return tensor
    raise ValueError(
        f"found no images, a 4-D floating-point tensor, in a batch of {describe(batch)}: "
        f"{_image_remedy(batch)}, or say how a batch goes through the model (`probe_step` of the "
        "callback, `forward` of detect_anomaly_filters)"
    )


def _image_remedy(batch: object) -> str:
    """Return what makes images of what is in a batch."""
    entries = [batch, *(entry for _, entry in _contents(batch) or ())]
    if any(type(entry).__module__.partition(".")[0] == "PIL" for entry in entries):
        return (
            "make one tensor of all pictures, of one size, prepared as for training: "
            "torch.stack([transform(picture) for picture in pictures])"
        )
    for tensor in _tensors(batch, _rank_in(_IMAGE_NAMES), unwanted_too=True):
        if tensor.ndim == 4:
            moved = "" if channels_last_remedy(tensor) is None else ".permute(0, 3, 1, 2)"
            return (
                "scale integers as in training, for instance to the range from 0 to 1: "
                f"images{moved}.float() / 255"
            )
        if tensor.ndim == 3 and tensor.is_floating_point():
            return "single images become a batch by torch.stack(images) or images.unsqueeze(0)"
    return "convert the images to float tensors [B, C, H, W]"


def find_labels(batch: object, n_samples: int) -> Tensor | None:
    """Return the class labels of a batch, int64 [N], or ``None`` if there are none.

    Args:
        batch: A container: integers [N] under a usual name ("label", "y", "fine_label", …), or the
            first ones behind the images in a tuple or list; before the images stands an index, as
            in (index, images, labels), unless there are none behind.
        n_samples: N, the number of images.
    """
    before = None
    behind_images = False
    for tensor in _tensors(batch, _rank_in(_LABEL_NAMES)):
        if tensor.ndim == 4 and tensor.is_floating_point():
            behind_images = True
        elif tensor.shape == (n_samples,) and tensor.dtype in _INTEGERS:
            if behind_images:
                return tensor.long()
            before = tensor if before is None else before
    return None if before is None else before.long()


def find_logits(output: object, n_samples: int) -> Tensor | None:
    """Return the logits [N, classes] in what a module returned, or ``None`` if there are none.

    Args:
        output: A tensor, or a container: logits under one of the usual names ("logits", "output",
            …), or the first ones in a tuple or list. ``None`` is returned, too, where several of
            different width stand there side by side, as in (features, logits): nothing tells which
            are the logits.
        n_samples: N, the number of images.
    """
    found = logit_candidates(output, n_samples)
    nameless = isinstance(output, (tuple, list)) and not hasattr(output, "_fields")
    if nameless and len({tensor.shape[1] for tensor in found}) > 1:
        return None
    return found[0] if found else None


def logit_candidates(output: object, n_samples: int) -> list[Tensor]:
    """Return all tensors [N, K] that may be logits in what a module returned, the likely first."""
    return [
        tensor
        for tensor in _tensors(output, _rank_in(_LOGIT_NAMES))
        if tensor.ndim == 2 and len(tensor) == n_samples and tensor.is_floating_point()
    ]


def count_samples(batch: object) -> int:
    """Return the number of images in a batch; raises ``ValueError`` where there are none."""
    return len(find_images(batch))


def first_samples(batch: Any, n_samples: int) -> Any:
    """Cut a batch to its first samples; what does not have one entry a sample stays whole."""
    return _take(batch, slice(n_samples), count_samples(batch))


def few_samples(batch: Any) -> Any:
    """Return two samples of a batch, or all of one whose images are not found."""
    try:
        return first_samples(batch, 2)
    except ValueError:
        return batch


def split_batch(batch: Any) -> Iterator[Any]:
    """Yield the samples of a batch; what does not have one entry a sample is in each as it is."""
    n_samples = count_samples(batch)
    return (_take(batch, index, n_samples) for index in range(n_samples))


def join_samples(samples: Sequence[Any]) -> Any:
    """Return samples, as `split_batch` yields them, as one batch.

    Does what ``default_collate`` does, in containers of the kind that the samples are, and makes
    lists of values that are no data (``None``, for instance).
    """
    parts = [_contents(sample) for sample in samples]
    if parts[0] is None:
        try:
            return default_collate(list(samples))
        except TypeError:  # of a type that it does not know
            return list(samples)
    values = [[value for _, value in part] for part in parts if part is not None]
    return _rebuilt(samples[0], [join_samples(column) for column in zip(*values, strict=True)])


def describe(value: object) -> str:
    """Return what something is, in words: a tensor's type and shape, or what is in a container."""
    if isinstance(value, Tensor):
        return f"{value.dtype} tensor {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array {list(value.shape)}"
    contents = _contents(value)
    if contents is None:
        return type(value).__name__
    shown = [
        describe(entry) if name is None else f"{name!r}: {describe(entry)}"
        for name, entry in contents
    ]
    if isinstance(value, Mapping):
        return f"{{{', '.join(shown)}}}"
    return f"{type(value).__name__}({', '.join(shown[:4] + ['…'] * (len(shown) > 4))})"


def _contents(value: object) -> list[tuple[object, Any]] | None:
    """Return what is in a container, with names where it has any; ``None`` for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(None, entry) for entry in value]
    movable = callable(getattr(value, "to", None)) and not isinstance(value, (Tensor, nn.Module))
    return list(vars(value).items()) if movable and hasattr(value, "__dict__") else None


def _rebuilt(container: Any, values: Sequence[Any]) -> Any:
    """Return a container like another one, with other contents in the same order."""
    if isinstance(container, tuple):
        return type(container)(*values) if hasattr(container, "_fields") else tuple(values)
    if isinstance(container, list):
        return list(values)
    rebuilt = copy.copy(container)
    if isinstance(container, Mapping):
        try:
            for name, value in zip(container, values, strict=True):
                rebuilt[name] = value
        except TypeError:  # it may not be changed
            return dict(zip(container, values, strict=True))
        return rebuilt
    for (name, _), value in zip(_contents(container) or [], values, strict=True):
        object.__setattr__(rebuilt, str(name), value)  # it may be frozen
    return rebuilt


def _rank_in(names: Sequence[str]) -> _Rank:
    return lambda name: names.index(name) if name in names else _LAST


def _tensors(
    value: object, rank: _Rank, *, wanted: bool = True, unwanted_too: bool = False
) -> Iterator[Tensor]:
    """Yield the tensors in a value, those under wanted names first.

    Args:
        value: A container, or a tensor.
        rank: Ranks names.
        wanted: Whether the value has no name that is not wanted. What is in it and has none is
            wanted like itself.
        unwanted_too: Whether to yield the tensors that are not wanted as well, at the end.
    """
    value = as_tensor(value)
    if isinstance(value, Tensor):
        if wanted or unwanted_too:
            yield value
        return
    entries = []
    for name, entry in _contents(value) or []:
        nameless = 0 if wanted else _LAST
        entries.append((nameless if name is None else rank(name), entry))
    for place, entry in sorted(entries, key=lambda found: found[0]):
        yield from _tensors(entry, rank, wanted=place < _LAST, unwanted_too=unwanted_too)


def _take(value: Any, index: int | slice, n_samples: int) -> Any:
    """Return one or some of the samples in a container, or in a tensor with one entry a sample."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value[index] if value.ndim and len(value) == n_samples else value
    contents = _contents(value)
    if contents is None:
        return value
    entries = [entry for _, entry in contents]
    holds_tensors = any(isinstance(entry, Tensor) for entry in entries)
    if isinstance(value, (tuple, list)) and len(entries) == n_samples and not holds_tensors:
        return value[index]  # words, for instance
    return _rebuilt(value, [_take(entry, index, n_samples) for entry in entries])
