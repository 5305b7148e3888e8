"""Data loaders whose order can be repeated and that leave the global random state alone."""

from collections.abc import Iterator, Sized
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, RandomSampler

from filterwatch.datamodules.sampling import Stream, seeded_generator

T_co = TypeVar("T_co", covariant=True)


class EpochSampler(RandomSampler):
    """Shuffle anew in each epoch, in an order that depends on the seed and the epoch alone.

    Lightning calls :meth:`set_epoch` before each epoch; without it the sampler counts how often
    it was iterated. A subclass of ``RandomSampler`` because Lightning replaces such a one by a
    shuffling ``DistributedSampler`` when there are several processes.

    Args:
        data_source: What to sample from; only its length, at least 1, is used.
        seed: Seed of the order, non-negative.
    """

    def __init__(self, data_source: Sized, seed: int) -> None:
        super().__init__(data_source)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration give the order of ``epoch``, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = seeded_generator(self.seed, Stream.ORDER, self.epoch)
        self.epoch += 1
        return iter(torch.randperm(len(self.data_source), generator=generator).tolist())


class DeferredDataLoader(DataLoader[T_co]):
    """A DataLoader that asks its sampler for the order when the first batch is wanted.

    When a run is resumed, Lightning creates the iterator before it tells the sampler which epoch
    it is. Workers that fetch ahead from that moment on would repeat the order of another epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Iterate over the batches of one epoch."""
        yield from super().__iter__()
