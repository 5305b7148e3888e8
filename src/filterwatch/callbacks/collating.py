"""Taking batches apart into samples, and putting samples together into batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from filterwatch.detection.images import find_images


class UnequalImagesError(ValueError):
    """The images of a probe differ in size, so that their feature maps cannot be compared."""


def split_batch(batch: Any) -> Iterator[Any]:
    """Yield the samples of a batch; what does not have one entry a sample is in each as it is.

    Args:
        batch: A tensor [B, …], or a tuple, list, mapping, named tuple or dataclass of such, nested
            or not, with images in it.
    """
    n_samples = len(find_images(batch))
    return (_select(batch, index, n_samples) for index in range(n_samples))


def join_samples(samples: Sequence[Any]) -> Any:
    """Return samples, as `split_batch` yields them, as one batch.

    Does what ``default_collate`` does, and knows dataclasses and values that are no data (``None``,
    for instance), of which it makes lists.
    """
    first = samples[0]
    if is_dataclass(first) and not isinstance(first, type):
        joined = copy.copy(first)
        for field in fields(first):
            values = [getattr(sample, field.name) for sample in samples]
            object.__setattr__(joined, field.name, join_samples(values))  # it may be frozen
        return joined
    if isinstance(first, Mapping):
        return {key: join_samples([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        return _like(first, [join_samples(values) for values in zip(*samples, strict=True)])
    try:
        return default_collate(list(samples))
    except TypeError:  # of a type that it does not know
        return list(samples)


def batches_of(samples: Any, collate: Any, batch_size: int) -> tuple[list[Any], Any]:
    """Return samples in batches on the CPU, and a batch of the first one or two.

    Samples that cannot be put together, because their labels differ in size for instance, are
    batches of one each, and that is said.

    Args:
        samples: A map-style data set, or a list.
        collate: Makes a batch of a list of samples.
        batch_size: Number of samples in a batch.

    Raises:
        UnequalImagesError: If their images differ in size.
    """

    def batches(size: int) -> Iterator[Any]:
        # A generator of its own: a DataLoader draws from the global one otherwise.
        loader = DataLoader(
            samples, batch_size=size, collate_fn=collate, generator=torch.Generator()
        )
        return (move_data_to_device(batch, torch.device("cpu")) for batch in loader)

    try:
        whole, first = list(batches(batch_size)), next(batches(2), None)
    except (RuntimeError, TypeError, ValueError) as error:
        whole = list(batches(1))  # what is wrong with a single sample is raised here
        _check_sizes(whole)
        rank_zero_warn(
            f"AnomalyFilterCallback sends the samples of the probe through the network one by one, "
            f"which is slow: they cannot be put together into batches of {batch_size} "
            f"({type(error).__name__}: {error}). Give the loader a collate_fn that can"
        )
        return whole, whole[0]
    _check_sizes(whole)
    return whole, first


def _check_sizes(batches: Sequence[Any]) -> None:
    try:
        sizes = dict.fromkeys(tuple(find_images(batch).shape[1:]) for batch in batches)
    except ValueError:
        return  # a batch of another kind: `probe_step` knows what to do with it
    if len(sizes) > 1:
        shown = ", ".join(str(list(size)) for size in list(sizes)[:3])
        raise UnequalImagesError(
            f"the probe's images differ in size ({shown}{', …' if len(sizes) > 3 else ''}), and "
            "only feature maps of one size can be compared. Resize or crop them to one size in the "
            "transform of the validation data, or pass images that are alike as probe=…"
        )


def _select(batch: Any, index: int, n_samples: int) -> Any:
    if isinstance(batch, Tensor):
        return batch[index] if batch.ndim and len(batch) == n_samples else batch
    if is_dataclass(batch) and not isinstance(batch, type):
        sample = copy.copy(batch)
        for field in fields(batch):
            value = _select(getattr(batch, field.name), index, n_samples)
            object.__setattr__(sample, field.name, value)
        return sample
    if isinstance(batch, Mapping):
        return {key: _select(value, index, n_samples) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        holds_tensors = any(isinstance(value, Tensor) for value in batch)
        if len(batch) == n_samples and not holds_tensors:
            return batch[index]
        return _like(batch, [_select(value, index, n_samples) for value in batch])
    return batch


def _like(original: Sequence[Any], values: list[Any]) -> Any:
    """Return values as a named tuple, if the original is one, else as a tuple."""
    return type(original)(*values) if hasattr(original, "_fields") else tuple(values)
