"""Samples of every kind come together into batches, or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from watched import FAST, TinyNet, dataset, fit, loader, trainer, watch

from filterwatch import StopTraining
from filterwatch.batches import join_samples, split_batch
from filterwatch.callbacks import AnomalyFilterCallback


@dataclass
class Samples:
    """A batch, or a sample, as a dataclass; the last field is not one entry a sample."""

    image: Any
    label: Any
    names: Any
    origin: Any


class Fields(NamedTuple):
    image: Any
    label: Any
    names: Any
    origin: Any


class OwnBatches(TinyNet):
    """A network that is trained on batches of any kind with these fields."""

    def loss(self, batch: Any) -> Tensor:
        return super().loss((batch.image, batch.label))


@pytest.mark.parametrize("kind", [Samples, Fields])
def test_streams_of_dataclass_and_named_tuple_batches_are_sampled(kind: Any) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            for images, labels in loader():
                yield kind(images, labels, [str(label) for label in labels], {"from": None})

    seen = []

    class Checked(AnomalyFilterCallback):
        def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
            assert isinstance(batch, kind)
            # Layers are found with the first samples of a batch, which leaves a list as it is.
            if len(batch.label) > 2:
                assert batch.names == [str(label) for label in batch.label]
                assert len(batch.image) == len(batch.names)
                seen.append(len(batch.label))
            return super().probe_step(pl_module, batch)

    callback = Checked(**FAST, batch_size=16)
    stream = DataLoader(Stream(), batch_size=None)
    trainer(callback, max_epochs=1).fit(OwnBatches(), stream, stream)
    assert callback.report is not None
    assert callback.report.n_samples == 40
    assert seen[-3:] == [16, 16, 8]


@dataclass(frozen=True)
class FrozenSamples:
    image: Any
    more: Any


def test_batches_taken_apart_come_together_again() -> None:
    images, numbers = torch.rand(5, 1, 4, 4), torch.arange(5)
    batch = FrozenSamples(images, {"pair": (numbers, numbers.double()), "words": list("abcde")})
    samples = list(split_batch(batch))
    assert len(samples) == 5
    assert samples[3].more["words"] == "d"
    assert samples[3].more["pair"] == (3, 3.0)
    joined = join_samples(samples)
    assert torch.equal(joined.image, images)
    assert torch.equal(joined.more["pair"][0], numbers)
    assert torch.equal(joined.more["pair"][1], numbers.double())
    assert joined.more["words"] == list("abcde")
    assert batch.image is images
    assert join_samples([None, None]) == [None, None]


class Uneven(Dataset[Any]):
    """Images in different sizes."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        image, label = dataset()[index]
        return image[:, : 8 - index % 3], label


class AnySize(TinyNet):
    """A network that takes images of any size, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


class UnevenStream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(DataLoader(Uneven(), 1))


@pytest.mark.parametrize(
    "validation", [DataLoader(Uneven(), 1), DataLoader(UnevenStream(), batch_size=None)]
)
def test_images_of_different_sizes_are_a_warning_and_training_goes_on(validation: Any) -> None:
    callback = watch(batch_size=16, print_summary=True)
    checked = EarlyStopping("anomaly_filters", patience=5)
    said = r"does not watch this fit; training goes on.*differ in size \(\[1, [678], 8\], .*Resize"
    fitted = trainer(callback, checked)
    with pytest.warns(UserWarning, match=said) as warned:
        fitted.fit(AnySize(), loader(seed=1), validation)
    assert sum("does not watch" in str(warning.message) for warning in warned) == 1
    assert fitted.current_epoch == 2
    assert callback.report is None
    assert callback.history == []
    # The next fit has images of one size.
    fit(callback, max_epochs=1)
    assert len(callback.history) == 1


@pytest.mark.parametrize("options", [{"strict": True}, {"action": StopTraining()}])
def test_images_of_different_sizes_are_an_error_where_more_hangs_on_them(options: Any) -> None:
    with pytest.raises(ValueError, match=r"differ in size.*Resize or crop them"):
        trainer(watch(**options)).fit(AnySize(), loader(seed=1), DataLoader(Uneven(), 1))


def test_samples_that_only_come_one_by_one_are_watched_one_by_one() -> None:
    class Boxes(Dataset[Any]):
        """Images of one size with labels that differ in number."""

        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            image, _ = dataset()[index]
            return image, torch.zeros(1 + index % 2)

    class Sum(TinyNet):
        def loss(self, batch: Any) -> Tensor:
            return self(batch[0]).square().mean()

    callback = watch()
    with pytest.warns(UserWarning, match=r"one by one, which is slow: .*batches of 64.*collate_fn"):
        trainer(callback, max_epochs=1).fit(Sum(), loader(seed=1), DataLoader(Boxes(), 1))
    assert callback.report is not None
    assert callback.report.n_samples == 40
