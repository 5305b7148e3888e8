"""A loop without Lightning: the callback's entries, and training that goes on as without."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from watched import DETECTION, TinyNet, dataset, loader, trainer, watch

from filterwatch import AnomalyReport, FilterWatch, MemorizationReport
from filterwatch.memorization import UnmeasurableError

HELD_OUT, TRAINING = dataset(64, seed=1), dataset(64)
IMAGES, LABELS = HELD_OUT.tensors
EPOCHS = 3


def network() -> nn.Module:
    seed_everything(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.2),
        nn.Flatten(),
        nn.Linear(144, 4),
    )


def watching(**options: Any) -> FilterWatch:
    return FilterWatch(**{"images": HELD_OUT, "training": TRAINING, **DETECTION, **options})


# -- The same as the callback's ------------------------------------------------------------------


def by_callback(probe_size: int, training: Any) -> list[dict[str, Any]]:
    seed_everything(0)
    callback = watch(probe=HELD_OUT, training_probe=training, probe_size=probe_size)
    trainer(callback, max_epochs=EPOCHS).fit(TinyNet(), loader(), loader(seed=1))
    return callback.history


def by_loop(probe_size: int, training: Any) -> list[dict[str, Any]]:
    seed_everything(0)
    model = TinyNet()
    watch = watching(probe_size=probe_size, training=training)
    optimizer = model.configure_optimizers()
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        watch.step(model)
    return watch.history


@pytest.mark.parametrize("probe_size", [1000, 50])
def test_a_loop_and_the_callback_give_equal_entries(probe_size: int) -> None:
    """Also where the samples are chosen, which is done alike."""
    expected = by_callback(probe_size, TRAINING)
    assert len(expected) == EPOCHS
    assert "memorization" in expected[0]
    assert len({str(entry["by_layer"]) for entry in expected}) > 1
    assert by_loop(probe_size, TRAINING) == expected
    assert by_loop(probe_size, DataLoader(TRAINING, batch_size=7, shuffle=True)) == expected


# -- Without a trace -----------------------------------------------------------------------------


def trained(watch: FilterWatch | None, batches: DataLoader[Any]) -> dict[str, Any]:
    """Train for some epochs, and return all that may depend on what else was done."""
    model = network()
    model[1].eval()  # a frozen one
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(EPOCHS):
        for images, labels in batches:
            noise = random.random() + float(np.random.rand())  # noqa: NPY002
            loss = F.cross_entropy(model(images + 0.01 * noise), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if watch is not None:
            watch.step(model)
    return {
        "weights": model.state_dict(),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "flags": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "drawn": (torch.rand(1), random.random(), np.random.rand()),  # noqa: NPY002
    }


def shuffled() -> DataLoader[Any]:
    sampler = RandomSampler(TRAINING, generator=torch.Generator().manual_seed(3))
    return DataLoader(TRAINING, batch_size=16, sampler=sampler)


def test_training_goes_on_as_without() -> None:
    expected = trained(None, shuffled())
    batches = shuffled()
    seed_everything(5)
    watch = watching(training=batches)  # which draws from neither random state
    found = trained(watch, batches)
    assert len(watch.history) == EPOCHS
    for name, value in expected["weights"].items():
        assert torch.equal(found["weights"][name], value), name
    for one, other in zip(found["gradients"], expected["gradients"], strict=True):
        assert torch.equal(one, other)
    assert {key: found[key] for key in ("flags", "hooks", "drawn")} == {
        key: expected[key] for key in ("flags", "hooks", "drawn")
    }


# -- What it takes and keeps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        (IMAGES, LABELS),
        (IMAGES.numpy().astype("float64"), LABELS.numpy()),
        HELD_OUT,
        DataLoader(HELD_OUT, batch_size=10, shuffle=True),
        [(IMAGES[:40], LABELS[:40]), (IMAGES[40:], LABELS[40:])],
    ],
    ids=["pair", "arrays", "data set", "loader", "batches"],
)
def test_images_in_every_form(images: Any) -> None:
    model = network()
    expected = watching(images=IMAGES, labels=LABELS).step(model)
    assert watching(images=images).step(model) == expected


def test_without_training_images_there_is_no_memorization() -> None:
    watch = watching(images=IMAGES, training=None)
    entry = watch.step(network())
    assert "memorization" not in entry
    assert watch.memorization is None
    assert isinstance(watch.report, AnomalyReport)


def test_the_newest_reports_and_the_history_are_kept() -> None:
    watch = watching()
    model = network()
    assert watch.report is None
    entries = [watch.step(model), watch.step(model, epoch=7), watch.step(model)]
    assert [entry["epoch"] for entry in entries] == [0, 7, 8]
    assert watch.history == entries
    assert isinstance(watch.memorization, MemorizationReport)
    assert watch.report is not None
    assert watch.report.count == entries[-1]["count"]


def test_it_says_which_samples_it_took() -> None:
    watch = watching(probe_size=40, training=DataLoader(TRAINING, shuffle=True))
    assert watch.probe_indices is not None
    assert watch.training_probe_indices is not None
    assert len(watch.probe_indices) == len(watch.training_probe_indices) == 40
    watch.step(network())
    assert watch.memorization is not None
    labels = TRAINING.tensors[1][watch.training_probe_indices]
    assert torch.equal(watch.memorization.labels, labels)
    stream = watching(images=[(IMAGES, LABELS)], training=None)
    assert stream.probe_indices is stream.training_probe_indices is None


def test_another_network_is_looked_at_anew() -> None:
    watch = watching()
    watch.step(network())
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    entry = watch.step(other)
    assert list(entry["by_layer"]) == ["0", "1"]
    assert list(entry["memorization"]) == ["1", "output"]
    assert entry == {**watching().step(other), "epoch": 1}


def test_a_watch_is_stored_with_what_it_found() -> None:
    watch = watching()
    model = network()
    watch.step(model)
    again = pickle.loads(pickle.dumps(watch))
    assert again.history == watch.history
    assert again.step(model) == watch.step(model)


def test_a_network_that_cannot_be_judged_warns_and_changes_nothing() -> None:
    watch, model = watching(), network()
    watch.step(model)
    report = watch.report
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    with pytest.warns(UserWarning, match="no layer can be judged in epoch 1"):
        assert watch.step(model) == {}
    assert len(watch.history) == 1
    assert watch.report is report


# -- What it shows -------------------------------------------------------------------------------


def test_it_prints_as_a_short_table() -> None:
    watch = watching()
    assert repr(watch) == "<FilterWatch: 0 steps on 64 samples>"
    entry = watch.step(network())
    watch.history += [{**entry, "epoch": epoch} for epoch in range(1, 30)]
    lines = str(watch).splitlines()
    assert "FilterWatch: 30 steps" in lines[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    epochs = [row[0] for row in rows if row and row[0].isdigit()]
    assert epochs == ["0", *map(str, range(21, 30))]
    [row] = [row for row in rows if row and row[0] == "29"]
    assert row[1:4] == [str(entry[name]) for name in ("count", "distinct", "outlier_samples")]
    assert float(row[4]) == pytest.approx(list(entry["memorization"].values())[-2], abs=0.01)
    assert "FilterWatch" in watch._repr_html_()


def test_a_page_shows_what_was_found(tmp_path: Path) -> None:
    watch = watching()
    with pytest.raises(ValueError, match=r"nothing to show yet: call watch.step\(model\)"):
        watch.to_html(tmp_path / "early.html")
    watch.step(network())
    watch.to_html(tmp_path / "page.html", class_names=["one", "two", "three", "four"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"three"' in page
    assert '"n_training":64' in page


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"images": None}, TypeError, "images=NoneType is no data: pass images"),
        ({"images": "folder"}, TypeError, "images=str is no data"),
        ({"images": IMAGES, "training": TRAINING}, UnmeasurableError, "images: no class labels"),
        ({"images": HELD_OUT, "training": IMAGES}, UnmeasurableError, "training: no class labels"),
        ({"images": IMAGES, "labels": LABELS[:9]}, ValueError, "64 images and 9 labels"),
        ({"images": TensorDataset(IMAGES[:0])}, ValueError, "images holds no samples"),
        ({"images": IMAGES[:4]}, ValueError, "a probe of 4 samples cannot form max_clusters=6"),
        ({"images": HELD_OUT, "probe_size": 0}, ValueError, "probe_size=0 is too small"),
        ({"images": HELD_OUT, "max_clusters": 1}, ValueError, "max_clusters=1 is too small"),
        ({"images": IMAGES.byte()}, ValueError, r"scale integers as in training, .*images.float"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FilterWatch(**{**DETECTION, **options})
