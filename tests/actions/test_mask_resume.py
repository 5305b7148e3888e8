"""A run with masks that is interrupted and resumed equals one that was not, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, bitwise_equal, dataset, fit, loader, trainer, watch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from filterwatch import MaskFilters, StopTraining
from filterwatch.detection import AnomalyCriteria

IMAGES = dataset().tensors[0]
EPOCHS = 5
LENIENT = AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=0.8)

# The resumed runs write no checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")


def planned() -> MaskFilters:
    return MaskThese({0: [("network.0", 1)], 1: [("network.4", 0)], 2: [("network.4", 5)]})


def flagged() -> MaskFilters:
    return MaskFilters(max_fraction=0.5, patience=2, release=True)


def run(action: Any, *callbacks: Any, checkpoint: Any = None, **options: Any) -> Any:
    callback = watch(action=action, criteria=LENIENT)
    module = TinyNet(lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1))
    options = {"max_epochs": EPOCHS, "enable_checkpointing": bool(callbacks), **options}
    fitted = fit(callback, *callbacks, module=module, checkpoint=checkpoint, **options)
    return callback, module, fitted


@pytest.mark.parametrize("make", [planned, flagged])
@pytest.mark.parametrize(
    "when",
    [
        {},  # at the end of an epoch, with masks decided and not yet applied
        {"every_n_train_steps": 4},  # behind its last batch, before its probe
    ],
)
def test_resumed_from_anywhere_it_is_the_same(make: Any, when: Any, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    action = make()
    torch.manual_seed(0)
    callback, module, fitted = run(action, checkpoint)
    assert action.history
    assert action.masks is not None
    assert action.masks.filters
    expected = fitted.optimizers[0].state_dict()["state"]
    paths = sorted(tmp_path.iterdir(), key=lambda path: int(path.stem.split("=")[1]))
    for path in paths[:-1]:
        resumed = make()
        again, other, refitted = run(resumed, checkpoint=path)
        assert bitwise_equal(other.state_dict(), module.state_dict()), path
        assert again.history == callback.history
        assert resumed.history == action.history
        assert resumed.masks is not None
        assert resumed.masks.filters == action.masks.filters
        state = refitted.optimizers[0].state_dict()["state"]
        for index, values in expected.items():
            assert all(torch.equal(state[index][key], value) for key, value in values.items())


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_resumed_amid_an_epoch_masks_hold(tmp_path: Path) -> None:
    """Lightning begins the epoch's data again, so that weights differ in any case."""
    checkpoint = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=14)
    run(planned(), checkpoint)
    action = planned()
    _, module, _ = run(action, checkpoint=tmp_path / "step=14.ckpt")
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1), ("network.4", 0), ("network.4", 5)]
    assert [event["epoch"] for event in action.history] == [0, 1, 2]
    module.eval()
    assert (module.network[:3](IMAGES)[:, 1] == 0).all()
    assert (module.network[:7](IMAGES)[:, [0, 5]] == 0).all()


def test_pending_masks_are_in_the_state(tmp_path: Path) -> None:
    action = MaskThese({1: [("network.0", 1)]})
    _, _, fitted = run(action, max_epochs=2)
    fitted.save_checkpoint(tmp_path / "end.ckpt")
    (state,) = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"].values()
    (entry,) = state["actions"]
    assert entry["name"] == "MaskThese"
    assert entry["state"]["to_mask"] == [["network.0", 1]]
    assert entry["state"]["masks"] == []
    resumed = MaskThese({})
    run(resumed, checkpoint=tmp_path / "end.ckpt", max_epochs=3)
    assert resumed.masks is not None
    assert resumed.masks.filters == [("network.0", 1)]


def test_a_mask_from_a_checkpoint_can_be_released(tmp_path: Path) -> None:
    before: dict[str, torch.Tensor] = {}

    class Start(ModelCheckpoint):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch == 0:
                before.update({n: t.clone() for n, t in pl_module.state_dict().items()})

    run(planned(), Start(tmp_path, filename="{epoch}", save_top_k=-1), max_epochs=2)
    action = MaskThese({})
    _, module, _ = run(action, checkpoint=tmp_path / "epoch=1.ckpt", max_epochs=3)
    assert action.masks is not None
    action.masks.release(("network.0", 1))
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        restored = module.state_dict()[f"network.{name}"][1]
        assert torch.equal(restored, before[f"network.{name}"][1]), name


def test_a_plain_model_gives_the_same_logits(tmp_path: Path) -> None:
    """Whoever loads a checkpoint needs nothing of this package."""
    action = planned()
    _, module, fitted = run(action)
    fitted.save_checkpoint(tmp_path / "end.ckpt")
    plain = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 4),
    )
    weights = torch.load(tmp_path / "end.ckpt", weights_only=True)["state_dict"]
    assert list(weights) == [f"network.{name}" for name in plain.state_dict()]
    plain.load_state_dict({name.removeprefix("network."): w for name, w in weights.items()})
    plain.eval()
    module.eval()
    with torch.no_grad():
        assert torch.equal(plain(IMAGES), module(IMAGES))
        assert (plain[:3](IMAGES)[:, 1] == 0).all()
        assert (plain[:7](IMAGES)[:, [0, 5]] == 0).all()
        assert plain(IMAGES).std() > 0


