"""Memorization beside the count: what is logged, on which training images, and what goes wrong."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    TensorDataset,
    random_split,
)
from watched import FAST, N_CLASSES, SIZE, TinyNet, fit, loader, trainer, watch

from filterwatch import AnomalyFilterCallback, StopTraining, measure_memorization
from filterwatch.datamodules import DigitsDataModule
from filterwatch.models import ImageClassifier

METRICS = {"memorization", "generalization_gap", "memorized_samples"}


class Pictures(Dataset[Any]):
    """Images of four classes behind a transform, as torchvision's data sets have it."""

    def __init__(self, n_samples: int, transform: Any = None, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.arange(n_samples) % N_CLASSES
        self.images = torch.randn(n_samples, 1, SIZE, SIZE, generator=generator)
        self.images += self.targets.view(-1, 1, 1, 1)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def jittered(image: Tensor) -> Tensor:
    return image + torch.rand(1)


def as_it_is(image: Tensor) -> Tensor:
    return image


def fit_on(training: Any, held_out: Any, callback: Callback, **options: Any) -> Trainer:
    fitted = trainer(callback, **options)
    fitted.fit(TinyNet(), DataLoader(training, 16), DataLoader(held_out, 16))
    return fitted


class Taken(AnomalyFilterCallback):
    """Keeps the training images that it was given."""

    images = torch.empty(0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        training = self._memorizing.training
        if training is not None:
            self.images = torch.cat([images for images, _ in training.batches])


def test_what_is_logged_is_what_the_measurement_says() -> None:
    callback, module = watch(), TinyNet()
    fitted = fit(callback, module=module)
    assert callback.memorization is not None
    assert callback.probe_indices is not None
    training, held_out = loader(seed=1).dataset.tensors, loader().dataset.tensors  # type: ignore[attr-defined]
    expected = measure_memorization(
        module,
        tuple(values[callback._memorizing.indices] for values in training),  # type: ignore[arg-type]
        tuple(values[callback.probe_indices] for values in held_out),  # type: ignore[arg-type]
    )
    assert callback.memorization.to_dict() == expected.to_dict()
    logged = {name: float(value) for name, value in fitted.callback_metrics.items()}
    assert logged["memorization"] == pytest.approx(expected.memorization)
    assert logged["generalization_gap"] == pytest.approx(expected.generalization_gap)
    assert logged["memorized_samples"] == pytest.approx(expected.memorized_samples)
    for name, layer in expected.hidden.items():
        assert logged[f"memorization/{name}"] == pytest.approx(layer.value)
    entry = callback.history[-1]
    assert list(entry["memorization"]) == [*expected.hidden, "output"]
    assert entry["memorization_errors"]["output"] == pytest.approx(
        expected.layers["output"].standard_error
    )


def test_wrong_labels_learned_by_heart_are_found() -> None:
    data = DigitsDataModule(train_size=300, label_noise=0.2, batch_size=32)
    callback = watch(probe_size=500, every_n_epochs=25, max_clusters=2, criteria=None)
    torch.manual_seed(0)
    fitted = trainer(callback, max_epochs=26)
    fitted.fit(ImageClassifier("simple_cnn", 10, 1), datamodule=data)
    report = callback.memorization
    assert report is not None
    assert len(report.labels) == 300  # all that there are
    assert report.generalization_gap > 0.3
    wrong = data.train_dataset.is_mislabelled[callback._memorizing.indices]
    suspects = [sample.index for sample in report.memorized(50)]
    assert float(wrong[suspects].float().mean()) > 0.9
    assert report.memorized_samples == pytest.approx(60, abs=15)
    assert callback.history[0]["memorized_samples"] < 15


def test_training_images_are_seen_as_evaluation_sees_them() -> None:
    callback = Taken(**FAST)
    fit_on(Pictures(64, jittered, seed=1), Pictures(64, as_it_is), callback)
    expected = Pictures(64, seed=1).images[callback._memorizing.indices]
    assert torch.equal(callback.images, expected)


def test_a_datamodule_may_say_which_training_images() -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader(seed=1)

        def val_dataloader(self) -> Any:
            return loader()

        def training_probe_dataloader(self) -> Any:
            return DataLoader(Pictures(48, seed=7), 8)

    callback = Taken(**FAST)
    trainer(callback).fit(TinyNet(), datamodule=Data())
    expected = Pictures(48, seed=7).images[callback._memorizing.indices]
    assert torch.equal(callback.images, expected)


@pytest.mark.parametrize(
    "source", [Pictures(64, seed=7), DataLoader(Pictures(64, seed=7), 4), "pair"]
)
def test_the_training_probe_may_be_given(source: Any) -> None:
    given = Pictures(64, seed=7)
    pair = (given.images, given.targets)
    callback = Taken(**FAST, training_probe=pair if source == "pair" else source)
    fit_on(Pictures(64, jittered, seed=1), Pictures(64), callback)
    assert torch.equal(callback.images, given.images[callback._memorizing.indices])


class Augmented(Pictures):
    """Augments by itself, without a transform that could be replaced."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return jittered(image), label


def test_augmentation_that_cannot_be_taken_away_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"the numbers are too low.*training_probe=") as caught:
        fit_on(Augmented(64, seed=1), Pictures(64), watch())
    assert sum("too low" in str(each.message) for each in caught) == 1
    fit_on(Augmented(64, seed=1), Pictures(64), watch(training_probe=Pictures(64, seed=1)))


class AugmentedAtTheEnd(Pictures):
    """Augments some of its images."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return (jittered(image) if index >= 48 else image), label


@pytest.mark.parametrize("given", [True, False])
def test_augmentation_is_seen_wherever_it_is(given: bool) -> None:
    augmented = AugmentedAtTheEnd(64, seed=1)
    options: dict[str, Any] = {"training_probe": augmented} if given else {}
    with pytest.warns(UserWarning, match="changed at random"):
        fit_on(augmented, Pictures(64), watch(**options))


class Traces(Pictures):
    """Whatever a data set may keep from reading: a cache, a generator, an open file."""

    def __init__(self, n_samples: int, transform: Any, seed: int) -> None:
        super().__init__(n_samples, transform, seed)
        self.cache: dict[int, Any] = {}
        self.generator = torch.Generator().manual_seed(seed)
        self.opened_by: int | None = None

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.opened_by = self.opened_by or os.getpid()
        if self.opened_by != os.getpid():
            raise RuntimeError("the file was opened by another process")
        if index not in self.cache:
            image, label = super().__getitem__(index)
            noise = torch.rand(1, generator=self.generator)
            self.cache[index] = image + noise, label
        return self.cache[index]


class OwnSampler(Sampler[int]):
    """Draws from a generator that nobody knows of."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.random.permutation(self.n_samples).tolist())


@pytest.mark.parametrize("n_workers", [0, 1])
def test_reading_training_images_leaves_no_trace(n_workers: int) -> None:
    weights = []
    for callbacks in ([], [watch(training_probe=None)]):
        torch.manual_seed(0)
        module, training = TinyNet(), Traces(64, lambda image: image * 2, seed=1)
        sampler = OwnSampler(64)
        batches = DataLoader(training, 16, sampler=sampler, num_workers=n_workers)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*changed at random")
            trainer(*callbacks).fit(module, batches, DataLoader(Pictures(64), 16))
        weights.append(torch.cat([each.flatten() for each in module.parameters()]))
        if callbacks:
            assert callbacks[0].memorization is not None
    assert torch.equal(*weights)


def test_data_that_cannot_be_copied_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    training = Pictures(64, seed=1)
    training.handle = (each for each in ())  # type: ignore[attr-defined]
    callback = watch()
    with caplog.at_level(logging.INFO):
        fit_on(training, Pictures(64), callback)
    assert "cannot be copied" in caplog.text
    assert "training_probe=" in caplog.text
    assert callback.memorization is None


def test_training_on_a_part_of_the_data_is_said() -> None:
    with pytest.warns(UserWarning, match="limit_train_batches"):
        fit(watch(), limit_train_batches=2)


class OneLogit(TinyNet):
    """Two classes, told apart by one number a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.network[-1] = torch.nn.Linear(6 * 16, 1)

    def forward(self, images: Tensor) -> Any:
        return self.network(images).squeeze(1)

    def loss(self, batch: Any) -> Tensor:
        images, labels = batch
        return F.binary_cross_entropy_with_logits(self(images), labels.float())


def test_a_single_logit_a_sample_is_an_output() -> None:
    images, labels = loader().dataset.tensors  # type: ignore[attr-defined]
    batches = DataLoader(TensorDataset(images, (labels > 1).long()), 16)
    callback = watch()
    trainer(callback, max_epochs=25).fit(OneLogit(), batches, batches)
    assert callback.memorization is not None
    assert list(callback.memorization.layers)[-1] == "output"
    assert callback.memorization.layers["output"].training_accuracy > 0.8


class Speechless(TinyNet):
    """Puts out maps alone."""

    def forward(self, images: Tensor) -> Any:
        return self.network[:5](images)

    def loss(self, batch: Any) -> Tensor:
        return self(batch[0]).square().mean()


def test_what_is_not_measured_is_not_logged(tmp_path: Path) -> None:
    callback = watch()
    stop = EarlyStopping("generalization_gap", patience=50)
    fitted = fit(
        callback, stop, module=Speechless(), logger=CSVLogger(tmp_path), log_every_n_steps=1
    )
    assert fitted.current_epoch == 2  # not stopped by a value that is no number
    assert "memorization" in fitted.logged_metrics
    assert "generalization_gap" not in fitted.logged_metrics
    assert "16777216" not in (Path(fitted.logger.log_dir) / "metrics.csv").read_text()  # type: ignore[union-attr,arg-type]


def test_stand_ins_reach_monitors_alone(tmp_path: Path) -> None:
    images, labels = loader(seed=1).dataset.tensors  # type: ignore[attr-defined]
    callback = watch(training_probe=(images, labels + 10))
    with pytest.warns(UserWarning, match="could not measure memorization.*no class"):
        fitted = fit(callback, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    assert float(fitted.callback_metrics["memorization"]) > 1e6
    assert "memorization" not in fitted.logged_metrics


def test_stop_training_says_that_there_is_nothing_to_watch() -> None:
    stop = StopTraining(monitor="memorization/conv9")
    with pytest.warns(UserWarning, match="memorization/conv9.*nothing to look at") as caught:
        fit(watch(action=stop))
    assert sum("nothing to look at" in str(each.message) for each in caught) == 1


def test_what_validation_draws_at_random_too_is_no_augmentation() -> None:
    training, held_out = random_split(Pictures(128, jittered), [64, 64])
    fit_on(training, held_out, watch())


def test_classes_are_in_the_proportion_of_the_held_out_ones() -> None:
    held_out = Pictures(64)
    held_out.targets = torch.tensor([0] * 32 + [1] * 20 + [2] * 12)
    training = Pictures(256, seed=1)
    callback = watch(probe_size=64)
    fit_on(training, held_out, callback)
    assert callback.memorization is not None
    assert callback.memorization.labels.bincount().tolist() == [32, 20, 12]


def test_with_many_classes_fewer_of_them_are_measured(caplog: pytest.LogCaptureFixture) -> None:
    class Many(TinyNet):
        def __init__(self) -> None:
            super().__init__()
            self.network[-1] = torch.nn.Linear(6 * 16, 60)

    def data(seed: int) -> TensorDataset:
        images = torch.randn(1500, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(images, torch.arange(1500) % 60)

    callback = watch(probe_size=120)
    with caplog.at_level(logging.INFO):
        trainer(callback, max_epochs=1).fit(Many(), DataLoader(data(0), 64), DataLoader(data(1)))
    assert "against 120 held-out samples of 6 classes" in caplog.text
    assert callback.memorization is not None
    assert callback.memorization.labels.unique(return_counts=True)[1].tolist() == [20] * 6
    assert callback.memorization.n_held_out == 120
    assert callback.report is not None
    assert callback.report.n_samples == 120


def test_a_probe_of_training_data_leaves_the_held_out_images_to_validation() -> None:
    callback = watch(probe="train")
    fit(callback)
    assert callback.memorization is not None
    assert callback.memorization.n_held_out >= 40


class Regression(TinyNet):
    def loss(self, batch: Any) -> Tensor:
        images, targets = batch
        return F.mse_loss(self(images)[:, 0], targets)


def test_without_class_labels_it_is_off_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    images, labels = loader().dataset.tensors  # type: ignore[attr-defined]
    batches = DataLoader(TensorDataset(images, labels.float()), 16)
    callback = watch()
    fitted = trainer(callback)
    with caplog.at_level(logging.INFO):
        fitted.fit(Regression(), batches, batches)
    assert caplog.text.count("does not measure memorization") == 1
    assert "no class labels" in caplog.text
    assert not METRICS & set(fitted.callback_metrics)
    assert len(callback.history) == 2
    assert "memorization" not in callback.history[0]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from Pictures(16)  # type: ignore[misc]


def test_a_stream_of_training_data_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    callback = watch()
    with caplog.at_level(logging.INFO):
        trainer(callback, limit_train_batches=2).fit(TinyNet(), DataLoader(Endless(), 16), loader())
    assert "pass training_probe=" in caplog.text
    assert callback.memorization is None
    assert len(callback.history) == 2


def test_it_can_be_switched_off() -> None:
    class Unread(Pictures):
        reads = 0

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            Unread.reads += 1
            return super().__getitem__(index)

    callback = watch(memorization=False)
    fitted = fit_on(Unread(32), Pictures(64), callback)
    assert not METRICS & set(fitted.callback_metrics)
    assert callback.memorization is None
    assert Unread.reads == 64  # two epochs of training


def test_a_wrong_training_probe_is_refused_at_once() -> None:
    images = torch.zeros(8, 1, 8, 8)
    for wrong in (images, [images], (images.numpy(), [0] * 8)):
        with pytest.raises(TypeError, match=r"training_probe=\w+ is no labeled data.*data set"):
            AnomalyFilterCallback(training_probe=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="8 images and 3 labels"):
        AnomalyFilterCallback(training_probe=(images, torch.zeros(3)))
    with pytest.raises(TypeError, match="memorization=1 is not a bool"):
        AnomalyFilterCallback(memorization=1)  # type: ignore[arg-type]


class Broken(AnomalyFilterCallback):
    """Cannot measure memorization in the epochs given."""

    broken: frozenset[int] = frozenset()

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        images, _ = batch
        if pl_module.trainer.current_epoch in self.broken and bool((images > 80).any()):
            raise RuntimeError("out of memory")
        return pl_module(images)


@pytest.mark.parametrize("strict", [False, True])
def test_a_failure_leaves_the_count_alone(strict: bool) -> None:
    training = Pictures(64, seed=1)
    training.images += 100  # marks the training samples
    callback = Broken(**FAST, strict=strict, training_probe=training)
    callback.broken = frozenset({1})
    fitted = trainer(callback, max_epochs=3)
    if strict:
        with pytest.raises(RuntimeError, match="out of memory"):
            fitted.fit(TinyNet(), loader(), loader())
        return
    values = []

    class Watcher(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            values.append(float(trainer.callback_metrics.get("memorization", torch.nan)))

    fitted = trainer(callback, Watcher(), max_epochs=3)
    with pytest.warns(UserWarning, match="could not measure memorization in epoch 1"):
        fitted.fit(TinyNet(), loader(), loader())
    assert [entry["epoch"] for entry in callback.history] == [0, 1, 2]
    assert ["memorization" in entry for entry in callback.history] == [True, False, True]
    assert values[1] == values[2]  # the last value, logged again


def test_a_resumed_fit_takes_the_same_training_images(tmp_path: Path) -> None:
    training = Pictures(256, seed=1)
    first = Taken(**FAST)
    fitted = fit_on(training, Pictures(64), first, max_epochs=1)
    fitted.save_checkpoint(tmp_path / "one.ckpt")
    again = Taken(**FAST)
    resumed = trainer(again, max_epochs=2)
    resumed.fit(
        TinyNet(),
        DataLoader(training, 16),
        DataLoader(Pictures(64), 16),
        ckpt_path=tmp_path / "one.ckpt",
    )
    assert again._memorizing.indices == first._memorizing.indices
    assert [entry["epoch"] for entry in again.history] == [0, 1]
    assert again.history[0] == first.history[0]


def test_monitors_and_stop_training_may_watch_it() -> None:
    stop = StopTraining(
        monitor="generalization_gap", start_epoch=0, window=1, patience=1, min_rise=0.0
    )
    fitted = fit(
        watch(action=stop),
        EarlyStopping("memorization", patience=50),
        max_epochs=25,
    )
    assert stop.stopped_epoch is not None
    assert stop.stopped_epoch == fitted.current_epoch - 1
    assert stop.reason is not None
    assert stop.reason.startswith("the generalization gap")


def test_half_precision() -> None:
    callback = watch()
    fit(callback, precision="bf16-mixed")
    assert callback.memorization is not None
    assert callback.memorization.layers["output"].standard_error > 0


def test_mlflow_s_file_store_gets_names_that_it_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="an extra: pip install 'filterwatch[mlflow]'")
    from lightning.pytorch.loggers import MLFlowLogger

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        logger = MLFlowLogger(tracking_uri=f"file:{tmp_path}")
        with pytest.warns(UserWarning, match="memorization_by_layer/<layer>.*file store"):
            fit(watch(), logger=logger, log_every_n_steps=1)
        names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("metrics/**/*")}
    assert any(name.endswith("metrics/memorization") for name in names)
    assert any(name.endswith("metrics/memorization_by_layer/network.4") for name in names)
