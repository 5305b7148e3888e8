"""Which samples a probe takes of a data set, chosen without reading a single image."""

from __future__ import annotations

import copy
import operator
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from filterwatch.batches import as_batches, as_pair, as_tensor, join_samples, split_batch
from filterwatch.datamodules import seeded_generator, stratified_split
from filterwatch.observing import preserved_random_state

T = TypeVar("T")

# Of a stream at most this many times the probe's size is read: it may have no end.
STREAM_FACTOR = 50


def take_samples(
    samples: Any,
    *,
    size: int,
    batch_size: int,
    seed: int,
    name: str,
    like: torch.Tensor | None = None,
) -> tuple[list[Any], list[int] | None]:
    """Take samples, without a trace in the global random state.

    Args:
        samples: Images, (images, labels), a data set, or batches; see `as_batches`.
        size: How many; a source with fewer is taken whole.
        batch_size: Number of samples in a batch of the result.
        seed: Seed of the choice.
        name: What they are called in messages.
        like: Labels of other samples [N], whose classes are wanted in the same numbers.

    Returns:
        The samples in batches, and their indices in the source, ascending; ``None`` for a stream.

    Raises:
        TypeError: If they are no samples.
        ValueError: If there are none.
    """
    pair, images = as_pair(samples, name), as_tensor(samples)
    if pair is not None:
        samples = TensorDataset(*pair)
    elif isinstance(images, torch.Tensor):
        samples = TensorDataset(images)
    if isinstance(samples, Dataset) and not isinstance(samples, IterableDataset):
        samples = DataLoader(samples)
    with preserved_random_state(seed):
        collate: Any = join_samples
        chosen: list[int] | None = None
        if has_indexed_samples(samples):
            dataset: Any = samples.dataset
            pool, labels, collate = (
                sample_pool(samples),
                dataset_labels(dataset),
                samples.collate_fn,
            )
            if like is None:
                chosen = choose_samples(pool, labels, size, seed)
            else:
                chosen = choose_like(pool, labels, Counter(like.tolist()), size, seed)
            taken: Any = Subset(dataset, chosen)
        else:
            batches = as_batches(samples, batch_size, name)
            stream = (sample for batch in batches for sample in split_batch(batch))
            taken = reservoir(stream, size, seed=seed, limit=STREAM_FACTOR * size)
        if not len(taken):
            raise ValueError(f"{name} holds no samples")
        generator = torch.Generator()
        loader = DataLoader(taken, batch_size, collate_fn=collate, generator=generator)
        return list(loader), chosen


