"""Labelled images as a data set that is read in batches."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from filterwatch.datamodules.preprocessing import Preprocessing
from filterwatch.datamodules.sources import ImageSource


@dataclass(frozen=True, eq=False)
class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """A selection of an image source, with labels, as the network sees it.

    A DataLoader fetches whole batches (``__getitems__``), so resizing and normalising cost one
    tensor operation a batch. A sample is a pair of float32 ``[C, H, W]`` and an int64 scalar.

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

    @classmethod
    def of(
        cls, source: ImageSource, labels: Tensor, preprocessing: Preprocessing
    ) -> "ImageDataset":
        """Return all images of ``source`` with their true ``labels`` (int64 ``[N]``)."""
        return cls(source, torch.arange(len(source)), labels, labels, preprocessing)

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
