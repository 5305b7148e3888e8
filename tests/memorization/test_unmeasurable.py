"""What cannot be measured is refused in words, or left out with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from filterwatch.memorization import (
    JOINT,
    OUTPUT,
    MemorizationReport,
    UnmeasurableError,
    measure_memorization,
)

LABELS = torch.arange(40) % 2
IMAGES = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
PAIR = (IMAGES, LABELS)


class Network(nn.Module):
    """Two convolutions and a head; ``broken`` does something to the second one's maps."""

    def __init__(self, broken: Any = None, head: Any = None) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.dense, self.broken = nn.Linear(4, 3), broken or (lambda maps: maps)
        self.head = nn.Linear(3, 2) if head is None else head

    def forward(self, images: Tensor) -> Any:
        maps = self.conv1(images)
        aside = self.broken(self.conv2(maps))
        units = self.dense(maps.mean((2, 3))) + 0 * aside.nan_to_num(0, 0, 0).mean()
        return self.head(units)


def measure(training: Any = PAIR, held_out: Any = PAIR, **options: Any) -> MemorizationReport:
    model = options.pop("model", None) or Network()
    return measure_memorization(model, training, held_out, **options)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.double(),
        nn.functional.one_hot(LABELS),
        torch.zeros(40, 6, 6, dtype=torch.int64),
        torch.rand(40, 2),
        LABELS.bool(),
    ],
    ids=["regression", "one-hot", "masks", "soft", "bool"],
)
def test_labels_that_are_no_classes(labels: Tensor) -> None:
    shape = rf"held_out, a batch of tuple\(.*tensor \[40, 1, 6, 6\], {labels.dtype} tensor"
    with pytest.raises(UnmeasurableError, match=rf"{shape}.*no class labels, integers \[N\]"):
        measure(held_out=(IMAGES, labels))
    with pytest.raises(UnmeasurableError, match=r"training, a batch of .* no class labels"):
        measure(training=[(IMAGES, labels)])


def test_images_without_labels() -> None:
    with pytest.raises(TypeError, match=r"held_out is a tensor without labels: pass \(images, la"):
        measure(held_out=IMAGES)
    with pytest.raises(UnmeasurableError, match=r"training, a batch of .* no class labels"):
        measure(training=[IMAGES])
    with pytest.raises(ValueError, match="training has 40 images and 39 labels"):
        measure(training=(IMAGES, LABELS[1:]))


@pytest.mark.parametrize("nothing", [[], iter(()), DataLoader(TensorDataset(IMAGES[:0]))])
def test_no_batches(nothing: Any) -> None:
    with pytest.raises(UnmeasurableError, match="training holds no batches"):
        measure(training=nothing)
    with pytest.raises(UnmeasurableError, match="held_out holds no batches"):
        measure(held_out=[])


def test_no_samples_at_all() -> None:
    with pytest.raises(UnmeasurableError, match="there are no training samples"):
        measure(training=(IMAGES[:0], LABELS[:0]))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.zeros_like(LABELS), "40 held-out samples of 1 classes: 1 of them"),
        (torch.arange(40) // 9 % 4, "of 4 classes: 1 of them"),
        (torch.arange(40) // 2 * 10**15, "of 20 classes: 0 of them"),
        (LABELS - 1, "of 1 classes: 1 of them"),
    ],
)
def test_too_few_classes_of_ten(labels: Tensor, found: str) -> None:
    with pytest.raises(UnmeasurableError, match=f"{found}.*take more held-out samples"):
        measure(held_out=(IMAGES, labels))


def test_other_classes_in_training() -> None:
    with pytest.raises(UnmeasurableError, match=r"no class of the training samples \(5, 6\)"):
        measure(training=(IMAGES, LABELS + 5))


def test_ignored_and_rare_classes_are_left_out_of_every_row() -> None:
    labels = LABELS.clone()
    labels[:4] = torch.tensor([-100, 2, 2, 7])
    report = measure((IMAGES, labels), (IMAGES, torch.where(LABELS == 2, -1, labels)))
    assert report.left_out == {
        -100: "not a class",
        2: "fewer than 10 held-out samples",
        7: "fewer than 10 held-out samples",
    }
    for layer in report.layers.values():
        assert layer.evidence[:4].isnan().all()
        assert not layer.evidence[4:].isnan().any()
        assert math.isfinite(layer.value)
    assert report.skipped == {OUTPUT: "2 outputs for labels up to 7"}


def test_generators_and_loaders_are_gone_through_once() -> None:
    expected = measure()

    def batches() -> Iterator[dict[str, Tensor]]:
        for start in range(0, 40, 15):
            yield {"label": LABELS[start : start + 15], "image": IMAGES[start : start + 15]}

    torch.manual_seed(0)
    model = Network()
    loader = DataLoader(TensorDataset(*PAIR), batch_size=7)
    found = measure(batches(), loader, model=model)
    torch.testing.assert_close(found.layers[JOINT].value, measure(model=model).layers[JOINT].value)
    assert list(found.layers) == list(expected.layers) == ["conv1", "conv2", "dense", JOINT, OUTPUT]


