"""Which layers are decoded, under which names, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from filterwatch.detection import AnomalyCriteria, detect_as_planned, plan_detection
from filterwatch.memorization import (
    BatchFeatures,
    FeatureListener,
    features_of,
    find_decoded_layers,
    measure_memorization,
)
from filterwatch.models import build_network
from filterwatch.observing import find_layers, observe

IMAGES = torch.rand(24, 3, 8, 8)
LABELS = torch.arange(24) % 2


def names(model: nn.Module, images: Any = IMAGES[:2], **options: Any) -> list[str]:
    return [layer.name for layer in find_decoded_layers(model, images, **options)]


def read(model: nn.Module, images: Tensor = IMAGES, **options: Any) -> BatchFeatures:
    found: list[BatchFeatures] = []
    listener = FeatureListener(set(names(model, images[:2], **options)), found.append)
    batch = (images, LABELS[: len(images)])
    observe(model, [batch], lambda name, maps: None, layers=(), listener=listener, **options)
    return found[0]


def keep_a_copy(maps: dict[str, Tensor], name: str, found: Tensor) -> None:
    maps[name] = found.clone()


def head(*hidden: nn.Module, width: int = 4) -> nn.Sequential:
    return nn.Sequential(*hidden, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))


def test_activations_speak_for_their_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(54, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3),
        nn.Linear(3, 2),
    )  # fmt: skip
    found = find_decoded_layers(model, IMAGES[:2])
    assert [(layer.name, layer.kind, layer.n_channels) for layer in found] == [
        ("2", "activation", 4), ("4", "convolution", 5), ("5", "convolution", 6),
        ("10", "activation", 7), ("11", "linear", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("inplace", [False, True])
def test_modules_and_functional_calls_give_the_same_numbers(inplace: bool) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.plain, self.out = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            maps = F.relu(self.norm(self.conv(images)), inplace=inplace)
            maps = self.plain(maps) * 2
            return F.linear(F.relu(maps, inplace=inplace).mean((2, 3)), self.out.weight,
                            self.out.bias)  # fmt: skip

    functional = Functional()
    model = nn.Sequential(functional.conv, functional.norm, nn.ReLU(inplace), functional.plain)
    expected = read(head(*model, width=4))
    found = read(functional)
    assert list(found.layers) == ["F.relu", "plain", "F.relu#2"]
    assert torch.equal(found.layers["F.relu"], expected.layers["2"])
    assert torch.equal(found.layers["plain"], expected.layers["3"])  # before it is scaled in place
    functional.eval()
    with torch.no_grad():
        maps = functional.norm(functional.conv(IMAGES)).relu()
    assert torch.equal(found.layers["F.relu"], features_of(maps))


def test_heads_of_any_kind_are_not_hidden_layers() -> None:
    conv = (nn.Conv2d(3, 4, 3), nn.ReLU())

    class Named(nn.Module):
        def __init__(self, wrap: Callable[[Tensor], object]) -> None:
            super().__init__()
            self.body, self.wrap = head(*conv), wrap

        def forward(self, images: Tensor) -> object:
            return self.wrap(self.body(images))

    fully_convolutional = nn.Sequential(*conv, nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1),
                                        nn.Flatten())  # fmt: skip
    assert names(fully_convolutional) == ["1"]
    with_activation = nn.Sequential(*fully_convolutional[:3], nn.ReLU(), *fully_convolutional[3:])
    assert names(with_activation) == ["1"]
    assert names(head(*conv).append(nn.LogSoftmax(1))) == ["1"]
    for wrap in (
        lambda logits: logits,
        lambda logits: {"logits": logits, "loss": logits.sum()},
        lambda logits: (logits, None),
        lambda logits: F.softmax(logits, 1),
    ):
        assert names(Named(wrap)) == ["body.1"]


def test_the_layer_that_puts_out_the_logits_need_not_be_the_last() -> None:
    class Projecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out, self.project = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(4, 5)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            pooled = self.conv(images).relu().mean((2, 3))
            return {"logits": self.out(pooled), "projection": self.project(pooled)}

    assert names(Projecting()) == ["F.relu", "project"]


class Squeezing(nn.Module):
    """One activation for maps and for the dense parts between them, which come first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.squeeze, self.excite = nn.Linear(3, 3), nn.Linear(3, 4)
        self.relu, self.out = nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv1(images)
        gate = self.excite(self.relu(self.squeeze(images.mean((2, 3)))))
        maps = self.relu(maps) * gate.sigmoid()[:, :, None, None]
        maps = self.relu(self.conv2(maps))
        return self.out(self.relu(maps.mean((2, 3)) - 0.1))


def test_maps_and_units_of_one_module_are_told_apart() -> None:
    model = Squeezing()
    found = read(model)
    assert {name: values.shape[1] for name, values in found.layers.items()} == {
        "relu (dense)": 3, "excite": 4, "relu": 8, "relu#2": 8, "relu#2 (dense)": 4,
    }  # fmt: skip
    with torch.no_grad():
        dense = model.squeeze(IMAGES.mean((2, 3))).relu()
        maps = model.conv1(IMAGES).relu()
    torch.testing.assert_close(found.layers["relu (dense)"], dense)
    torch.testing.assert_close(found.layers["relu"], features_of(maps))
    assert names(model, layers=["relu#2"]) == ["relu#2"]
    chosen: list[BatchFeatures] = []
    listener = FeatureListener({"relu"}, chosen.append)
    observe(model, [IMAGES], lambda name, maps: None, layers=(), listener=listener)
    assert torch.equal(chosen[0].layers["relu"], found.layers["relu"])