def has_indexed_samples(loader: object) -> TypeGuard[DataLoader[Any]]:
    """Return whether a loader makes its batches of samples that have an index."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_sampler is not None
    )


def choose_samples(
    pool: Sequence[int], labels: np.ndarray[Any, Any] | None, size: int, seed: int
) -> list[int]:
    """Choose samples at random, the classes in proportion, and return their indices, ascending.

    Args:
        pool: Indices to choose from; one of no more than ``size`` is taken whole.
        labels: Label of every sample of the data set, which ``pool`` indexes, if they are known.
        size: How many to choose.
        seed: Seed of the choice.
    """
    if len(pool) <= size:
        return sorted(pool)
    if labels is None:
        codes = torch.zeros(len(pool), dtype=torch.int64)
    else:
        codes = torch.from_numpy(np.unique(labels[list(pool)], return_inverse=True)[1])
    chosen, _ = stratified_split(codes, [size, len(pool) - size], seeded_generator(seed))
    return sorted(pool[position] for position in chosen.tolist())


def choose_like(
    pool: Sequence[int],
    labels: np.ndarray[Any, Any] | None,
    wanted: Mapping[Any, int],
    size: int,
    seed: int,
) -> list[int]:
    """Choose samples at random, so many of each class, and return their indices, ascending.

    Where labels are not known, or are others than those that are wanted, ``size`` samples are
    chosen whatever their class.

    Args:
        pool: Indices to choose from.
        labels: Label of every sample of the data set, which ``pool`` indexes, if they are known.
        wanted: Number of samples by class; of a smaller class all are taken.
        size: How many to choose where classes do not matter.
        seed: Seed of the choice.
    """
    order = torch.randperm(len(pool), generator=seeded_generator(seed)).tolist()
    left = Counter(dict(wanted)) if labels is not None else Counter()
    chosen = []
    for place in order:
        index = pool[place]
        label = None if labels is None else labels[index].item()
        if left[label] > 0:
            left[label] -= 1
            chosen.append(index)
    if len(chosen) < min(size, len(pool)) // 2:
        chosen = [pool[place] for place in order[:size]]
    return sorted(chosen)


def reservoir(stream: Iterable[T], size: int, *, seed: int, limit: int) -> list[T]:
    """Choose items of a stream at random in one pass, each with the same probability.

    At most ``limit`` items are read, for a stream may have no end; a short one is taken whole.
    """
    generator = random.Random(seed)
    kept: list[T] = []
    for position, item in enumerate(islice(stream, limit)):
        if len(kept) < size:
            kept.append(item)
        elif (slot := generator.randrange(position + 1)) < size:
            kept[slot] = item
    return kept


def sample_pool(loader: DataLoader[Any]) -> Sequence[int]:
    """Return the indices of the samples that a loader draws from.

    A sampler may confine a loader to part of its data set, as when training and validation share
    one: samples outside that part may be training data. A sampler that gives each process its
    shard stands for the whole.
    """
    sampler: Any = loader.batch_sampler
    while not isinstance(sampler, (SequentialSampler, RandomSampler)):
        if isinstance(sampler, DistributedSampler):
            if sampler.dataset is loader.dataset:
                return range(len(sampler.dataset))  # type: ignore[arg-type]
            # The user's own, inside the wrapper with which Lightning shards it.
            sampler = sampler.dataset._sampler  # type: ignore[attr-defined]
        elif isinstance(sampler, SubsetRandomSampler):
            return sorted({operator.index(index) for index in sampler.indices})
        elif hasattr(sampler, "sampler"):
            sampler = sampler.sampler
        else:
            dataset: Any = loader.dataset
            with suppress(Exception):  # one that cannot be copied is run through itself
                sampler = copy.deepcopy(sampler, {id(dataset): dataset})
            return _indices_drawn_by(sampler, limit=len(dataset))
    return range(len(sampler.data_source))


def dataset_labels(dataset: object) -> np.ndarray[Any, Any] | None:
    """Return the label of every sample [N], or ``None`` where they cannot be had without images.

    They are the attribute ``targets`` or ``labels``, the last tensor of a ``TensorDataset``, or
    those of the parts of a ``Subset`` or ``ConcatDataset``. Only classes count: real-valued
    targets and several labels a sample give ``None``.
    """
    if isinstance(dataset, Subset):
        labels = dataset_labels(dataset.dataset)
        return None if labels is None else labels[list(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_labels(part) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None
    if isinstance(dataset, TensorDataset):
        return _as_labels(dataset.tensors[-1], len(dataset))
    for name in ("targets", "labels"):
        labels = _as_labels(getattr(dataset, name, None), len(dataset))  # type: ignore[arg-type]
        if labels is not None:
            return labels
    return None


def _as_labels(values: object, n_samples: int) -> np.ndarray[Any, Any] | None:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    try:
        labels = np.asarray(values)
    except ValueError:  # lists of unequal lengths
        return None
    return labels if labels.shape == (n_samples,) and labels.dtype.kind in "biuU" else None


def _indices_drawn_by(sampler: Any, *, limit: int) -> list[int]:
    """Run through a sampler, of single indices or of batches of them, and leave it as it was."""
    generator = getattr(sampler, "generator", None)
    if not isinstance(generator, torch.Generator):
        generator = torch.Generator()
    state = generator.get_state()
    drawn = list(islice(sampler, limit))
    generator.set_state(state)
    batches = (item if isinstance(item, Sequence) else [item] for item in drawn)
    return sorted({operator.index(index) for index in chain.from_iterable(batches)})