def nan_in(place: Any) -> Any:
    def broken(maps: Tensor) -> Tensor:
        maps = maps.relu()
        maps[place] = torch.nan
        return maps.tanh()

    return broken


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (nan_in(0), "its output is not finite"),
        (lambda maps: nn.functional.softplus(maps.abs() * torch.inf), "its output is not finite"),
        (lambda maps: maps.mul(0).tanh(), "its output is the same for every sample"),
        (lambda maps: maps[: len(maps) // 2].tanh(), "one row a sample, for every batch"),
    ],
)
def test_a_layer_that_fails_is_skipped_and_takes_no_other_with_it(broken: Any, reason: str) -> None:
    model = Network(broken)
    report = measure(model=model)
    failing = [name for name in report.skipped if reason in report.skipped[name]]
    assert len(failing) == 1
    assert failing[0].startswith("F.")
    expected = measure(model=model, layers=[*report.hidden])
    assert list(report.layers) == list(expected.layers)
    assert {"conv1", "dense", JOINT, OUTPUT} <= set(report.layers)
    assert report.layers[JOINT].value == expected.layers[JOINT].value
    assert failing[0] in str(report)


def test_a_network_that_diverged_is_refused_with_the_reason() -> None:
    model = Network()
    nn.init.constant_(model.conv1.weight, torch.nan)
    with pytest.raises(UnmeasurableError, match=r"decoded .conv1: its output is not finite; conv2"):
        measure(model=model)


def test_training_samples_that_a_layer_fails_for_are_left_out_of_every_row() -> None:
    model = Network()
    images = IMAGES.clone()
    images[3, 0, 2, 2] = torch.nan
    images[8] = torch.inf
    report = measure((images, LABELS), model=model)
    heard = [at for at in range(40) if at not in (3, 8)]
    expected = measure((IMAGES[heard], LABELS[heard]), model=model)
    for name, layer in report.layers.items():
        assert layer.evidence[[3, 8]].isnan().all()
        assert layer.value == pytest.approx(expected.layers[name].value, abs=1e-6)
        assert layer.standard_error == pytest.approx(expected.layers[name].standard_error, abs=1e-6)
        assert layer.training_accuracy == expected.layers[name].training_accuracy
    assert "not finite" in report.skipped["2 training samples"]
    assert not {3, 8} & {sample.index for sample in report.contradicted()}
    with pytest.raises(UnmeasurableError, match="none of 40 training samples can be measured"):
        measure((IMAGES * torch.nan, LABELS), model=model)


def test_batches_in_which_a_layer_does_not_run() -> None:
    class Sometimes(Network):
        def forward(self, images: Tensor) -> Any:
            maps = self.conv1(images)
            units = self.dense(maps.mean((2, 3))) if len(images) != 7 else maps.mean((2, 3))[:, 1:]
            return self.head(units)

    torch.manual_seed(0)
    model = Sometimes()
    split = [(IMAGES[:7], LABELS[:7]), (IMAGES[7:], LABELS[7:])]
    report = measure(split, model=model)
    assert report.layers["dense"].evidence.isnan().tolist() == [True] * 7 + [False] * 33
    assert torch.equal(report.layers["conv1"].evidence.isnan(),
                       report.layers["dense"].evidence.isnan())  # fmt: skip
    assert "7 training samples" in report.skipped
    assert "for every batch" in measure(held_out=split, model=model).skipped["dense"]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (lambda units: None, "the forward pass returns no logits"),
        (lambda units: units[:, :, None], "the forward pass returns no logits"),
        (lambda units: units * torch.nan, "the outputs are not finite"),
    ],
)
def test_networks_that_give_no_answer(head: Any, reason: str) -> None:
    report = measure(model=Network(head=head))
    assert reason in report.skipped[OUTPUT]
    assert list(report.layers)[-1] == JOINT
    assert math.isnan(report.generalization_gap)
    assert math.isnan(report.memorized_samples)
    assert report.memorized() == []
    assert set(report.predictions.tolist()) == {-1}
    assert math.isfinite(report.memorization)


def test_a_class_that_the_output_rules_out_is_floored() -> None:
    report = measure(model=Network(head=lambda units: units[:, :2] + torch.tensor([0, -torch.inf])))
    assert report.layers[OUTPUT].evidence[1] == -20
    assert math.isfinite(report.generalization_gap)


def test_one_logit_for_two_classes() -> None:
    report = measure(model=Network(head=nn.Linear(3, 1)))
    assert OUTPUT in report.layers
    assert set(report.predictions.tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("option", "error"),
    [({"batch_size": 0}, ValueError), ({"seed": "a"}, TypeError), ({"layers": "conv1"}, TypeError)],
)
def test_arguments_out_of_range(option: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(option))):
        measure(**option)


def test_nothing_stays_behind_in_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
                          nn.Flatten(), nn.Linear(64, 2))  # fmt: skip
    model[1].eval()
    model(IMAGES).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    gradients = [parameter.grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    loader = DataLoader(TensorDataset(*PAIR), batch_size=8, shuffle=True)
    first, second = measure(loader, loader, model=model), measure(loader, loader, model=model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(a is b.grad for a, b in zip(gradients, model.parameters(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert first.to_dict() == second.to_dict()