def test_a_checkpoint_without_actions_and_one_with_others(tmp_path: Path) -> None:
    _, _, fitted = run(None, max_epochs=2)
    fitted.save_checkpoint(tmp_path / "unmasked.ckpt")
    action = MaskThese({2: [("network.0", 1)]})
    run(action, checkpoint=tmp_path / "unmasked.ckpt", max_epochs=4)
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1)]

    _, _, fitted = run(planned(), max_epochs=3)
    fitted.save_checkpoint(tmp_path / "masked.ckpt")
    for other in (None, StopTraining()):
        said = "the state of MaskThese as action 0.* 2 filters .*pass action=MaskFilters"
        with pytest.warns(UserWarning, match=said):
            run(other, checkpoint=tmp_path / "masked.ckpt")


@pytest.mark.parametrize(
    "settings", [{"max_clusters": 4}, {"seed": 1}, {"layers": ["network.*"]}, {"probe_size": 30}]
)
def test_masks_outlast_a_change_of_the_callbacks_settings(settings: Any, tmp_path: Path) -> None:
    _, _, fitted = run(planned(), max_epochs=2)
    fitted.save_checkpoint(tmp_path / "two.ckpt")  # one mask in effect, one decided
    action = MaskThese({})
    callback = watch(action=action, **{"criteria": LENIENT, **settings})
    with pytest.warns(UserWarning, match="other settings.*masks, and what else actions have done"):
        fit(callback, checkpoint=tmp_path / "two.ckpt", max_epochs=4)
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1), ("network.4", 0)]
    assert [entry["epoch"] for entry in action.history] == [0, 1]
    assert [entry["epoch"] for entry in callback.history] == [2, 3]


def test_masks_of_another_prefix_are_not_lost_in_silence(tmp_path: Path) -> None:
    for epochs, n_masks in ((1, 1), (2, 2)):  # decided and not yet in effect, and both
        _, module, fitted = run(planned(), max_epochs=epochs)
        fitted.save_checkpoint(tmp_path / "masked.ckpt")
        callback = watch(action=planned(), criteria=LENIENT, prefix="other_")
        with pytest.raises(ValueError, match=rf"{n_masks} masked filters \(1 of network.0.*prefix"):
            fit(callback, checkpoint=tmp_path / "masked.ckpt", max_epochs=4)
        # Validation trains nothing.
        trainer(callback).validate(
            module, loader(), ckpt_path=tmp_path / "masked.ckpt", verbose=False
        )
    _, _, fitted = run(None, max_epochs=1)
    fitted.save_checkpoint(tmp_path / "unmasked.ckpt")
    callback = watch(action=MaskThese({}), criteria=LENIENT, prefix="other_")
    fit(callback, checkpoint=tmp_path / "unmasked.ckpt", max_epochs=2)
    assert [entry["epoch"] for entry in callback.history] == [1]


def test_masks_find_the_action_that_masks_wherever_it_stands(tmp_path: Path) -> None:
    _, _, fitted = run(planned(), max_epochs=2)
    fitted.save_checkpoint(tmp_path / "two.ckpt")
    action = MaskFilters(max_fraction=0.75, start_epoch=9)
    run([StopTraining(), action], checkpoint=tmp_path / "two.ckpt", max_epochs=3)
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1), ("network.4", 0)]


def test_a_network_that_lost_a_masked_filter_is_reported() -> None:
    action = planned()
    callback, _, _ = run(action, max_epochs=4)
    state = callback.state_dict()
    smaller = TinyNet()
    smaller.network[4] = nn.Conv2d(4, 3, 3, padding=1)
    smaller.network[5] = nn.BatchNorm2d(3)
    smaller.network[8] = nn.Linear(48, 4)
    resumed = MaskThese({})
    callback = watch(action=resumed, criteria=LENIENT)
    callback.load_state_dict(state)
    with pytest.warns(UserWarning, match=r"no longer has the masked filters .*'network.4', 5"):
        fit(callback, module=smaller, max_epochs=1)
    assert resumed.masks is not None
    assert resumed.masks.filters == [("network.0", 1), ("network.4", 0)]


def test_a_state_with_missing_parts_loads() -> None:
    action = MaskFilters()
    action.load_state_dict({})
    assert action.history == []
    assert action.state_dict()["masks"] == []
    action.load_state_dict({"events": [{"epoch": 1}], "from_the_future": 1})
    assert action.history == [{"epoch": 1}]


def test_what_cannot_be_masked_is_in_the_state() -> None:
    action = MaskFilters()
    action.load_state_dict({"unmaskable": [["network.0", 1, "it is shared"]]})
    assert "filter 1 of network.0 cannot be masked: it is shared" in str(action.summary())
    assert action.state_dict()["unmaskable"] == [["network.0", 1, "it is shared"]]


def test_a_state_survives_a_run_that_does_not_train(tmp_path: Path) -> None:
    """Validating from a checkpoint restores callbacks too, and never starts a fit."""
    _, module, fitted = run(planned(), max_epochs=3)
    fitted.save_checkpoint(tmp_path / "end.ckpt")
    action = MaskThese({})
    validating = trainer(watch(action=action, criteria=LENIENT))
    validating.validate(module, loader(), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    masks = action.state_dict()["masks"]
    assert [(entry["layer"], entry["channel"]) for entry in masks] == [
        ("network.0", 1),
        ("network.4", 0),
    ]
