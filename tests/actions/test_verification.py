"""`MaskFilters(verify=True)` masks only what does not raise the loss on the probe's labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, dataset, fit, watch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from filterwatch import mask_filters

ALL = [("network.4", channel) for channel in range(6)]


class Weights(Callback):
    """Keeps the network as it was at the end of epoch 0, when it was judged."""

    def __init__(self) -> None:
        self.network = TinyNet().network

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.network.load_state_dict(pl_module.network.state_dict())
            self.network.eval()


def verified(plan: Any = None, **options: Any) -> tuple[MaskThese, Any, nn.Module]:
    action = MaskThese({0: ALL} if plan is None else plan, verify=True, **options)
    callback = watch(action=action, criteria=None, probe_size=64)
    weights = Weights()
    fit(callback, weights, max_epochs=2)
    return action, callback, weights.network


@torch.no_grad()
def loss_without(network: nn.Module, filters: list[tuple[str, int]]) -> float:
    images, labels = dataset().tensors
    named = [(layer.removeprefix("network."), channel) for layer, channel in filters]
    with mask_filters(network, named):
        return float(F.cross_entropy(network(images), labels))


def test_each_candidate_is_tried_on_top_of_those_accepted() -> None:
    action, _, network = verified()
    accepted: list[tuple[str, int]] = []
    kinds = set()
    by_filter = {(e["layer"], e["channel"]): e for e in action.history if e["epoch"] == 0}
    for filter_ in ALL:
        if filter_ not in by_filter:
            continue  # no room was left
        event = by_filter[filter_]
        kinds.add(event["event"])
        before = loss_without(network, accepted)
        change = loss_without(network, [*accepted, filter_]) - before
        assert event["loss_change"] == pytest.approx(change, abs=1e-5)
        assert (event["event"] == "masked") == (event["loss_change"] <= 0)
        if event["event"] == "masked":
            accepted.append(filter_)
    assert kinds == {"masked", "rejected"}
    assert action.masks is not None
    assert action.masks.filters == accepted


def test_trials_leave_no_trace() -> None:
    """All are rejected: training goes on as if nothing had been tried."""

    class Rejecting(MaskThese):
        def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
            torch.rand(3)  # draws from the global random state
            silent = pl_module.network[4].weight.flatten(1).abs().sum(1) == 0
            return pl_module(batch[0]).mean() * 0 + silent.sum()

    action = Rejecting({0: ALL, 1: ALL}, verify=True)
    acted, plain = TinyNet(), TinyNet()
    plain.load_state_dict(acted.state_dict())
    fit(watch(action=action), module=acted)
    fit(watch(), module=plain)
    assert action.masks is not None
    assert action.masks.filters == []
    assert {event["event"] for event in action.history} == {"rejected"}
    for name, tensor in plain.state_dict().items():
        assert torch.equal(acted.state_dict()[name], tensor), name


def test_the_summary_says_what_candidates_do(capsys: pytest.CaptureFixture[str]) -> None:
    action = MaskThese({0: ALL}, verify=True)
    fit(watch(action=action, print_summary=True), max_epochs=1)
    changes = [event["loss_change"] for event in action.history]
    printed = " ".join(capsys.readouterr().out.split())
    masked = sum(event["event"] == "masked" for event in action.history)
    assert f"verified: {masked} of {len(changes)} candidates were masked" in printed
    assert f"by {sum(changes) / len(changes):+.3g} on average" in printed


def test_a_loss_that_is_no_number_rejects() -> None:
    class Nan(MaskThese):
        def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
            return torch.tensor(float("nan"))

    action = Nan({0: ALL}, verify=True)
    fit(watch(action=action), max_epochs=2)
    assert {event["event"] for event in action.history} == {"rejected"}


def test_trials_are_limited() -> None:
    values = iter(range(1000))

    class Rising(MaskThese):
        def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
            return torch.tensor(float(next(values)))

    action = Rising({0: ALL}, verify=True, max_fraction=0.34)
    fit(watch(action=action), max_epochs=1)
    assert len(action.history) == 4  # twice as many as the two there is room for


def test_without_labels_it_is_refused_at_the_start() -> None:
    images = dataset().tensors[0]
    callback = watch(action=MaskThese({0: ALL}, verify=True), probe=images)
    with pytest.raises(ValueError, match=r"needs a class label for each image.*verification_loss"):
        fit(callback)


def test_training_samples_are_refused() -> None:
    callback = watch(action=MaskThese({0: ALL}, verify=True), probe="train")
    with pytest.raises(ValueError, match="needs held-out samples"):
        fit(callback)


def test_a_loss_of_ones_own_for_other_data() -> None:
    class Regression(MaskThese):
        def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
            return pl_module(batch["image"]).square().mean()

    images = dataset().tensors[0]
    probe = DataLoader([{"image": image} for image in images], batch_size=16)
    action = Regression({0: ALL}, verify=True)
    fit(watch(action=action, probe=probe), max_epochs=2)
    assert action.history


def test_labels_in_a_mapping() -> None:
    samples = [{"image": image, "label": label} for image, label in dataset()]
    action = MaskThese({0: ALL}, verify=True)
    fit(watch(action=action, probe=DataLoader(samples, batch_size=16)), max_epochs=1)
    assert action.history


def test_one_number_is_expected() -> None:
    class Several(MaskThese):
        def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
            return pl_module(batch[0])

    with pytest.raises(ValueError, match="must return one number"):
        fit(watch(action=Several({}, verify=True)))


def test_labels_only_matter_with_verify() -> None:
    images = dataset().tensors[0]
    action = MaskThese({0: ALL})
    fit(watch(action=action, probe=images), max_epochs=2)
    assert action.masks is not None
    assert len(action.masks.filters) == 4
    assert all("loss_change" not in event for event in action.history)
