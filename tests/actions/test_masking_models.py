"""Masking silences exactly the maps it should, on the architectures that are out there."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from filterwatch import mask_filters
from filterwatch.observing import find_layers, observe

MODELS = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "resnet18": 48,
    "mobilenet_v2": 48,
    "googlenet": 64,
    "densenet121": 32,
    "shufflenet_v2_x0_5": 64,
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    options: dict[str, Any] = {"googlenet": {"init_weights": False}}.get(name, {})
    model = get_model(name, weights=None, num_classes=10, **options).eval()
    for module in model.modules():
        # Freshly made ones neither shift nor scale: silencing a filter would need nothing of them.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0.5, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return model


def largest_values(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, maps: torch.Tensor) -> None:
        found[name] = maps.abs().amax(dim=(0, 2, 3))

    observe(model, [images], keep)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_masked_maps_are_zero_and_come_back(name: str) -> None:
    model = build(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, MODELS[name], MODELS[name], generator=generator)
    layers = {layer.name: layer for layer in find_layers(model, images)}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plain = largest_values(model, images)

    # One filter behind each layer, so that every way from a filter to a map is gone at once.
    chooser = random.Random(0)
    filters = sorted(
        {
            chooser.choice([source for source in layer.sources if source is not None])
            for layer in layers.values()
            if any(layer.sources)
        }
    )
    expected = defaultdict(list)
    for layer in layers.values():
        for channel, source in enumerate(layer.sources):
            if source in filters:
                expected[layer.name].append(channel)

    with mask_filters(model, filters, images=images) as masked:
        assert masked.filters == filters
        assert list(model.state_dict()) == list(before)
        silenced = largest_values(model, images)
        logits = model(images)
    for layer_name, channels in expected.items():
        assert (silenced[layer_name][channels] == 0).all(), layer_name
    # Most were something before: the check above means something.
    were_zero = sum(int((plain[n][c] == 0).sum()) for n, c in expected.items())
    assert were_zero < 0.2 * sum(map(len, expected.values()))
    assert logits.isfinite().all()

    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    again = largest_values(model, images)
    assert all(torch.equal(plain[layer_name], again[layer_name]) for layer_name in plain)


def test_other_filters_of_a_layer_stay_alive() -> None:
    model = build("resnet18")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    plain = largest_values(model, images)
    with mask_filters(model, [("layer2.0.conv1", 5)], images=images):
        masked = largest_values(model, images)
    # The filter's own maps, and everything up to them.
    assert masked["layer2.0.conv1"][5] == 0
    assert masked["layer2.0.relu"][5] == 0
    others = [channel for channel in range(128) if channel != 5]
    assert torch.equal(masked["layer2.0.relu"][others], plain["layer2.0.relu"][others])
    assert torch.equal(masked["layer1.1.conv2"], plain["layer1.1.conv2"])
    assert not torch.equal(masked["layer2.0.conv2"], plain["layer2.0.conv2"])


def test_in_densenet_every_normalization_of_a_filter_is_silenced() -> None:
    model = build("densenet121")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    layers = {layer.name: layer for layer in find_layers(model, images)}
    # The second convolution of the first dense layer has 32 filters behind 64 channels of the stem.
    source = ("features.denseblock1.denselayer1.conv2", 3)
    behind = [name for name, layer in layers.items() if source in layer.sources]
    assert layers["features.denseblock1.denselayer2.relu1"].sources[64 + 3] == source
    assert len(behind) >= 6  # five later layers of the block and its transition
    with mask_filters(model, [source], images=images):
        assert model.get_parameter("features.transition1.norm.weight")[64 + 3] == 0
        values = largest_values(model, images)
    for name in behind:
        channels = [c for c, s in enumerate(layers[name].sources) if s == source]
        assert (values[name][channels] == 0).all(), name


def test_a_grouped_convolution_behind_it_keeps_its_own_filters() -> None:
    """MobileNet: the depthwise convolution behind a masked filter is another filter."""
    model = build("mobilenet_v2")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    expand, depthwise = "features.2.conv.0.0", "features.2.conv.1.0"
    with mask_filters(model, [(expand, 7)], images=images):
        values = largest_values(model, images)
        assert values[expand][7] == 0
        assert values["features.2.conv.0.2"][7] == 0
        assert model.get_parameter(f"{depthwise}.weight")[7].abs().sum() > 0
        assert model.get_parameter("features.2.conv.1.1.bias")[7] != 0
