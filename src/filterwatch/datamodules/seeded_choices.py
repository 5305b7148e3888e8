"""Seeded choices over labeled samples: splits, balanced subsets, label noise.

Pure functions of labels and a generator. Each orders or changes *all* samples and then takes a
prefix, so that a larger subset contains the smaller one, and more noise contains less of it.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What random numbers are for: one seed gives each purpose a stream of its own."""

    SPLIT = 0
    TRAIN_SUBSET = 1
    LABEL_NOISE = 2
    PROBE = 3
    ORDER = 4
    AUGMENTATION = 5
    WORKERS = 6


def seeded_generator(*key: int) -> torch.Generator:
    """Return a CPU generator whose state depends on every number of ``key`` and nothing else.

    Keys, of non-negative integers, that differ anywhere give statistically independent streams.
    """
    state = np.random.SeedSequence([int(part) for part in key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def stratified_split(
    labels: Tensor, sizes: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Split samples at random into parts that each hold the classes in the same proportions.

    The samples of one part are in random order with the classes interleaved, so the first ones of
    a part are a stratified sample again. An earlier part does not depend on the sizes after it.

    Args:
        labels: Class of each sample, int64 ``[N]``.
        sizes: Number of samples of each part; together ``N``.
        generator: Source of all randomness.

    Returns:
        For each size, positions into ``labels``, int64 ``[size]``.

    Raises:
        ValueError: If a size is negative or the sizes do not add up to ``N``.
    """
    if min(sizes) < 0 or sum(sizes) != len(labels):
        raise ValueError(
            f"sizes={list(sizes)} must be non-negative and add up to the {len(labels)} samples"
        )
    order, rank, class_size = _shuffled_ranks(labels, generator)
    quantile = (rank + 0.5) / class_size  # [N], how far into its class a sample comes
    return list(order[quantile.argsort(stable=True)].split(list(sizes)))


def class_balanced_subset(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Choose samples of labels [N] at random, as many of each class as of every other.

    A class with too few samples gives all of them, and the other classes give the rest. Where
    ``size`` is no multiple of the number of classes, some random classes give one more.

    Returns:
        Positions into ``labels``, int64 ``[size]``, with the classes interleaved.

    Raises:
        ValueError: If ``size`` is below 1 or above the number of samples.
    """
    if not 1 <= size <= len(labels):
        raise ValueError(f"size={size} must be between 1 and the {len(labels)} samples there are")
    order, rank, _ = _shuffled_ranks(labels, generator)
    return order[rank.argsort(stable=True)][:size]


def add_label_noise(
    labels: Tensor, fraction: float, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Give ``round(fraction * N)`` samples another class, drawn uniformly from the wrong ones.

    Args:
        labels: Class of each sample, int64 ``[N]``, values below ``num_classes``; not changed.
        fraction: Share of the labels to change, in ``[0, 1)``.
        num_classes: How many classes there are, at least 2 where anything is to change.
        generator: Source of all randomness.

    Raises:
        ValueError: If ``fraction`` is out of range or there is no other class.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction={fraction} must be at least 0 and below 1")
    if fraction > 0 and num_classes < 2:
        raise ValueError(f"label noise needs a second class, but num_classes={num_classes}")
    order = torch.randperm(len(labels), generator=generator)
    # Drawn for every sample, so that the wrong class of a sample does not depend on the fraction.
    shift = torch.randint(1, max(num_classes, 2), labels.shape, generator=generator)
    changed = order[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[changed] = (labels[changed] + shift[changed]) % num_classes
    return noisy


def _shuffled_ranks(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random order and, in that order, each sample's rank in its class and that's size."""
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    class_sizes = shuffled.bincount()
    class_starts = class_sizes.cumsum(0) - class_sizes
    by_class = shuffled.argsort(stable=True)
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - class_starts[shuffled[by_class]]
    return order, rank, class_sizes[shuffled]
