"""In real architectures, masking the filter that a map is traced to silences the map."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from filterwatch.observing import Layer, find_layers, observe

SIZES = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "resnet18": 48,
    "mobilenet_v2": 64,
    "googlenet": 64,
    "densenet121": 64,
    "shufflenet_v2_x1_0": 64,
}


@pytest.fixture(params=SIZES, scope="module")
def architecture(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Tensor]:
    """Return a name, a network with random weights, and images of 3 samples."""
    name: str = request.param
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(**options)
    if hasattr(model, "classifier"):
        model.classifier = nn.Identity()  # a hundred million weights that no map sees
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):  # as after training: no filter is silent by itself
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0.1, 0.6)
            nn.init.normal_(module.running_mean, std=0.1)
    return name, model, torch.randn(3, 3, SIZES[name], SIZES[name])


def maps_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    maps: dict[str, Tensor] = {}
    observe(model, [images], lambda name, found: maps.update({name: found.clone()}))
    return maps


def norms_behind(model: nn.Module, images: Tensor) -> dict[str, nn.BatchNorm2d]:
    """Return, for each convolution whose maps go straight into a BatchNorm, that BatchNorm."""
    outputs: list[tuple[str, Tensor]] = []
    found: dict[str, nn.BatchNorm2d] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(
                    lambda module, inputs, output, name=name: outputs.append((name, output))
                )
            )
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, inputs: found.update(
                        {name: module for name, output in outputs if output is inputs[0]}
                    )
                )
            )
    with torch.no_grad():
        model.eval()(images)
    for handle in handles:
        handle.remove()
    return found


def is_constant(maps: Tensor) -> Tensor:
    """Return which channels [C] of maps [B, C, h, w] are one number throughout."""
    return (maps == maps[:1, :, :1, :1]).all(3).all(2).all(0)


def layers_of(model: nn.Module, images: Tensor) -> dict[str, Layer]:
    return {layer.name: layer for layer in find_layers(model, images)}


def test_masking_half_of_all_filters_silences_exactly_their_maps(
    architecture: tuple[str, nn.Module, Tensor],
) -> None:
    name, model, images = architecture
    layers = layers_of(model, images)
    before = maps_of(model, images)
    norms = norms_behind(model, images)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    masked: set[tuple[str, int]] = set()
    with torch.no_grad():
        for module_name, module in model.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            half = torch.randperm(module.out_channels, generator=generator)
            half = half[: module.out_channels // 2]
            masked |= {(module_name, channel) for channel in half.tolist()}
            for tensor in (module.weight, module.bias):
                if tensor is not None:
                    tensor[half] = 0.0
            if module_name in norms:
                norms[module_name].weight[half] = 0.0
                norms[module_name].bias[half] = 0.0
    after = maps_of(model, images)
    model.load_state_dict(saved)

    assert list(layers) == list(before) == list(after)
    kept = varying = 0
    for layer_name, layer in layers.items():
        constant = is_constant(after[layer_name])
        silent = (after[layer_name] == 0).all(3).all(2).all(0)
        alive = ~is_constant(before[layer_name])
        for channel, source in enumerate(layer.sources):
            where = (layer_name, channel, source)
            if source in masked:
                assert constant[channel], where
                # Behind a concatenation DenseNet normalizes once more: that constant is not 0.
                if name != "densenet121" or (source[0] in norms and "conv0" not in source[0]):
                    assert silent[channel], where
            elif source is not None and alive[channel]:
                kept += 1
                varying += not constant[channel]
    # A filter of which only every other input is left may fall silent by itself, but rarely does.
    assert varying >= 0.5 * kept > 0


def test_only_maps_behind_a_residual_addition_are_nobody_s(
    architecture: tuple[str, nn.Module, Tensor],
) -> None:
    name, model, images = architecture
    layers = layers_of(model, images)
    unknown = {layer.name for layer in layers.values() if None in layer.sources}
    expected = {f"layer{stage}.{block}.relu#2" for stage in range(1, 5) for block in range(2)}
    assert unknown == (expected if name == "resnet18" else set())
    for layer_name in unknown:
        assert set(layers[layer_name].sources) == {None}
    convolutions = {n for n, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    for layer in layers.values():
        assert {source[0] for source in layer.sources if source is not None} <= convolutions
        if layer.kind == "convolution":
            assert layer.sources == [(layer.name, at) for at in range(len(layer.sources))]
    assert convolutions == {n for n, layer in layers.items() if layer.kind == "convolution"}


@pytest.mark.parametrize("architecture", ["resnet18"], indirect=True)
def test_no_single_filter_silences_a_map_behind_a_residual_addition(
    architecture: tuple[str, nn.Module, Tensor],
) -> None:
    _, model, images = architecture
    norms = norms_behind(model, images)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    for branch in ("layer1.1.conv2", "layer2.0.conv2", "layer2.0.downsample.0"):
        with torch.no_grad():
            model.get_submodule(branch).weight.zero_()
            norms[branch].weight.zero_()
            norms[branch].bias.zero_()
        block = branch.split(".conv")[0].split(".downsample")[0]
        constant = is_constant(maps_of(model, images)[f"{block}.relu#2"])
        model.load_state_dict(saved)
        assert constant.double().mean() < 0.5
