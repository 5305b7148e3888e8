"""The filter that a map is traced to is the one whose masking silences it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.observing import find_layers

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
        (lambda a, b: F.group_norm(a, 4), A),
        (lambda a, b: F.group_norm(a, 2, torch.ones(4), torch.zeros(4)), A),
        (lambda a, b: F.adaptive_avg_pool2d(a, 2), A),
        (lambda a, b: a.double().float(), A),
        (lambda a, b: 2 * a + 1, A),
        (lambda a, b: -a.exp() / 3, A),
        (lambda a, b: a + torch.linspace(0, 1, 4).view(4, 1, 1), A),
        (lambda a, b: a * torch.sigmoid(a), A),
        # Gates scale a map, whatever they are made of; they do not make one.
        (lambda a, b: a * torch.rand(2, 4, 1, 1), A),
        (lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)), A),
        (lambda a, b: a * torch.rand(2, 4, 8, 8), A),
        # Where nothing is left of a silenced map, it silences what it is multiplied with.
        (lambda a, b: F.silu(a) * b.mean(1, keepdim=True), A),
        (lambda a, b: a.sigmoid() * b.mean(1, keepdim=True), UNKNOWN),
        (lambda a, b: (a + 1) * b.mean(1, keepdim=True), UNKNOWN),
        (lambda a, b: a / (1 + b.square()), A),
        (lambda a, b: b.exp() / a.exp(), UNKNOWN),
        # One filter among others.
        (lambda a, b: F.group_norm(a, 2), UNKNOWN),
        (lambda a, b: a + torch.rand(4, 1, 1), UNKNOWN),  # every time another one
        (lambda a, b: a.sort(1)[0], UNKNOWN),
        (lambda a, b: a.cumsum(1), UNKNOWN),
        (lambda a, b: a[:, b.mean((0, 2, 3)).argsort()], UNKNOWN),
        (lambda a, b: torch.lerp(a, b, 0.5), UNKNOWN),
        (lambda a, b: torch.lerp(a, a.flip(0), 0.5), A),
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
        (lambda a, b: F.pad(a[:, :2], (0, 0, 0, 0, 1, 1)), [None, A[0], A[1], None]),
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
