"""The filter that a map is traced to is the one whose masking silences it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.detection import Layer, find_layers
from filterwatch.detection.capture import capture

Source = tuple[str, int] | None


def sources(model: nn.Module, images: Tensor | None = None) -> dict[str, list[Source]]:
    """Return each layer's sources."""
    if images is None:
        images = torch.rand(2, 4, 8, 8)
    return {layer.name: layer.sources for layer in find_layers(model, images)}


def filters(name: str, *channels: int) -> list[Source]:
    return [(name, channel) for channel in channels]


class Traced(nn.Module):
    """Two convolutions, and any function of their maps."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.function(self.a(images), self.b(images)))


A, B = filters("a", 0, 1, 2, 3), filters("b", 0, 1, 2, 3)
UNKNOWN: list[Source] = [None] * 4


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a, b: a, A),
        # Moves channels.
        (lambda a, b: torch.cat([a, b], 1), A + B),
        (lambda a, b: torch.cat([b, a, b], 1), B + A + B),
        (lambda a, b: torch.cat([a, torch.zeros_like(a)], 1), A + UNKNOWN),
        (lambda a, b: a[:, [3, 1]], filters("a", 3, 1)),
        (lambda a, b: a[:, 1:3], filters("a", 1, 2)),
        (lambda a, b: a[:, 2].unsqueeze(1), filters("a", 2)),
        (lambda a, b: a.flip(1), A[::-1]),
        (lambda a, b: a.roll(1, 1), filters("a", 3, 0, 1, 2)),
        (lambda a, b: a.repeat(1, 2, 1, 1), A + A),
        (lambda a, b: a.index_select(1, torch.tensor([2, 0])), filters("a", 2, 0)),
        (lambda a, b: torch.cat(a.chunk(2, 1)[::-1], 1), filters("a", 2, 3, 0, 1)),
        (lambda a, b: torch.cat([a.split([1, 3], 1)[1], b.narrow(1, 0, 1)], 1), A[1:] + B[:1]),
        (lambda a, b: torch.stack([a, b], 2).flatten(1, 2), [A[0], B[0], A[1], B[1],
                                                            A[2], B[2], A[3], B[3]]),
        (lambda a, b: F.channel_shuffle(a, 2), filters("a", 0, 2, 1, 3)),
        # Moves elements within channels, or between them.
        (lambda a, b: a.transpose(2, 3).contiguous(), A),
        (lambda a, b: a.permute(0, 2, 3, 1).reshape(2, 64, 4).mT.reshape(2, 4, 8, 8), A),
        (lambda a, b: F.pixel_shuffle(a, 2), [None]),
        (lambda a, b: a.permute(0, 2, 3, 1).reshape(2, 4, 8, 8), UNKNOWN),
        (lambda a, b: torch.cat([a[:, :, :4], b[:, :, 4:]], 2), UNKNOWN),
        # Acts on each channel by itself.
        (lambda a, b: F.avg_pool2d(a, 2), A),
        (lambda a, b: F.interpolate(a, scale_factor=2), A),
        (lambda a, b: F.pad(a, (1, 1)), A),
        (lambda a, b: F.instance_norm(a), A),
        (lambda a, b: F.group_norm(a, 2), A),
        (lambda a, b: F.adaptive_avg_pool2d(a, 2), A),
        (lambda a, b: a.double().float(), A),
        (lambda a, b: 2 * a + 1, A),
        (lambda a, b: -a.exp() / 3, A),
        (lambda a, b: a + torch.rand(4, 1, 1), A),
        (lambda a, b: a * torch.sigmoid(a), A),
        # Gates scale a map, whatever they are made of; they do not make one.
        (lambda a, b: a * torch.rand(2, 4, 1, 1), A),
        (lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)), A),
        (lambda a, b: a * torch.rand(2, 4, 8, 8), A),
        # Two filters meet.
        (lambda a, b: a + b, UNKNOWN),
        (lambda a, b: a.add_(b), UNKNOWN),
        (lambda a, b: a - b, UNKNOWN),
        (lambda a, b: a * b, UNKNOWN),
        (lambda a, b: torch.maximum(a, b), UNKNOWN),
        (lambda a, b: torch.where(a > 0, a, b), UNKNOWN),
        (lambda a, b: a + torch.rand_like(a), UNKNOWN),
        (lambda a, b: a + b.mean((2, 3), keepdim=True), UNKNOWN),
        (lambda a, b: a.softmax(1), UNKNOWN),
        (lambda a, b: torch.einsum("ij,bjhw->bihw", torch.rand(4, 4), a), UNKNOWN),
        (lambda a, b: F.pad(a[:, :2], (0, 0, 0, 0, 1, 1)), UNKNOWN),
        (lambda a, b: a.amax(1, keepdim=True), [None]),
    ],
)  # fmt: skip
def test_what_operators_do_to_sources(
    function: Callable[[Tensor, Tensor], Tensor], expected: list[Source]
) -> None:
    assert sources(Traced(function))["F.relu"] == expected


def test_a_sum_of_two_calls_of_one_filter_is_still_that_filter_s() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(4, 2, 3)

        def forward(self, images: Tensor) -> Tensor:
            return F.relu(self.shared(images) + self.shared(images.flip(0)))

    found = sources(Twice())
    assert found == dict.fromkeys(["shared", "shared#2", "F.relu"], filters("shared", 0, 1))


def test_filters_that_no_module_holds_have_no_name() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.named = nn.Conv2d(4, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(self.named(images), torch.rand(2, 3, 1, 1)))

    assert sources(Functional()) == {
        "named": filters("named", 0, 1, 2),
        "F.conv2d": [None, None],
        "F.relu": [None, None],
    }


def test_a_parameter_used_by_a_functional_call_names_its_module() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Parameter(torch.rand(2, 4, 3, 3))

        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(images, self.filters))

    assert sources(nn.Sequential(Own())) == dict.fromkeys(["0", "0.F.relu"], filters("0", 0, 1))


def test_parametrized_filters_are_their_module_s() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 3)), nn.ReLU())
    assert sources(model) == dict.fromkeys(["0", "1"], filters("0", 0, 1))


def test_mixed_precision_casts_filters_but_they_stay_their_module_s() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1))

    def forward(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(batch)

    found = find_layers(model, torch.rand(2, 4, 8, 8), forward=forward)
    assert {layer.name: layer.sources for layer in found} == {
        "0": filters("0", 0, 1), "2": filters("0", 0, 1), "3": filters("3", 0, 1),
    }  # fmt: skip


def test_activations_before_any_convolution_are_no_layers() -> None:
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3), nn.ReLU())
    assert list(sources(model)) == ["2", "3"]


def test_residual_addition_ends_it_and_the_next_convolution_starts_anew() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, maps: Tensor) -> Tensor:
            return self.relu(self.conv2(self.relu(self.conv1(maps))) + maps)

    found = sources(nn.Sequential(nn.Conv2d(4, 4, 1), Block(), nn.Conv2d(4, 2, 1), nn.ReLU()))
    assert found["1.relu"] == filters("1.conv1", 0, 1, 2, 3)
    assert found["1.relu#2"] == UNKNOWN
    assert found["2"] == found["3"] == filters("2", 0, 1)


# -- Real architectures, by masking --------------------------------------------------------------

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
    capture(model, [images], lambda name, found: maps.update({name: found.clone()}))
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
            assert layer.sources == filters(layer.name, *range(len(layer.sources)))
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
