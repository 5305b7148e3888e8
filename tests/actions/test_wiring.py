"""What a filter consists of, found by following the data through unusual networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from filterwatch import mask_filters
from filterwatch.actions.wiring import Wiring, trace_wiring
from filterwatch.observing import observe

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    """Built from a function of its submodules."""

    def __init__(self, forward: Any, **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.run = forward

    def forward(self, images: Tensor) -> Any:
        return self.run(self, images)


def shaken(model: nn.Module) -> nn.Module:
    """Give every parameter and running statistic a value that does something."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator) + 0.5
            tensor.copy_(values if "running" in name or tensor.ndim == 1 else values - 1)
    return model.eval()


def wiring(model: nn.Module) -> Wiring:
    return trace_wiring(model, IMAGES)


def names(model: nn.Module, layer: str, index: int) -> list[tuple[str, int]]:
    return sorted(wiring(model).slots[layer, index].silenced)


def values_behind(model: nn.Module, layer: str, maps: str) -> Tensor:
    """Return what is left of the maps of filter 1 of a layer when that is masked, [B, h, w]."""
    found: dict[str, Tensor] = {}
    with mask_filters(model, [(layer, 1)], images=IMAGES):
        observe(model, [IMAGES], lambda name, m: found.update({name: m.clone()}))
    return found[maps][:, 1]


def test_a_bias_without_normalization() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert names(model, "0", 1) == [("0.bias", 1), ("0.weight", 1)]
    assert names(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), "0", 3) == [("0.weight", 3)]


@pytest.mark.parametrize(
    ("model", "norms"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.BatchNorm2d(4), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU()), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ReLU()), 0),
    ],
)
def test_the_normalization_behind_a_filter_is_silenced(model: nn.Module, norms: int) -> None:
    model = shaken(model)
    silenced = wiring(model).slots["0", 1].silenced
    assert len(silenced) == 2 + norms
    assert all(index == 1 for _, index in silenced)
    relu = next(n for n, module in model.named_modules() if isinstance(module, nn.ReLU))
    assert (values_behind(model, "0", relu) == 0).all()


def test_a_layer_norm_over_channels() -> None:
    """ConvNeXt: channels go last, are normalized over, and come back."""

    def forward(self: Any, images: Tensor) -> Tensor:
        maps = self.conv(images).permute(0, 2, 3, 1)
        return self.norm(maps)

    model = shaken(Functional(forward, conv=nn.Conv2d(3, 4, 3), norm=nn.LayerNorm(4)))
    assert ("norm.weight", 1) in names(model, "conv", 1)
    with mask_filters(model, [("conv", 1)], images=IMAGES):
        assert (model(IMAGES)[..., 1] == 0).all()


def test_a_norm_over_flattened_maps() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 7), nn.Flatten(), nn.BatchNorm1d(8))
    expected = [("2.bias", i) for i in range(4, 8)] + [("2.weight", i) for i in range(4, 8)]
    assert names(shaken(model), "0", 1) == [("0.bias", 1), ("0.weight", 1), *expected]


def test_functional_normalization() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        maps = F.batch_norm(self.conv(images), self.mean, self.variance, self.scale, self.shift)
        return F.relu(maps)

    model = Functional(
        forward,
        conv=nn.Conv2d(3, 4, 3),
        scale=nn.Parameter(torch.ones(4)),
        shift=nn.Parameter(torch.ones(4)),
    )
    model.register_buffer("mean", torch.ones(4))
    model.register_buffer("variance", torch.ones(4))
    assert names(model, "conv", 2)[2:] == [("scale", 2), ("shift", 2)]
    assert sorted(wiring(model).slots["conv", 2].statistics) == [("mean", 2), ("variance", 2)]


def test_normalization_behind_a_concatenation() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        return torch.relu(self.norm(torch.cat([self.left(images), self.right(images)], dim=1)))

    model = Functional(
        forward, left=nn.Conv2d(3, 4, 3), right=nn.Conv2d(3, 2, 3), norm=nn.BatchNorm2d(6)
    )
    assert ("norm.weight", 5) in names(model, "right", 1)
    assert ("norm.weight", 1) in names(model, "left", 1)


def test_normalization_behind_an_addition_belongs_to_no_filter() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.left(images) + self.right(images)))

    model = Functional(
        forward, left=nn.Conv2d(3, 4, 3), right=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)
    )
    assert names(model, "right", 1) == [("right.bias", 1), ("right.weight", 1)]


def test_a_normalization_shared_by_two_convolutions_is_an_obstacle() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        return self.norm(self.left(images)) + self.norm(self.right(images))

    model = Functional(
        forward, left=nn.Conv2d(3, 4, 3), right=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)
    )
    obstacle = wiring(model).obstacle(("left", 1))
    assert obstacle is not None
    assert "normalization norm gets other maps too" in obstacle
    with pytest.raises(ValueError, match="filter 1 of 'left' cannot be masked: channel 1 of the"):
        mask_filters(model, [("left", 1)], images=IMAGES)


def test_a_filter_used_twice_is_silenced_in_both_places() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        small = F.avg_pool2d(images, 2)
        return torch.relu(self.first(self.conv(images))).mean() + torch.relu(
            self.second(self.conv(small))
        )

    model = shaken(
        Functional(
            forward, conv=nn.Conv2d(3, 4, 3), first=nn.BatchNorm2d(4), second=nn.BatchNorm2d(4)
        )
    )
    silenced = names(model, "conv", 1)
    assert {("first.bias", 1), ("second.bias", 1)} < set(silenced)
    assert (values_behind(model, "conv", "F.relu") == 0).all()
    assert (values_behind(model, "conv", "F.relu#2") == 0).all()


def test_tied_weights_are_silenced_with_every_bias() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        return torch.relu(self.one(images)) + torch.relu(self.two(images))

    model = Functional(forward, one=nn.Conv2d(3, 4, 3), two=nn.Conv2d(3, 4, 3))
    model.two.weight = model.one.weight
    (layer,) = wiring(shaken(model)).layers
    silenced = [name for name, _ in names(model, layer, 1)]
    assert {"one.bias", "two.bias"} < set(silenced)
    assert (values_behind(model, layer, "F.relu") == 0).all()
    assert (values_behind(model, layer, "F.relu#2") == 0).all()


@pytest.mark.parametrize(
    ("convolution", "reason"),
    [
        (nn.ConvTranspose2d(3, 4, 3), "transposed convolution"),
        (parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "computed from other parameters"),
    ],
)
def test_what_is_no_plain_filter_cannot_be_masked(convolution: nn.Module, reason: str) -> None:
    obstacle = wiring(nn.Sequential(convolution, nn.ReLU())).obstacle(("0", 1))
    assert obstacle is not None
    assert reason in obstacle


def test_a_filter_that_did_not_run() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    for filter_ in (("1", 0), ("0", 4)):
        assert "no such filter" in str(wiring(model).obstacle(filter_))


def test_under_mixed_precision_parameters_are_found() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(images: Tensor) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return model(images)

    assert trace_wiring(model, IMAGES, forward=forward) == wiring(model)


def test_a_compiled_network_is_named_like_the_plain_one() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    compiled = nn.Sequential(torch.compile(network))
    assert wiring(compiled) == wiring(nn.Sequential(network))


def test_tracing_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    wiring(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model[0]._forward_hooks
