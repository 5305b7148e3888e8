"""Masks beside what else may be going on: works, or is refused at the start of a fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from acted import EachStep, MaskThese, TinyNet, bitwise_equal, dataset, fit, relu_maps, watch
from lightning.pytorch import LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from torch import Tensor

from filterwatch import MaskFilters, StopTraining

IMAGES = dataset().tensors[0]
FILTERS = [("network.0", 1), ("network.4", 5)]
# Newer than the oldest Lightning.
EMA: Any = getattr(callbacks, "EMAWeightAveraging", None)


def masking(**options: Any) -> MaskFilters:
    return MaskThese({0: FILTERS}, **options)


def check_silent(module: Any) -> None:
    training = module.training
    module.eval()
    with torch.no_grad():
        for layer, index in FILTERS:
            assert (relu_maps(module, IMAGES, layer)[:, index] == 0).all()
    module.train(training)


class Compiled(TinyNet):
    def __init__(self) -> None:
        super().__init__()
        self.plain = self.network
        self.network = torch.compile(self.network, backend="aot_eager")  # type: ignore[assignment]


def test_a_compiled_network_is_masked_like_a_plain_one() -> None:
    torch.manual_seed(0)
    compiled, plain = Compiled(), TinyNet()
    plain.load_state_dict(compiled.plain.state_dict(prefix="network."))
    checked = []

    def check(trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch:
            # Through the compiled code, which was made before there was a mask.
            module.eval()
            before = module(IMAGES)
            module.plain[8].weight.data[:, 5 * 16 :] += 1  # what the masked filter 5 would feed
            assert torch.equal(module(IMAGES), before)
            module.plain[8].weight.data[:, 5 * 16 :] -= 1
            module.train()
            checked.append(trainer.global_step)

    action, other = masking(), masking()
    fit(watch(action=action), EachStep(check), module=compiled)
    fit(watch(action=other), module=plain)
    assert len(checked) == 8
    assert action.masks is not None
    assert action.masks.filters == FILTERS  # by the names that they have when nothing is compiled
    check_silent(plain)
    for name, tensor in plain.network.state_dict().items():
        torch.testing.assert_close(compiled.plain.state_dict()[name], tensor)


def test_a_compiled_module() -> None:
    module = TinyNet()
    action = masking()
    fit(watch(action=action), module=torch.compile(module, backend="aot_eager"))
    assert action.masks is not None
    assert action.masks.filters == FILTERS
    check_silent(module)


class Adversarial(TinyNet):
    """Two optimizers by hand, the second stepping while the first one's graph is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        loss = self.loss(batch)
        other = (self.network[4](torch.zeros(1, 4, 4, 4)) - 1).square().mean()
        second.zero_grad()
        self.manual_backward(other)
        second.step()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()

    def loss(self, batch: Any) -> Tensor:
        images, labels = batch
        maps = self.network[:4](images)
        logits = self.network[8](self.network[5:8](self.network[4](maps.detach()).detach()))
        return torch.nn.functional.cross_entropy(logits, labels) + maps.square().mean()

    def configure_optimizers(self) -> Any:
        second = self.network[4].parameters()
        own = {id(parameter) for parameter in self.network[4].parameters()}
        first = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return [torch.optim.Adam(first, lr=0.01), torch.optim.Adam(second, lr=0.01)]


def test_several_optimizers_by_hand() -> None:
    module = Adversarial()
    steps = []

    def check(trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch:
            check_silent(pl_module)
            steps.append(trainer.global_step)

    fit(watch(action=masking()), EachStep(check), module=module)
    assert len(steps) == 8


def test_hooks_are_gone_after_a_fit_and_after_a_crash() -> None:
    action = masking()
    fitted = fit(watch(action=action))
    assert not fitted.optimizers[0]._optimizer_step_post_hooks

    class Crashing(TinyNet):
        def on_train_epoch_end(self) -> None:
            raise KeyError("crash")

    with pytest.raises(KeyError, match="crash"):
        fit(watch(action=action), module=Crashing())
    assert action._hooks == []


@pytest.mark.parametrize(
    "averaging", [StochasticWeightAveraging(swa_lrs=0.01), *([EMA()] if EMA else [])]
)
def test_averaged_weights_are_refused(averaging: Any) -> None:
    name = type(averaging).__name__
    with pytest.raises(ValueError, match=rf"cannot work with {name}.*Leave out one of the two"):
        fit(watch(action=masking()), averaging)


@pytest.mark.skipif(EMA is None, reason="this Lightning has no EMAWeightAveraging")
def test_averaged_weights_can_be_stopped() -> None:
    fitted = fit(EMA(), watch(action=StopTraining()))
    assert fitted.current_epoch == 3


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy])
def test_sharded_parameters_are_refused(strategy: Any) -> None:
    """Made without their constructors, which want a GPU."""
    sharded: Any = type("Sharded", (), {"strategy": strategy.__new__(strategy), "callbacks": []})
    with pytest.raises(ValueError, match=f"cannot work with {strategy.__name__}"):
        MaskFilters().check(sharded)


def test_a_fit_refused_has_not_touched_the_module() -> None:
    module = TinyNet()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    averaging = StochasticWeightAveraging(swa_lrs=0.01)
    with pytest.raises(ValueError, match="cannot work with"):
        fit(watch(action=masking()), averaging, module=module)
    assert bitwise_equal(module.state_dict(), before)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_in_other_precisions(precision: Any) -> None:
    module = TinyNet()
    action = masking(release=True)
    fit(watch(action=action), module=module, precision=precision)
    assert action.history[0]["event"] == "masked"
    assert action.history[0].get("remaining", 0) == 0


def test_half_epoch_validation_sees_masked_weights() -> None:
    class Checking(TinyNet):
        checks = 0

        def on_validation_end(self) -> None:
            if self.trainer.current_epoch and not self.trainer.sanity_checking:
                check_silent(self)
                self.checks += 1

    module = Checking()
    fit(watch(action=masking()), module=module, val_check_interval=0.5)
    assert module.checks == 4
