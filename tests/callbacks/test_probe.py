"""Where the probe comes from, and that taking it changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler
from watched import FAST, TinyNet, TrainOnly, dataset, fit, loader, numbers, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback


class Taken(Callback):
    """Keeps what the callback before it in the list took."""

    def __init__(self, callback: AnomalyFilterCallback) -> None:
        self.callback = callback
        self.numbers: list[int] = []
        self.source = ""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.callback.samples is not None
        self.numbers = numbers(self.callback.samples.batches)
        self.source = self.callback.samples.source


def taken(
    val_loaders: Any = None, module: Any = None, datamodule: Any = None, **options: Any
) -> Taken:
    """Fit once, and return what the probe was."""
    settings = {name: options.pop(name) for name in ("probe", "probe_size") if name in options}
    callback = watch(**settings)
    result = Taken(callback)
    fitted = trainer(callback, result, max_epochs=1, **options)
    if datamodule is None:
        fitted.fit(module or TinyNet(), loader(seed=1), val_loaders)
    else:
        fitted.fit(module or TinyNet(), datamodule=datamodule)
    assert len(callback.history) == 1
    return result


def test_validation_samples_in_proportion_to_their_classes() -> None:
    result = taken(loader())
    assert len(result.numbers) == 40
    assert np.bincount(np.array(result.numbers) // 16).tolist() == [10, 10, 10, 10]
    assert result.source == "validation data"


def test_a_small_validation_set_is_taken_whole() -> None:
    assert taken(loader(n_samples=20)).numbers == list(range(20))


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        lambda loaders: {"first": loaders[0], "second": loaders[1]},
        lambda loaders: CombinedLoader(loaders, "sequential"),
    ],
)
def test_the_first_of_several_validation_loaders(wrap: Any) -> None:
    class Sum(TinyNet):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", self.loss(batch))

    loaders = [DataLoader(Subset(dataset(), range(20)), 8), DataLoader(dataset(), 8)]
    assert taken(wrap(loaders), module=Sum()).numbers == list(range(20))


@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 2}, {"limit_val_batches": 0}])
def test_validation_data_that_the_trainer_has_not_asked_for_yet(options: Any) -> None:
    class OwnLoader(TinyNet):
        def val_dataloader(self) -> Any:
            return loader(n_samples=20)

    assert taken(loader(n_samples=20), **options).numbers == list(range(20))
    assert taken(module=OwnLoader(), **options).numbers == list(range(20))


def test_a_sampler_that_shares_the_training_set_keeps_training_samples_out() -> None:
    held_out = list(range(0, 64, 2))
    shared = DataLoader(dataset(), batch_size=8, sampler=SubsetRandomSampler(held_out))
    assert taken(shared).numbers == held_out


class ProbedData(LightningDataModule):
    def __init__(self, probe: Any) -> None:
        super().__init__()
        self.probe = probe

    def train_dataloader(self) -> Any:
        return loader(seed=1)

    def val_dataloader(self) -> Any:
        return loader(n_samples=24)

    def probe_dataloader(self) -> Any:
        return self.probe


def test_probe_dataloader_of_the_datamodule_goes_first() -> None:
    result = taken(datamodule=ProbedData(loader(n_samples=30)))
    assert result.numbers == list(range(30))
    assert result.source == "ProbedData.probe_dataloader()"
    assert len(taken(datamodule=ProbedData(loader())).numbers) == 40
    assert taken(datamodule=ProbedData(None)).numbers == list(range(24))


def test_probe_names_the_source() -> None:
    images = dataset(30).tensors[0]
    callback = watch(probe=images)
    fit(callback, max_epochs=1)
    assert callback.report is not None
    assert callback.report.n_samples == 30
    assert taken(loader(), probe=dataset(30)).numbers == list(range(30))
    assert taken(loader(), probe=loader(30)).numbers == list(range(30))
    assert taken(loader(), probe=list(loader(30))).numbers == list(range(30))
    assert taken(module=TrainOnly(), probe=loader(30)).numbers == list(range(30))


def test_training_data_only_when_asked_for() -> None:
    class Marked(TinyNet):
        def train_dataloader(self) -> Any:
            data = dataset()
            data.tensors[0][:, 0, 0, 0] += 1000
            return DataLoader(data, 16)

    callback = watch(probe="train")
    result = Taken(callback)
    trainer(callback, result).fit(Marked(), val_dataloaders=loader())
    assert min(result.numbers) >= 1000
    assert result.source == "training data"


class Stream(IterableDataset[Any]):
    """The tiny data set without length or index."""

    def __iter__(self) -> Iterator[Any]:
        return iter([dataset()[index] for index in range(64)])


class Batches:
    """An iterable of batches, which knows nothing of data sets."""

    def __iter__(self) -> Iterator[Any]:
        for images, labels in loader():
            yield {"image": images, "label": labels, "name": [str(label) for label in labels]}


class BatchStream(IterableDataset[Any]):
    """A data set that makes the batches itself."""

    def __iter__(self) -> Iterator[Any]:
        return iter(loader())


@pytest.mark.parametrize("stream", [DataLoader(Stream(), 16), DataLoader(BatchStream(), None)])
def test_a_stream_is_sampled_in_one_pass(stream: Any) -> None:
    result = taken(stream)
    assert len(set(result.numbers)) == 40
    assert max(result.numbers) > 45
    assert taken(stream).numbers == result.numbers


def test_an_iterable_of_dict_batches_is_sampled() -> None:
    class Checked(AnomalyFilterCallback):
        def __init__(self) -> None:
            super().__init__(**FAST, batch_size=8)
            self.names: list[str] = []

        def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
            # Layers are found with the first samples of a batch, which leaves a list as it is.
            if len(batch["label"]) == 8:
                assert batch["name"] == [str(label) for label in batch["label"]]
                self.names += batch["name"]
            return super().probe_step(pl_module, batch)

    class Named(TinyNet):
        def loss(self, batch: Any) -> Tensor:
            return super().loss((batch["image"], batch["label"]))

    callback = Checked()
    trainer(callback, max_epochs=1).fit(Named(), Batches(), Batches())
    assert callback.report is not None
    assert callback.report.n_samples == 40
    assert len(callback.names) == 40


class RandomTransforms(Dataset[Any]):
    """Draws from every global generator for each sample, as random transforms do."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        noise = torch.rand(()) + float(np.random.rand()) + random.random()  # noqa: NPY002
        image, label = dataset()[index]
        return image + noise, label


