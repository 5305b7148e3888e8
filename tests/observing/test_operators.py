"""Operators by name: the kind of map that each puts out, and how a call of it is shown."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from filterwatch.observing import find_layers
from filterwatch.observing.operators import functional_name, kind_of, plain_name


@pytest.mark.parametrize(
    ("operator", "plain"),
    [("relu", "relu"), ("relu_", "relu"), ("hardtanh_", "hardtanh"), ("__and__", "__and__")],
)
def test_in_place_forms_lose_their_mark(operator: str, plain: str) -> None:
    assert plain_name(operator) == plain


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("convolution", "convolution"),
        ("relu", "activation"),
        ("_prelu_kernel", "activation"),
        ("max_pool2d_with_indices", "max_pool"),
        ("sigmoid", None),
        ("avg_pool2d", None),
        ("add", None),
    ],
)
def test_kinds(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("relu", "F.relu"),
        ("max_pool2d_with_indices", "F.max_pool2d"),
        ("convolution", "F.conv2d"),
        ("_prelu_kernel", "F.prelu"),
    ],
)
def test_functional_calls_are_shown_as_they_are_written(name: str, shown: str) -> None:
    assert functional_name(name) == shown


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.ReLU(), "activation"),
        (nn.ReLU(inplace=True), "activation"),
        (nn.ReLU6(), "activation"),
        (nn.ReLU6(inplace=True), "activation"),
        (nn.LeakyReLU(), "activation"),
        (nn.LeakyReLU(inplace=True), "activation"),
        (nn.RReLU(), "activation"),
        (nn.RReLU(inplace=True), "activation"),
        (nn.PReLU(), "activation"),
        (nn.PReLU(2), "activation"),
        (nn.ELU(), "activation"),
        (nn.ELU(inplace=True), "activation"),
        (nn.SELU(), "activation"),
        (nn.CELU(), "activation"),
        (nn.GELU(), "activation"),
        (nn.GELU("tanh"), "activation"),
        (nn.SiLU(), "activation"),
        (nn.SiLU(inplace=True), "activation"),
        (nn.Mish(), "activation"),
        (nn.Hardswish(), "activation"),
        (nn.Hardtanh(), "activation"),
        (nn.Softplus(), "activation"),
        (nn.Threshold(0.1, 0.0), "activation"),
        (nn.Tanh(), "activation"),
        (nn.MaxPool2d(2), "max_pool"),
        (nn.MaxPool2d(2, return_indices=True), "max_pool"),
        (nn.AdaptiveMaxPool2d(2), "max_pool"),
        (nn.FractionalMaxPool2d(2, output_size=2), "max_pool"),
        (nn.Sigmoid(), None),
        (nn.AvgPool2d(2), None),
        (nn.AdaptiveAvgPool2d(1), None),
        (nn.BatchNorm2d(2), None),
        (nn.Dropout(), None),
        (nn.Upsample(scale_factor=2), None),
    ],
    ids=str,
)
def test_modules_behind_a_convolution(module: nn.Module, kind: str | None) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), module)
    found = {layer.name: layer for layer in find_layers(model, torch.rand(2, 1, 8, 8))}
    assert found["0"].kind == "convolution"
    if kind is None:
        assert list(found) == ["0"]
    else:
        assert list(found) == ["0", "1"]
        assert found["1"].kind == kind
        # Each acts on a channel by itself: the filter behind it stays known.
        assert found["1"].sources == [("0", 0), ("0", 1)]


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        (torch.relu, "F.relu"),
        (torch.relu_, "F.relu"),
        (torch.Tensor.relu, "F.relu"),
        (F.relu, "F.relu"),
        (lambda maps: F.relu(maps, inplace=True), "F.relu"),
        (F.gelu, "F.gelu"),
        (F.rrelu, "F.rrelu"),
        (lambda maps: F.max_pool2d(maps, 2), "F.max_pool2d"),
        (lambda maps: torch.max_pool2d(maps, 2), "F.max_pool2d"),
        (lambda maps: F.adaptive_max_pool2d(maps, 2), "F.adaptive_max_pool2d"),
    ],
)
def test_functional_calls_behind_a_convolution(call: object, shown: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 2, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return call(self.convolution(images))  # type: ignore[operator,no-any-return]

    found = [layer.name for layer in find_layers(Model(), torch.rand(2, 1, 8, 8))]
    assert found == ["convolution", shown]
