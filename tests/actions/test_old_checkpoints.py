"""Checkpoints that version 0.1.0 wrote: masks and history come back.

The checkpoint was written behind three epochs of `TinyNet`, trained with Adam and watched as in
`resumed` below, that masked filter 1 of the first convolution from epoch 1 on, filter 0 of the
second from epoch 2 on, and had decided to mask the latter's filter 5.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, dataset, fit, watch
from torch import Tensor

from filterwatch import MaskFilters
from filterwatch.detection import AnomalyCriteria

CHECKPOINT = Path(__file__).parent / "masked_by_0_1_0.ckpt"
IMAGES = dataset().tensors[0]
MASKED = [("network.0", 1), ("network.4", 0), ("network.4", 5)]
# With everything that version 0.1.0 kept, though not all of it is used any more.
EVENT: dict[str, Any] = {
    **{"event": "masked", "layer": "network.0", "channel": 1, "epoch": 2},
    **{"reason": "flagged twice", "loss_change": -0.25, "random_channel": 3},
    **{"random_loss_change": 0.5, "remaining": 0.69},
}
REJECTED = {**EVENT, "event": "rejected", "channel": 2, "loss_change": 0.75}
RELEASED = {"event": "released", "layer": "network.4", "channel": 3, "epoch": 2, "reason": "why"}
VALUES = {
    "network.0.weight": torch.full((1, 3, 3), 0.5),
    "network.0.bias": torch.tensor(0.25),
    "network.1.weight": torch.tensor(2.0),
    "network.1.bias": torch.tensor(-1.0),
    "network.1.running_mean": torch.tensor(3.0),
    "network.1.running_var": torch.tensor(4.0),
}
STATE: dict[str, Any] = {
    "masks": [
        {
            "layer": "network.0",
            "channel": 1,
            "silenced": [[name, 1] for name in VALUES if "running" not in name],
            "statistics": [[name, 1] for name in VALUES if "running" in name],
            "values": [[name, 1, value] for name, value in VALUES.items()],
            "optimizer_values": [[["network.0.bias", 1, "exp_avg", torch.tensor(0.125)]]],
        }
    ],
    "to_mask": [["network.4", 5]],
    "to_release": [],
    "streaks": [["network.0", 3, 2]],
    "events": [EVENT, REJECTED, RELEASED],
    "monitored": [1.0, 0.5, 0.75],
    "unmaskable": [["network.4", 2, "it is shared"]],
}


def test_a_state_of_then_is_taken_over() -> None:
    settings = {
        **{"probe_size": 40, "seed": 0, "layers": None, "max_clusters": 6, "pca": "filter"},
        **{"votes": 0, "criteria": asdict(AnomalyCriteria(small_cluster_size=4))},
    }
    action = MaskThese({})
    callback = watch(action=action)
    callback.load_state_dict(
        {
            "settings": settings,
            "history": [{"epoch": 0, "count": 3, "distinct": 2, "by_layer": {"network.0": 3}}],
            "seconds": [0.5],
            "flagged": [("network.0", 0)],
            "probe_indices": list(range(40)),
            "dataset_size": 64,
            "actions": [{"name": "MaskFilters", "state": STATE}],
        }
    )
    assert action.history == STATE["events"]
    again = action.state_dict()
    assert {name: again[name] for name in STATE if name != "monitored"} == {
        name: value for name, value in STATE.items() if name != "monitored"
    }
    (line, other, released) = action.events(2)
    assert line == ("masked network.0 filter 1: flagged twice (it changes the loss by -0.25)")
    assert other.startswith("rejected network.0 filter 2")
    assert released == "released network.4 filter 3: why"
    summary = str(action.summary())
    assert "filter 2 of network.4 cannot be masked: it is shared" in summary
    assert "verified: 1 of 2 candidates were masked" in summary
    assert "the loss on the probe by +0.25 on average" in summary

    module = TinyNet()
    fit(callback, module=module, max_epochs=1)
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1), ("network.4", 5)]
    action.masks.release(("network.0", 1))
    for name, value in VALUES.items():
        assert torch.equal(module.state_dict()[name][1], value), name


def resumed(action: MaskFilters, epochs: int) -> tuple[Any, TinyNet, Any]:
    criteria = AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=0.8)
    callback = watch(action=action, criteria=criteria)
    module = TinyNet(lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit(callback, module=module, checkpoint=CHECKPOINT, max_epochs=epochs)
    assert not [w for w in caught if "AnomalyFilterCallback" in str(w.message)]
    return callback, module, fitted


@pytest.mark.parametrize("kind", ["its own", "another"])
def test_a_run_of_then_goes_on(kind: str) -> None:
    action = MaskThese({}) if kind == "its own" else MaskFilters(start_epoch=9, max_fraction=0.5)
    callback, module, fitted = resumed(action, 5)
    saved = torch.load(CHECKPOINT, weights_only=True)
    (state,) = saved["callbacks"].values()
    ((entry,), history) = (state["actions"], state["history"])
    assert [event["epoch"] for event in callback.history] == [0, 1, 2, 3, 4]
    assert callback.history[:3] == history
    assert action.history == entry["state"]["events"]
    assert [(event["layer"], event["channel"]) for event in action.history] == MASKED
    assert action.masks is not None
    assert action.masks.filters == MASKED
    module.eval()
    assert (module.network[:3](IMAGES)[:, 1] == 0).all()
    assert (module.network[:7](IMAGES)[:, [0, 5]] == 0).all()
    assert module.network[:7](IMAGES)[:, 1:5].any()

    (optimizer,) = fitted.optimizers
    for mask in entry["state"]["masks"]:
        action.masks.release((mask["layer"], mask["channel"]), [optimizer])
        for name, index, value in mask["values"]:
            assert torch.equal(module.state_dict()[name][index], value), name
        (kept,) = mask["optimizer_values"]
        for name, index, key, value in kept:
            moments: dict[str, Tensor] = optimizer.state[module.get_parameter(name)]
            assert torch.equal(moments[key][index], value), (name, key)
