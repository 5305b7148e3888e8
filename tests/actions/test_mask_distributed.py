"""Two processes mask the same filters at the same time, and keep the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from acted import MaskThese, TinyNet, bitwise_equal, loader, trainer, watch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from filterwatch import MaskFilters, StopTraining
from filterwatch.actions import RunningFit
from filterwatch.detection import AnomalyCriteria
from two_processes import TwoProcesses

LENIENT = AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=0.3)


class Disagreeing(MaskFilters):
    """Its verification sees another loss on each process; the first one's counts."""

    def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
        silent = (pl_module.network[4].weight.flatten(1).abs().sum(1) == 0).sum()
        return -silent.float() if pl_module.global_rank == 0 else silent.float()


class StopOnSecond(StopTraining):
    """Only the second process finds a reason, in epoch 2."""

    def judge(self, fit: RunningFit, report: Any, epoch: int) -> None:
        self.rank, self.epoch = fit.trainer.global_rank, epoch
        super().judge(fit, report, epoch)

    def reason_to_stop(self, history: Any) -> str | None:
        return "enough" if self.rank == 1 and self.epoch == 2 else None


class Write(Callback):
    def __init__(self, path: Path, action: MaskFilters) -> None:
        self.path, self.action = path, action

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert self.action.masks is not None
        seen = {
            "weights": pl_module.state_dict(),
            "masked": self.action.masks.filters,
            "events": self.action.history,
        }
        torch.save(seen, self.path / f"rank{trainer.global_rank}-epoch{trainer.current_epoch}.pt")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Any]:
    path = tmp_path_factory.mktemp("masked")
    seed_everything(0, verbose=False)
    action = Disagreeing(max_fraction=0.5, verify=True)
    callback = watch(action=[action, StopOnSecond()], criteria=LENIENT)
    fitted = trainer(
        callback, Write(path, action), devices=2, strategy=TwoProcesses(), max_epochs=6
    )
    fitted.fit(TinyNet(), loader(seed=1, shuffle=True), loader())
    return {(int(p.stem[4]), int(p.stem[-1])): torch.load(p) for p in sorted(path.glob("rank*.pt"))}


def test_the_same_filters_in_the_same_epochs(seen: Any) -> None:
    epochs = sorted(epoch for rank, epoch in seen if rank == 0)
    for epoch in epochs:
        first, second = seen[0, epoch], seen[1, epoch]
        assert first["masked"] == second["masked"]
        assert first["events"] == second["events"]
        parameters = [
            {n: t for n, t in entry["weights"].items() if "running" not in n and "num" not in n}
            for entry in (first, second)
        ]
        assert bitwise_equal(*parameters)
        for layer, index in first["masked"]:
            assert (first["weights"][f"{layer}.weight"][index] == 0).all()
    assert seen[0, 0]["masked"] == []
    # On the second process alone, whose loss rises with each of them, it would be none of these.
    assert "network.4" in {layer for layer, _ in seen[1, epochs[-1]]["masked"]}


def test_a_reason_on_one_process_stops_both(seen: Any) -> None:
    assert sorted(seen) == [(rank, epoch) for rank in range(2) for epoch in range(3)]


class Elsewhere:
    """As much of a Trainer as a decision needs, on one process of two."""

    world_size = 2

    def __init__(self, first: bool, received: Any = None) -> None:
        self.strategy, self.is_global_zero, self.received = self, first, received

    def broadcast(self, sent: Any) -> Any:
        self.sent = sent
        return sent if self.is_global_zero else self.received


def decide(trainer: Any, decision: Any) -> Any:
    unused: Any = None
    return RunningFit(trainer, unused, [], unused, False, unused, unused, []).decide(decision)


def fail() -> str:
    raise MemoryError("here")


def test_the_first_process_decides() -> None:
    assert decide(Elsewhere(True), lambda: "mine") == "mine"
    assert decide(Elsewhere(False, (False, "theirs")), lambda: "mine") == "theirs"
    assert decide(Elsewhere(False, (False, "theirs")), fail) == "theirs"
    first = Elsewhere(True)
    with pytest.raises(MemoryError, match="here"):
        decide(first, fail)
    assert first.sent == (True, "MemoryError: here")
    with pytest.raises(RuntimeError, match="MemoryError: there"):
        decide(Elsewhere(False, (True, "MemoryError: there")), lambda: "mine")


def test_with_one_process_nothing_is_sent() -> None:
    action = MaskThese({0: [("network.0", 1)]})
    fitted = trainer(watch(action=action), max_epochs=2)
    fitted.fit(TinyNet(), loader(seed=1), loader())
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1)]
