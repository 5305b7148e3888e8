"""Labeled images as a data set that is read in batches, and the loaders of such batches."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from filterwatch.datamodules.preprocessing import Preprocessing
from filterwatch.datamodules.seeded_choices import Stream, seeded_generator
from filterwatch.datamodules.stored_images import ImageSource


@dataclass(frozen=True, eq=False)
class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """A selection of an image source, with labels, as the network sees it.

    A DataLoader fetches whole batches (``__getitems__``): resizing and normalizing cost one
    operation a batch. A sample is a pair of float32 ``[C, H, W]`` and an int64 scalar.

    Attributes:
        source: The stored images.
        indices: Rows of ``source`` that this data set holds, int64 ``[N]``.
        labels: Class of each, as training sees it (with label noise), int64 ``[N]``.
        true_labels: Class of each without label noise, int64 ``[N]``.
        preprocessing: What brings stored images to the network.
    """

    source: ImageSource
    indices: Tensor
    labels: Tensor
    true_labels: Tensor
    preprocessing: Preprocessing

    @property
    def is_mislabelled(self) -> Tensor:
        """Which labels were replaced by label noise, bool ``[N]``."""
        return self.labels != self.true_labels

    def select(self, positions: Tensor) -> "ImageDataset":
        """Return the samples at ``positions`` (int64 ``[M]``) of this data set, in that order."""
        return replace(
            self,
            indices=self.indices[positions],
            labels=self.labels[positions],
            true_labels=self.true_labels[positions],
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the samples at ``positions``, prepared together."""
        chosen = torch.as_tensor(positions)
        rows = self.indices[chosen]
        images = self.preprocessing(self.source.read(rows), rows)
        # A list of samples rather than two tensors: any wrapper or collate function can take it,
        # and collating views costs less than a tenth of a millisecond a batch.
        return list(zip(images.unbind(), self.labels[chosen].unbind(), strict=True))


class EpochSampler(RandomSampler):
    """Shuffle anew in each epoch, in an order that depends on the seed and the epoch alone.

    Lightning calls :meth:`set_epoch` before each epoch; without it the sampler counts how often
    it was iterated. A subclass of ``RandomSampler`` because Lightning replaces such a one by a
    shuffling ``DistributedSampler`` when there are several processes.
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


class DeferredDataLoader(DataLoader[tuple[Tensor, Tensor]]):
    """A DataLoader that asks its sampler for the order when the first batch is wanted.

    When a run is resumed, Lightning creates the iterator before it sets the sampler's epoch.
    Workers that fetch ahead from that moment on would repeat the order of another epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Iterate over the batches of one epoch."""
        yield from super().__iter__()
