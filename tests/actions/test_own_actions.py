"""Actions of a callback: one, several, or of one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, fit, watch
from lightning.pytorch import Trainer
from torch.optim import Optimizer

from filterwatch import AnomalyReport, MaskFilters, StopTraining
from filterwatch.actions import Action, RunningFit, action_states, checked_actions


class Noting(Action):
    """Writes down what it is called for."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def check(self, trainer: Trainer) -> None:
        self.calls.append("check")

    def start(self, fit: RunningFit, *, resumed: bool) -> None:
        self.calls.append(("start", resumed))

    def on_epoch_start(self, fit: RunningFit) -> None:
        self.calls.append(("epoch", fit.trainer.current_epoch))

    def on_before_step(self, optimizer: Optimizer) -> None:
        if self.calls[-1] != "step":
            self.calls.append("step")

    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        assert report.count == fit.history[-1]["count"]
        assert sum(len(batch[0]) for batch in fit.batches) == report.n_samples
        logits: Any = fit.forward(fit.first_samples)
        assert logits.shape == (2, 4)
        self.calls.append(("judge", epoch))

    def end(self) -> None:
        self.calls.append("end")

    def metrics(self) -> dict[str, float]:
        return {"noted": float(len(self.calls))}


def test_an_action_of_ones_own_is_called_in_order() -> None:
    action = Noting()
    fitted = fit(watch(action=action, prefix="my_"), max_epochs=2)
    assert action.calls == [
        "check",
        ("start", False),
        ("epoch", 0),
        "step",
        ("judge", 0),
        ("epoch", 1),
        "step",
        ("judge", 1),
        "end",
    ]
    assert fitted.callback_metrics["my_noted"] == 8


def test_the_least_that_an_action_needs() -> None:
    class HalveLearningRate(Action):
        def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
            for group in fit.trainer.optimizers[0].param_groups:
                group["lr"] /= 2

    callback = watch(action=HalveLearningRate(), print_summary=True)
    fitted = fit(callback)
    assert fitted.optimizers[0].param_groups[0]["lr"] == 0.01 / 8
    with pytest.raises(TypeError, match="abstract"):
        Action()  # type: ignore[abstract]


def test_several_act_one_after_the_other() -> None:
    masking, noting = MaskThese({0: [("network.0", 1)]}), Noting()
    callback = watch(action=[noting, masking, StopTraining()])
    fitted = fit(callback)
    assert masking.masks is not None
    assert masking.masks.filters == [("network.0", 1)]
    assert ("judge", 2) in noting.calls
    assert {"noted", "masked_filters"} <= set(fitted.callback_metrics)
    assert [each.masks for each in callback.actions if each.masks] == [masking.masks]


def test_what_is_no_action() -> None:
    for wrong in ("mask", 3, [MaskFilters(), "stop"], MaskFilters):
        with pytest.raises(TypeError, match="is no Action: pass MaskFilters"):
            watch(action=wrong)
    with pytest.raises(ValueError, match="two MaskFilters"):
        watch(action=[MaskFilters(), MaskFilters()])


def test_without_actions_nothing_is_in_the_state() -> None:
    actions = checked_actions(None)
    assert actions == []
    assert action_states(actions) == {}
    assert "actions" not in watch().state_dict()


def test_a_failing_action_warns_and_training_goes_on() -> None:
    class Failing(Noting):
        def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
            raise OSError(f"disk full in epoch {epoch}")

    said = "could not act in epoch 0; training goes on. OSError: disk full in epoch 0"
    with pytest.warns(UserWarning, match=said):
        fitted = fit(watch(action=Failing(), strict=False), max_epochs=2)
    assert fitted.current_epoch == 2
    with pytest.raises(OSError, match="disk full"):
        fit(watch(action=Failing()))


def test_the_callbacks_name_in_a_checkpoint_does_not_depend_on_actions() -> None:
    assert watch(action=MaskFilters()).state_key == watch().state_key


def test_actions_can_be_watched_without_disturbing() -> None:
    plain, noted = TinyNet(), TinyNet()
    noted.load_state_dict(plain.state_dict())
    fit(watch(), module=plain)
    fit(watch(action=Noting()), module=noted)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(noted.state_dict()[name], tensor)
