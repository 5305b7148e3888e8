"""What the gradients of masked filters are, and when: see "Gradients of masked filters" in docs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, fit, watch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

MASKED = ("network.4", 2)
OTHERS = [0, 1, 3, 4, 5]


class Smooth(TinyNet):
    """A network in which masked filters have gradients: no slope is zero at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.network[6] = nn.Softplus()

    def masked_gradients(self) -> Tensor:
        conv, norm = self.network[4], self.network[5]
        return torch.cat([p.grad[2].flatten() for p in (*conv.parameters(), *norm.parameters())])


class Automatic(Smooth):
    def __init__(self) -> None:
        super().__init__()
        self.behind_backward: list[float] = []
        self.at_step: list[float] = []

    def on_after_backward(self) -> None:
        self.behind_backward.append(float(self.masked_gradients().abs().max()))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.at_step.append(float(self.masked_gradients().abs().max()))


def masking() -> Any:
    return watch(action=MaskThese({0: [MASKED]}))


def test_they_are_zero_from_the_hook_before_the_step_on() -> None:
    class Reader(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            self.seen.append(float(pl_module.masked_gradients().abs().max()))

    before, behind, module = Reader(), Reader(), Automatic()
    fit(before, masking(), behind, module=module, max_epochs=3)
    assert max(module.behind_backward[4:]) > 0
    assert max(before.seen[4:]) > 0
    assert max(behind.seen[4:]) == 0
    assert max(module.at_step[4:]) == 0
    assert min(module.at_step[:4]) > 0  # the epoch without masks


def test_behind_a_relu_they_are_zero_anyway() -> None:
    module = Automatic()
    module.network[6] = nn.ReLU()
    fit(masking(), module=module, max_epochs=3)
    assert max(module.behind_backward[4:]) == 0


class Manual(Smooth):
    """Clips by itself, between backward and step."""

    def __init__(self, callback: Any = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.callback = [callback]  # in a list: no part of the module
        self.norms: list[tuple[float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        if self.callback[0] is not None:
            self.callback[0].actions[0].on_before_step(optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters(), 0.5)
        self.norms.append((float(norm), float(self.masked_gradients().norm())))
        optimizer.step()


@pytest.mark.parametrize("cleared", [False, True])
def test_clipping_by_hand_counts_them_unless_they_are_cleared_before(cleared: bool) -> None:
    callback = masking()
    module = Manual(callback if cleared else None)
    fit(callback, module=module, max_epochs=3)
    assert callback.actions[0].masks.filters == [MASKED]
    shares = [masked for _, masked in module.norms[4:]]
    assert (max(shares) == 0) == cleared
    # The masks hold in either case.
    for parameter in (*module.network[4].parameters(), *module.network[5].parameters()):
        assert (parameter[2] == 0).all()
        assert (parameter[OTHERS] != 0).any()
