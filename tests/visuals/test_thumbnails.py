"""The probe's samples as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from shown import N_SAMPLES, images, thumbnails
from torch import Tensor
from torch.utils.data import DataLoader
from watched import TinyNet, dataset, fit, trainer, watch

from filterwatch.datamodules import DigitsDataModule
from filterwatch.visuals.thumbnails import Thumbnails

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def normalised() -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (images() - mean) / std


def levels(shown: Thumbnails, samples: range) -> list[list[int]]:
    return [np.unique(shown.image(sample)).tolist() for sample in samples]


def test_normalisation_is_undone_where_it_is_known() -> None:
    shown = Thumbnails([normalised()], mean=MEAN, std=STD)
    for sample in range(N_SAMPLES):
        expected = 255 * sample / N_SAMPLES
        assert np.abs(shown.image(sample) - expected).max() <= 0.51


def test_what_was_never_normalised_stays() -> None:
    expected = [[round(255 * sample / N_SAMPLES)] for sample in range(10)]
    assert levels(Thumbnails([images()], mean=MEAN, std=STD), range(10)) == expected
    assert levels(Thumbnails([images()]), range(10)) == expected


@pytest.mark.parametrize("known", [{}, {"mean": [0.5], "std": [0.5]}])
def test_else_each_image_spans_the_whole_range(known: Any) -> None:
    ramp = torch.linspace(-3, 5, 16).view(1, 1, 4, 4).expand(2, 3, 4, 4)
    pixels = Thumbnails([torch.cat([ramp, 0 * ramp])], **known).image(1)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    flat = Thumbnails([torch.cat([ramp, 0 * ramp])], **known).image(2)
    assert (flat == 0).all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_than_three_channels_are_grey(channels: int) -> None:
    shown = Thumbnails([images(channels=channels)])
    assert shown.image(30).shape == (6, 6, 3)
    assert (shown.image(30) == 128).all()


def test_large_images_shrink_in_proportion() -> None:
    shown = Thumbnails([torch.rand(1, 3, 300, 600, generator=torch.Generator().manual_seed(0))])
    assert shown.image(0).shape == (64, 128, 3)


def test_images_are_found_across_batches_of_any_size() -> None:
    batches = list(images().split([1, 7, 40, 12]))
    shown = Thumbnails(batches)
    assert len(shown) == N_SAMPLES
    expected = [round(255 * sample / N_SAMPLES) for sample in range(N_SAMPLES)]
    assert [int(shown.image(sample).max()) for sample in range(N_SAMPLES)] == expected


@dataclass
class Labelled:
    """A batch with names."""

    picture: Tensor
    class_id: Tensor


LABELS = torch.arange(4)
PICTURES = torch.rand(4, 1, 5, 5)


@pytest.mark.parametrize(
    "batch",
    [
        (PICTURES, LABELS),
        [LABELS, PICTURES],
        {"image": PICTURES, "label": LABELS},
        {"index": LABELS + 7, "target": LABELS, "x": PICTURES},
        {"target_class": LABELS, "x": PICTURES},
        Labelled(PICTURES, LABELS),
        (PICTURES, ["a", "b", "c", "d"], LABELS.int()),
    ],
)
def test_labels_are_one_integer_a_sample(batch: Any) -> None:
    shown = Thumbnails([batch])
    assert [shown.label(sample) for sample in range(4)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "batch",
    [
        PICTURES,
        (PICTURES, torch.rand(4)),
        (PICTURES, torch.zeros(4, 2).long()),
        (PICTURES, torch.arange(3)),
        (PICTURES, LABELS > 1),
        (PICTURES, torch.tensor([0, -1, 2, 3])),
    ],
)
def test_anything_else_is_no_label(batch: Any) -> None:
    shown = Thumbnails([batch])
    assert [shown.label(0), shown.legend] == [None, ""]


def test_captions_say_what_is_known() -> None:
    shown = thumbnails(class_names=["cat", "dog"])
    assert [shown.caption(0), shown.caption(1), shown.legend] == ["cat", "dog", "; label"]
    shown.predictions = torch.zeros(N_SAMPLES, dtype=torch.long)
    assert [shown.caption(0), shown.caption(1)] == ["cat ✓", "dog → cat"]
    assert shown.legend == "; label → prediction or ✓"
    long = thumbnails(class_names=["automobile", "refrigerator"], predictions=shown.predictions)
    assert [long.caption(0), long.caption(1)] == ["automobile ✓", "refriger… → automobi…"]
    unlabelled = Thumbnails([images()])
    assert [unlabelled.caption(0), unlabelled.legend] == ["", ""]
    unlabelled.predictions = shown.predictions + 5
    assert unlabelled.caption(0) == "→ 5"


def test_names_are_indices_of_the_data_set_where_it_has_some() -> None:
    assert thumbnails(indices=range(100, 160)).name(3) == "#103"
    assert thumbnails().name(3) == "#3"


def outputs(batch: Any) -> Tensor:
    """Return logits of three classes, by the brightness of the images."""
    return torch.nn.functional.one_hot((batch[0][:, 0, 0, 0] * 3).long(), 3).float()


@pytest.mark.parametrize(
    "returned",
    [
        lambda batch: outputs(batch),
        lambda batch: {"features": outputs(batch).flip(1), "logits": outputs(batch)},
    ],
)
def test_predictions_are_those_of_the_last_pass(returned: Any) -> None:
    shown = thumbnails()
    forward = shown.noting_predictions(returned)
    few = (images()[:2], torch.zeros(2))
    forward(few)  # the pass that looks for layers is none of the probe's
    assert shown.predictions is None
    for batch in shown.batches:
        assert str(forward(batch)) == str(returned(batch))  # handed on as it is
    assert shown.predictions is not None
    assert shown.predictions.tolist() == [sample * 3 // N_SAMPLES for sample in range(N_SAMPLES)]


@pytest.mark.parametrize(
    "forward",
    [
        lambda batch: None,
        lambda batch: outputs(batch)[:1],
        lambda batch: outputs(batch)[:, :1],  # too few columns for the labels
        lambda batch: outputs(batch)[..., None],
    ],
)
def test_what_is_no_logits_gives_no_predictions(forward: Any) -> None:
    shown = thumbnails()
    noting = shown.noting_predictions(forward)
    for batch in shown.batches:
        noting(batch)
    assert shown.predictions is None


def test_class_names_tell_logits_from_features() -> None:
    shown = thumbnails(class_names=["cat", "dog"])
    noting = shown.noting_predictions(outputs)
    for batch in shown.batches:
        noting(batch)
    assert shown.predictions is None  # three columns for two classes


def test_a_datamodule_tells_how_its_images_look() -> None:
    datamodule = DigitsDataModule(train_size=50, probe_size=20)
    datamodule.setup()
    running: Any = SimpleNamespace(datamodule=datamodule, val_dataloaders=None)
    shown = Thumbnails.of(running, list(datamodule.probe_dataloader()), None)
    stored = datamodule.probe_dataset[0]
    grey = stored[0][0] * datamodule.std[0] + datamodule.mean[0]
    expected = (grey.clamp(0, 1) * 255).round().byte().numpy()
    assert np.array_equal(shown.image(0)[..., 0], expected)
    assert shown.label(0) == datamodule.class_names[int(stored[1])]


def test_names_of_classes_may_come_from_the_data_set(tmp_path: Any) -> None:
    class Named(LightningDataModule):
        mean = "unknown"  # not what we take it for

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(seed=1), 16)

        def val_dataloader(self) -> Any:
            named = dataset()
            named.classes = ["ant", "bee", "cat", "dog"]  # type: ignore[attr-defined]
            return DataLoader(named, 16)

    callback, seen = watch(pictures=1), list[Any]()

    class Net(TinyNet):
        def on_train_epoch_start(self) -> None:
            seen.append(callback.gallery._thumbnails)

    fitted = trainer(callback, max_epochs=1, limit_train_batches=1, default_root_dir=tmp_path)
    fitted.fit(Net(), datamodule=Named())
    assert {seen[0].label(sample) for sample in range(40)} == {"ant", "bee", "cat", "dog"}
    assert seen[0].mean is None


def test_predictions_of_a_fit_are_the_networks(tmp_path: Any) -> None:
    callback, seen = watch(pictures=1), list[Any]()

    class Net(TinyNet):
        def on_train_epoch_end(self) -> None:
            seen.append(callback.gallery._thumbnails)

    module = Net()
    fit(callback, module=module, default_root_dir=tmp_path)
    probe = dataset().tensors[0][callback.probe_indices]
    expected = module.eval()(probe).argmax(1)
    assert torch.equal(seen[-1].predictions, expected)