@pytest.mark.parametrize("network", ["squeezing", "simple_cnn"])
def test_whoever_looks_at_maps_gets_the_same_with_a_listener(network: str) -> None:
    model = Squeezing() if network == "squeezing" else build_network(network, 2, 3, 8)

    def seen(listener: FeatureListener | None) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        observe(model, [IMAGES], partial(keep_a_copy, maps), listener=listener)
        return maps

    taken: list[BatchFeatures] = []
    expected, found = seen(None), seen(FeatureListener(set(names(model)), taken.append))
    assert list(found) == list(expected) == [each.name for each in find_layers(model, IMAGES[:2])]
    assert all(torch.equal(found[name], maps) for name, maps in expected.items())
    assert len(taken) == 1


def test_dense_layers_at_every_position_are_said_to_be_skipped() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.wide, self.back = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 4)
            self.out = nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images).permute(0, 2, 3, 1)
            maps = maps + self.back(F.gelu(self.wide(maps)))
            return self.out(maps.mean((1, 2)))

    assert names(Tokens()) == ["conv", "wide", "back"]  # the GELU's maps have channels last
    report = measure_memorization(Tokens(), (IMAGES, LABELS), (IMAGES, LABELS))
    assert list(report.hidden) == ["conv"]
    assert set(report.skipped) == {"wide", "back"}
    assert "one row a sample" in report.skipped["wide"]


def test_half_precision_compiled_and_checkpointed_networks() -> None:
    plain = head(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    expected = read(plain).layers["1"]

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.rest = plain[:2], plain[2:]

        def forward(self, images: Tensor) -> Tensor:
            return self.rest(checkpoint(self.body, images, use_reentrant=False))

    assert torch.equal(read(Checkpointed()).layers["body.1"], expected)
    compiled = torch.compile(plain, backend="eager")
    assert torch.equal(read(compiled).layers["1"], expected)
    with torch.autocast("cpu", torch.bfloat16):
        half = read(plain)
    assert half.layers["1"].dtype == torch.float32
    torch.testing.assert_close(half.layers["1"], expected, rtol=0.05, atol=0.02)
    assert half.logits is not None
    assert half.logits.dtype == torch.float32


def test_lazy_modules_are_decoded_once_they_have_weights() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    model(IMAGES[:1])
    assert names(model) == ["1"]


# Last hidden layer, and number of layers.
NETWORKS = {
    "resnet50": ("layer4.2.relu#3", 69),
    "densenet121": ("F.relu", 182),
    "mobilenet_v2": ("features.18.2", 52),
    "efficientnet_b0": ("features.8.2", 81),
    "googlenet": ("inception5b.branch4.1.F.relu", 57),
    "squeezenet1_1": ("features.12.expand3x3_activation", 25),
    "convnext_tiny": ("features.7.2.block.5", 58),
    "regnet_y_400mf": ("trunk_output.block4.block4-5.activation", 101),
    "shufflenet_v2_x0_5": ("conv5.2", 56),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name: str) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(num_classes=10, **options)
    found = find_decoded_layers(model, torch.rand(1, 3, 64, 64))
    assert (found[-1].name, len(found)) == NETWORKS[name]
    assert len({layer.name for layer in found}) == len(found)


@pytest.mark.parametrize("name", ["simple_cnn", "lenet5", "resnet18"])
def test_bundled_networks(name: str) -> None:
    last = {"simple_cnn": "classifier.2", "lenet5": "classifier.4", "resnet18": "layer4.1.relu#2"}
    model = build_network(name)
    images = torch.rand(2, 3, 32, 32)
    assert names(model, images)[-1] == last[name]
    assert names(model, images[:1]) == names(model, images)
    assert set(read(model, images).layers) == set(names(model, images))


def test_detection_reports_the_same_with_masks_and_a_listener() -> None:
    from filterwatch.actions import mask_filters

    model = build_network("simple_cnn", 2, 3, 8)
    plan = plan_detection(model, IMAGES[:2], len(IMAGES))
    with mask_filters(model, [("conv2", 3), ("conv1", 1)], images=IMAGES[:2]) as masks:
        seen: list[dict[str, Tensor]] = [{}, {}]
        taken: list[BatchFeatures] = []
        layers = find_decoded_layers(model, IMAGES[:2])
        listener = FeatureListener({layer.name for layer in layers}, taken.append)
        for maps, heard in zip(seen, (None, listener), strict=True):
            keep = partial(keep_a_copy, maps)
            observe(model, [IMAGES], keep, layers=plan.layers, masks=masks, listener=heard)
        assert list(seen[0]) == list(seen[1])
        assert all(torch.equal(seen[0][name], maps) for name, maps in seen[1].items())
        # Detection judges masked filters as they would be; memorization is of the network as it is.
        assert float(seen[1]["relu2"][:, 3].abs().max()) > 0
        relu2 = taken[0].layers["relu2"]
        assert float(relu2[:, [3, 67]].abs().max()) == 0
    options = {"criteria": AnomalyCriteria(small_cluster_size=3), "max_clusters": 4}
    assert detect_as_planned(model, [IMAGES], plan, **options).layers.keys() == seen[0].keys()


def test_patterns_choose_and_refuse() -> None:
    model = head(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert names(model) == ["1", "2"]
    assert names(model, layers=["2"]) == ["2"]
    with pytest.raises(ValueError, match=r"layers=\['conv\*'\] matches no hidden layer of: 1, 2"):
        names(model, layers=["conv*"])
    with pytest.raises(ValueError, match="Sequential ran no 2-D convolution"):
        names(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    with pytest.raises(ValueError, match="Sequential has no hidden layer"):
        names(nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()))
