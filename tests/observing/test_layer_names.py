"""Which layers there are, under which names, and which of them patterns choose."""

from __future__ import annotations

import pytest
import torch
from networks import IMAGES, Modules, detect, maps_of, names
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.observing import find_layers


class Shared(nn.Module):
    """One activation and one convolution, each called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.conv1(images))
        maps = self.relu(self.again(maps))
        maps = F.max_pool2d(maps, 2)
        return F.max_pool2d(self.relu(self.again(maps)), 2)


def test_calls_of_one_module_are_kept_apart() -> None:
    model = nn.Sequential(Shared())
    expected = [
        "0.conv1", "0.relu", "0.again", "0.relu#2", "0.F.max_pool2d", "0.again#2", "0.relu#3",
        "0.F.max_pool2d#2",
    ]  # fmt: skip
    assert names(model) == expected
    maps = maps_of(model, IMAGES[:8], IMAGES[8:20])
    assert list(maps) == expected
    # Numbered anew in each pass.
    assert [[len(found) for found in parts] for parts in maps.values()] == [[8, 12]] * 8
    assert not torch.equal(maps["0.relu"][0], maps["0.relu#2"][0])
    report = detect(model, batch_size=16)
    assert list(report.layers) == expected
    assert not report.skipped


def test_a_module_under_two_names_goes_by_the_first() -> None:
    conv = nn.Conv2d(3, 3, 1)
    assert names(nn.Sequential(conv, nn.ReLU(), conv)) == ["0", "1", "0#2"]


def test_a_model_that_is_itself_the_layer() -> None:
    assert names(nn.Conv2d(3, 2, 3)) == ["F.conv2d"]

    class Alone(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(images, torch.ones(2, 3, 1, 1)))

    assert names(Alone()) == ["F.conv2d", "F.relu"]


def test_functional_calls_carry_the_name_of_the_module_around_them() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, maps: Tensor) -> Tensor:
            return F.relu(self.conv(maps))

    assert names(nn.Sequential(Block(), Block())) == ["0.conv", "0.F.relu", "1.conv", "1.F.relu"]


def test_an_own_activation_module_goes_by_its_name() -> None:
    class Swish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = 2.0
            self.slope = nn.Parameter(torch.ones(3))

        def forward(self, maps: Tensor) -> Tensor:
            return F.silu(self.weight * maps * self.slope.view(3, 1, 1))

    assert names(nn.Sequential(nn.Conv2d(3, 3, 1), Swish())) == ["0", "1"]


def test_an_own_convolution_with_its_activation_has_two() -> None:
    class ConvReLU(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return F.relu(super().forward(images))

    class OwnFilters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.rand(2, 3, 1, 1))

        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(images, self.kernel))

    found = find_layers(nn.Sequential(ConvReLU(3, 3, 1), OwnFilters()), IMAGES[:2])
    assert [layer.name for layer in found] == ["0", "0.F.relu", "1", "1.F.relu"]
    assert [layer.kind for layer in found] == ["convolution", "activation"] * 2
    assert [layer.module_name for layer in found] == ["0", "0", "1", "1"]


def test_layers_describe_themselves() -> None:
    conv, relu, pool, *_ = find_layers(Modules().double(), IMAGES[:2].double())
    assert (conv.kind, relu.kind, pool.kind) == ("convolution", "activation", "max_pool")
    assert conv.map_bytes == 4 * 8 * 8 * 8
    assert pool.map_bytes == 4 * 4 * 4 * 8
    half = find_layers(Modules().bfloat16(), IMAGES[:2].bfloat16())[0]
    assert half.map_bytes == 4 * 8 * 8 * 4  # they are computed with in float32


def test_channels_last_maps_are_the_same() -> None:
    model = Modules()
    expected = detect(model)
    found = detect(model.to(memory_format=torch.channels_last))
    for layer, other in zip(found.layers.values(), expected.layers.values(), strict=True):
        torch.testing.assert_close(layer.points, other.points, rtol=1e-3, atol=1e-4)


def test_vectors_and_volumes_are_no_feature_maps() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.signal = nn.Conv1d(2, 2, 3)
            self.volume = nn.Conv3d(1, 1, 1)

        def forward(self, images: Tensor) -> Tensor:
            maps = F.relu(self.conv(images))
            signal = F.relu(self.signal(maps.flatten(2)))
            volume = F.relu(self.volume(maps.unsqueeze(1)))
            return F.relu(signal.mean(2)) + F.relu(volume.flatten(2).mean((1, 2)).unsqueeze(1))

    assert names(Mixed()) == ["conv", "F.relu"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["conv1"], ["conv1"]),
        (["conv*"], ["conv1", "conv2"]),
        (["relu?", "pool"], ["relu1", "pool", "relu2"]),
        (["pool", "conv1"], ["conv1", "pool"]),  # in forward order
        (["*"], ["conv1", "relu1", "pool", "conv2", "relu2"]),
        (["*", "conv1"], ["conv1", "relu1", "pool", "conv2", "relu2"]),
        (["[cp]*1"], ["conv1"]),
    ],
)
def test_patterns(patterns: list[str], expected: list[str]) -> None:
    assert names(Modules(), layers=patterns) == expected
    assert list(detect(Modules(), layers=patterns).layers) == expected


def test_a_single_string_is_no_list_of_patterns() -> None:
    with pytest.raises(TypeError, match=r"layers='conv\*' is not a list of glob patterns"):
        detect(Modules(), layers="conv*")


def test_patterns_match_module_names_for_every_call_and_layer_names_for_one() -> None:
    model = nn.Sequential(Shared())
    assert names(model, layers=["0.relu"]) == ["0.relu", "0.relu#2", "0.relu#3"]
    assert names(model, layers=["*relu#2"]) == ["0.relu#2"]
    assert names(model, layers=["0"]) == ["0.F.max_pool2d", "0.F.max_pool2d#2"]
    assert names(model, layers=["*F.*"]) == ["0.F.max_pool2d", "0.F.max_pool2d#2"]


@pytest.mark.parametrize("patterns", [["conv3"], ["conv1", "Conv*"], ["relu"]])
def test_a_pattern_that_matches_nothing_is_refused_with_the_names(patterns: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{patterns[-1].replace('*', '.')}' matches none of: "
                       "conv1, relu1, pool, conv2, relu2"):  # fmt: skip
        find_layers(Modules(), IMAGES[:2], layers=patterns)


def test_no_pattern_at_all_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"layers=\[\] names none: .* conv1, relu1, pool"):
        find_layers(Modules(), IMAGES[:2], layers=[])


def test_a_model_without_convolutions_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(300, 10), nn.ReLU())
    with pytest.raises(ValueError, match="Sequential ran no 2-D convolution"):
        find_layers(model, IMAGES[:2])
