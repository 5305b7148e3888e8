"""A model that was looked at is the model that it was, also when its forward pass fails."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterwatch.detection import detect_anomaly_filters
from filterwatch.observing import find_layers, undisturbed


class Restless(nn.Module):
    """Changes in every way that a forward pass can, even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(4),
            nn.Dropout(0.5),
            nn.MaxPool2d(2),
        )
        self.register_buffer("in_place", torch.zeros(3))
        self.register_buffer("by_data", torch.zeros(3))
        self.register_buffer("rebound", torch.zeros(3))
        self.register_buffer("resized", torch.zeros(3))
        self.register_buffer("absent", None)
        self.register_buffer("unsaved", torch.full((2,), torch.nan), persistent=False)
        self.fails_at = 10**6

    def forward(self, images: Tensor) -> Tensor:
        self.in_place += 1
        self.by_data.data.add_(1)
        self.rebound = self.rebound + 1
        self.resized = torch.cat([self.resized, self.resized])
        self.absent = torch.ones(1)
        self.unsaved.add_(1)
        random.random()
        np.random.rand()  # noqa: NPY002
        output = self.network(images + 0.1 * torch.randn_like(images))
        if len(images) > self.fails_at:
            raise RuntimeError("no")
        return output


def restless() -> Restless:
    """Return a model in a state of its own: partly frozen, with gradients and hooks."""
    torch.manual_seed(0)
    model = Restless()
    model.train()
    model.network[1].eval()
    model.network[4].eval()
    model.network[0].weight.requires_grad_(False)
    model(torch.rand(4, 3, 8, 8)).sum().backward()
    model.network[2].register_forward_hook(lambda module, inputs, output: None)
    model.network[2].register_forward_pre_hook(lambda module, inputs: None)
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """Describe everything about a model that looking at it must not change."""
    return {
        "parameters": {n: (id(p), p.requires_grad) for n, p in model.named_parameters()},
        "values": {n: p.detach().clone() for n, p in model.named_parameters()},
        "gradients": {n: copy.deepcopy(p.grad) for n, p in model.named_parameters()},
        "buffers": {n: (id(b), b.clone()) for n, b in model.named_buffers()},
        "flags": {n: m.training for n, m in model.named_modules()},
        "hooks": {
            n: [list(m._forward_hooks.items()), list(m._forward_pre_hooks.items())]
            for n, m in model.named_modules()
        },
        "always": {n: list(m._forward_hooks_always_called) for n, m in model.named_modules()},
        "names": sorted(model.state_dict()),
        "attributes": {n: sorted(vars(m)) for n, m in model.named_modules()},
        "gradient mode": torch.is_grad_enabled(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def assert_unchanged(after: Any, before: Any, place: str = "state") -> None:
    if isinstance(before, Tensor):
        assert torch.equal(after.nan_to_num(7.0), before.nan_to_num(7.0)), place
    elif isinstance(before, np.ndarray):
        assert np.array_equal(after, before), place
    elif isinstance(before, dict):
        assert after.keys() == before.keys(), place
        for key, value in before.items():
            assert_unchanged(after[key], value, f"{place}: {key}")
    elif isinstance(before, (tuple, list)):
        assert len(after) == len(before), place
        for one, other in zip(after, before, strict=True):
            assert_unchanged(one, other, place)
    else:
        assert after == before, place


def probe(n_samples: int = 20) -> Tensor:
    return torch.rand(n_samples, 3, 8, 8, generator=torch.Generator().manual_seed(0))


LOOKS: dict[str, Callable[[nn.Module], object]] = {
    "detect": lambda model: detect_anomaly_filters(model, probe(), max_clusters=3, batch_size=8),
    "find": lambda model: find_layers(model, probe(2)),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_changes_nothing(look: Callable[[nn.Module], object]) -> None:
    model = restless()
    before = state(model)
    look(model)
    assert_unchanged(state(model), before)


@pytest.mark.parametrize("fails_at", [0, 7])  # when the layers are looked for; or on the way
def test_looking_changes_nothing_when_the_forward_pass_fails(fails_at: int) -> None:
    model = restless()
    model.fails_at = fails_at
    before = state(model)
    with pytest.raises(RuntimeError, match="no"):
        detect_anomaly_filters(model, probe(), max_clusters=3, batch_size=8)
    assert_unchanged(state(model), before)


def test_looking_changes_nothing_when_the_batches_fail() -> None:
    def batches() -> Any:
        yield probe(8)
        raise OSError("the disk is gone")

    model = restless()
    before = state(model)
    with pytest.raises(OSError, match="the disk is gone"):
        detect_anomaly_filters(model, batches(), max_clusters=3)
    assert_unchanged(state(model), before)


def test_training_goes_on_as_if_nobody_had_looked() -> None:
    def trained(look: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            if look:
                detect_anomaly_filters(model, probe(), max_clusters=3)
            optimizer.zero_grad()
            model(torch.rand(8, 3, 8, 8)).square().sum().backward()
            if look:
                detect_anomaly_filters(model, probe(), max_clusters=3)
            optimizer.step()
        return model.state_dict()

    assert_unchanged(trained(True), trained(False))


def test_a_backward_pass_may_be_pending() -> None:
    # Evaluation-mode BatchNorm keeps its buffers for the backward pass: writing to them, even what
    # they held, would make it fail.
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval())
    loss = model(probe()).square().sum()
    detect_anomaly_filters(model, probe(), max_clusters=3)
    loss.backward()
    assert model[0].weight.grad is not None


def test_inside_the_model_evaluates_without_gradients_and_repeats_itself() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    draws = []
    for _ in range(2):
        with undisturbed(model, seed=4):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            draws.append((float(torch.rand(())), random.random(), np.random.rand()))  # noqa: NPY002
    assert draws[0] == draws[1]
    with undisturbed(model, seed=5):
        assert float(torch.rand(())) != draws[0][0]


def test_train_and_eval_of_the_model_are_not_called() -> None:
    class Stubborn(nn.Conv2d):
        def train(self, mode: bool = True) -> Stubborn:
            raise AssertionError("train() or eval() was called")

    model = nn.Sequential(Stubborn(3, 2, 3))
    detect_anomaly_filters(model, probe(), max_clusters=3)
    assert model[0].training


def test_a_module_used_twice_keeps_its_flag() -> None:
    frozen = nn.BatchNorm2d(4).eval()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), frozen, nn.ReLU(), frozen)
    detect_anomaly_filters(model, probe(), max_clusters=3)
    assert [module.training for module in model] == [True, False, True, False]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_torchscript_parts_and_lazy_buffers_are_left_alone() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scripted = torch.jit.script(nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
            self.register_buffer("unmade", nn.parameter.UninitializedBuffer())

    model = Lazy()
    with undisturbed(model):
        model.scripted[0].running_mean.add_(1)
    assert model.scripted[0].running_mean.eq(0).all()
    assert nn.parameter.is_lazy(model.unmade)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_what_runs_in_torchscript_belongs_to_the_module_around_it() -> None:
    model = nn.Sequential(torch.jit.script(nn.ReLU()), nn.Conv2d(3, 4, 3), nn.ReLU())
    assert [layer.name for layer in find_layers(model, torch.rand(2, 3, 8, 8))] == ["1", "2"]


def test_a_buffer_that_was_resized_comes_back() -> None:
    model = nn.Module()
    model.register_buffer("seen", torch.arange(3.0))
    with undisturbed(model):
        model.seen.resize_(8).zero_()
    assert model.seen.tolist() == [0, 1, 2]
