"""Data sets that torchvision downloads."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from filterwatch.datamodules.base import ImageDataModule, LabelledImages, Split
from filterwatch.datamodules.sources import MemoryImages


class DownloadedDataModule(ImageDataModule):
    """A data set of torchvision with official training and test images, kept in memory.

    It is downloaded on first use, with a progress bar. Archives that are already in place are
    unpacked, and unpacked files used as they are.

    Args:
        root: Folder to download to and read from.
        **options: Arguments of :class:`ImageDataModule`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or ``root`` is a file.
    """

    dataset_class: ClassVar[Any]
    """The class in :mod:`torchvision.datasets`."""

    def __init__(self, root: str = "data", **options: Any) -> None:
        super().__init__(**options)
        self.root = str(Path(root).expanduser())
        if Path(self.root).is_file():
            raise ValueError(f"root={root!r} is a file: pass a folder")

    @property
    @abstractmethod
    def urls(self) -> Sequence[str]:
        """Where the archives are downloaded from."""

    @property
    @abstractmethod
    def archive_folder(self) -> Path:
        """Folder in which the archives are looked for."""

    @abstractmethod
    def to_tensor(self, data: Any) -> Tensor:
        """Bring torchvision's ``data`` to uint8 ``[N, C, H, W]``."""

    def prepare_data(self) -> None:
        """Download and unpack what is missing.

        Raises:
            RuntimeError: The download failed; the message says what to put where by hand.
        """
        try:
            self._open(train=True, download=True)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"{self.dataset_class.__name__} is not in {self.root!r} and could not be "
                f"downloaded ({error}).\n{self._by_hand()}"
            ) from error

    def load_split(self, split: Split) -> LabelledImages | None:
        """Read the images of ``split``.

        Raises:
            RuntimeError: The files are not there or damaged.
        """
        if split == "val":
            return None
        try:
            dataset = self._open(train=split == "train", download=False)
        except RuntimeError as error:
            raise RuntimeError(
                f"{self.dataset_class.__name__} is missing or damaged in {self.root!r}: call "
                f"prepare_data() to download it.\n{self._by_hand()}"
            ) from error
        labels = torch.as_tensor(dataset.targets, dtype=torch.int64)
        return LabelledImages(MemoryImages(self.to_tensor(dataset.data)), labels)

    def _open(self, train: bool, download: bool) -> Any:
        """Return torchvision's data set."""
        return self.dataset_class(self.root, train=train, download=download)

    def _by_hand(self) -> str:
        """Say how to get the data without this machine's network."""
        return "\n".join(
            [
                "Without network access, download",
                *(f"    {url}" for url in self.urls),
                "elsewhere and put what you get, without unpacking it, into the folder",
                f"    {self.archive_folder.resolve()}",
                "or name the folder that has it: root=…",
            ]
        )