def test_random_transforms_give_the_same_probe_each_time() -> None:
    batches = []
    for _ in range(2):
        torch.rand(3)
        callback = watch(probe=RandomTransforms())

        class Keep(Callback):
            def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
                batches.append(callback.samples.batches[0][0])  # noqa: B023

        fit(callback, Keep(), max_epochs=1)
    assert torch.equal(*batches)


def test_a_batch_has_the_size_asked_for() -> None:
    sizes = []

    class Sizes(AnomalyFilterCallback):
        def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
            sizes.append(len(batch[0]))
            return super().probe_step(pl_module, batch)

    fit(Sizes(**FAST, batch_size=16), max_epochs=1)
    assert {16, 8} <= set(sizes)
    assert max(sizes) == 16


def test_images_in_memory_in_every_form() -> None:
    images, labels = dataset().tensors
    as_tensor, as_array = watch(probe=images), watch(probe=images.double().numpy())
    fit(as_tensor)
    fit(as_array)
    assert as_array.history == as_tensor.history != []
    in_proportion = taken(loader(), probe=dataset()).numbers
    for probe in ((images, labels), (images.numpy(), labels.numpy())):
        assert taken(loader(), probe=probe).numbers == in_proportion


@pytest.mark.parametrize(
    ("probe", "remedy"),
    [
        (torch.rand(64, 8, 8, 1), r"images.permute\(0, 3, 1, 2\). Or give it a forward that takes"),
        (torch.zeros(64, 8, 8, 1).byte(), r"images.permute\(0, 3, 1, 2\).float\(\) / 255"),
        ([Image.new("L", (8, 8))] * 64, r"torch.stack\(\[transform\(picture\) for picture in"),
    ],
    ids=["channels last", "integers", "pictures"],
)
def test_images_that_need_another_form(probe: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        fit(watch(probe=probe, strict=True))
