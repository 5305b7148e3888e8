"""Two processes watch the same probe, agree on every count, and get what one process gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader
from watched import DETECTION, FAST, TinyNet, dataset, loader, trainer, watch

from filterwatch._failures import first_process_outcome
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyReport, detect_anomaly_filters
from two_processes import TwoProcesses


class WriteEpoch(Callback):
    """Writes what each process sees at the end of each epoch."""

    def __init__(self, path: Path, watching: AnomalyFilterCallback) -> None:
        self.path = path
        self.watching = watching

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.watching.report is not None
        epoch = self.watching.history[-1]["epoch"]
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seen = {
            "weights": pl_module.state_dict(),
            "history": self.watching.history[-1],
            "metrics": metrics,
            "indices": self.watching.probe_indices,
            "flagged": self.watching.record.flagged,
            "report": self.watching.report.to_dict(),
            "pictures": {picture.name for picture in self.path.rglob("*.png")},
        }
        torch.save(seen, self.path / f"rank{trainer.global_rank}-epoch{epoch}.pt")


class FailingOnOneProcess(AnomalyFilterCallback):
    """Its first probe fails on the second process, its second one on the first."""

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        if self.history and pl_module.global_rank == 0 and pl_module.current_epoch == 1:
            raise MemoryError("first process")
        output = super().probe_step(pl_module, batch)
        if self.samples is not None and pl_module.global_rank == 1 and self.report is None:
            trying = len(batch[0]) == 2  # the attempt at the start of the fit
            if not trying:
                raise MemoryError("second process")
        return output


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], dict[str, Any]]:
    """Train on two processes; return what (rank, epoch) saw."""
    path = tmp_path_factory.mktemp("ranks")
    seed_everything(0, verbose=False)
    callback = watch(pictures=1, strict=True)  # a process without points could not draw
    early_stopping = EarlyStopping("anomaly_filters", mode="min", patience=5)
    fitted = trainer(
        early_stopping,
        callback,
        WriteEpoch(path, callback),
        FailingOnOneProcess(**FAST, prefix="failing_", seed=1),
        devices=2,
        strategy=TwoProcesses(),
        default_root_dir=path,
    )
    fitted.fit(TinyNet(), loader(seed=1, shuffle=True), loader())
    return {
        (rank, epoch): torch.load(path / f"rank{rank}-epoch{epoch}.pt")
        for rank in range(2)
        for epoch in range(2)
    }


@pytest.mark.parametrize("epoch", [0, 1])
def test_every_process_sees_the_same(seen: Any, epoch: int) -> None:
    first, second = seen[0, epoch], seen[1, epoch]
    assert first["history"] == second["history"]
    assert first["metrics"] == second["metrics"]
    assert first["flagged"] == second["flagged"]
    assert first["report"] == second["report"]
    assert first["indices"] == second["indices"]


@pytest.mark.parametrize("epoch", [0, 1])
def test_and_what_one_process_would_see(seen: Any, epoch: int) -> None:
    first = seen[0, epoch]
    module = TinyNet()
    module.load_state_dict(first["weights"])
    report = detect_anomaly_filters(
        module, DataLoader(dataset(), 40, sampler=first["indices"]), **DETECTION
    )
    assert len(first["indices"]) == 40
    assert first["history"]["by_layer"] == report.count_by_layer
    assert first["metrics"]["anomaly_filters"] == report.count


def test_the_probe_is_that_of_one_process(seen: Any) -> None:
    callback = watch()
    trainer(callback, max_epochs=1).fit(TinyNet(), loader(seed=1), loader())
    assert seen[0, 0]["indices"] == callback.probe_indices


def test_the_first_process_draws(seen: Any) -> None:
    assert {"layers.png", "training.png"} <= seen[0, 1]["pictures"]


def test_a_failure_on_one_process_leaves_the_processes_in_step(seen: Any) -> None:
    """The first process decides: its failure is everyone's, that of another is nobody's."""
    for epoch in range(2):
        for rank in range(2):
            metrics = seen[rank, epoch]["metrics"]
            assert metrics["failing_anomaly_filters"] < 100
    assert (
        seen[0, 0]["metrics"]["failing_anomaly_filters"]
        == seen[1, 1]["metrics"]["failing_anomaly_filters"]
    )


class OtherProcess:
    """As much of a Trainer as the exchange needs, on the second process of two."""

    world_size = 2
    is_global_zero = False

    def __init__(self, received: Any) -> None:
        self.strategy = self
        self.received = received

    def broadcast(self, sent: Any) -> Any:
        self.sent = sent
        return self.received


def test_other_processes_take_over_the_first_ones_outcome() -> None:
    report = detect_anomaly_filters(TinyNet(), dataset().tensors[0], **DETECTION)
    plain: Any = {"pack": AnomalyReport.to_dict, "unpack": AnomalyReport.from_dict}
    other: Any = OtherProcess((False, report.to_dict()))

    def fail() -> AnomalyReport:
        raise MemoryError("here")

    adopted = first_process_outcome(other, fail, **plain)
    assert adopted.to_dict() == report.to_dict()
    assert other.sent == (True, "MemoryError: here")
    failed: Any = OtherProcess((True, "MemoryError: there"))
    with pytest.raises(RuntimeError, match="MemoryError: there"):
        first_process_outcome(failed, lambda: report, **plain)
    assert failed.sent == (False, report.to_dict())
