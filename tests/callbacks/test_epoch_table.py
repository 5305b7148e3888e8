"""`EpochTable`: what is printed, when, and by whom."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from filterwatch.callbacks.epoch_table import EpochTable
from two_processes import TwoProcesses


class Regression(LightningModule):
    """Logs losses of known value, once an epoch; the training loss differs between ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = 0.25 + self.current_epoch + self.global_rank
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return self.layer(batch[0]).sum()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", 0.5 + self.current_epoch, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class LateCount(Callback):
    """Logs a count at the very end of the epoch, as `AnomalyFilterCallback` does."""

    def __init__(self, counts: list[float]) -> None:
        self.counts = counts

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("anomaly_filters", self.counts[trainer.current_epoch])
        pl_module.log("anomaly_filters_by_layer/conv1", 1.0)


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=2)


def fit(folder: Path, callbacks: list[Callback], **arguments: Any) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 2, "enable_checkpointing": False, **quiet, **arguments}
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", callbacks=callbacks, **options)
    trainer.fit(Regression(), data(), data())


def rows(captured: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in captured.readouterr().out.splitlines()]


@pytest.mark.parametrize("table_first", [True, False])
def test_shows_this_epochs_values_in_either_order_of_callbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table_first: bool
) -> None:
    table = EpochTable(metrics=["train_loss", "val_loss", "anomaly_filters"])
    callbacks: list[Callback] = [LateCount([7.0, 12.0])]
    callbacks.insert(0 if table_first else 1, table)
    fit(tmp_path, callbacks)

    above, header, *lines = rows(capsys)
    assert above == ["train", "anomaly"]
    assert header == ["epoch", "loss", "val_loss", "filters", "seconds"]
    assert [line[:-1] for line in lines] == [
        ["0", "0.250", "0.500", "7"],
        ["1", "1.25", "1.50", "12"],
    ]
    assert all(float(line[-1]) >= 0 for line in lines)


def test_columns_are_aligned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = EpochTable(metrics=["train_loss", "val_loss", "anomaly_filters"])
    fit(tmp_path, [table, LateCount([7.0, 1200.0])])
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1
    for name in (" loss", "val_loss", "filters"):
        end = lines[1].index(name) + len(name)
        assert all(line[end : end + 1] == " " and line[end - 1] != " " for line in lines[1:])


def test_missing_metric_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, [EpochTable(metrics=["val_loss", "nope"])], check_val_every_n_epoch=2)
    _, first, second = rows(capsys)
    assert first[:3] == ["0", "-", "-"]
    assert second[:3] == ["1", "1.50", "-"]


def test_whole_numbers_until_the_first_fraction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = LateCount([2.0, 0.5, 1.0])
    fit(tmp_path, [EpochTable(metrics=["anomaly_filters"]), count], max_epochs=3)
    assert [line[1] for line in rows(capsys)[2:]] == ["2", "0.500", "1.00"]


def test_values_have_three_digits() -> None:
    table = EpochTable(metrics=["x"])
    values = (0.98765, -2.186, 60.54, 145.3, 0.9996, 9.996)
    shown = [table._format("x", value) for value in values]
    assert shown == ["0.988", "-2.19", "60.5", "145", "1.000", "10.0"]


def test_a_long_name_takes_two_lines_and_a_short_one_none_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, [EpochTable(metrics=["val_loss"])], max_epochs=1)
    assert rows(capsys)[0] == ["epoch", "val_loss", "seconds"]
    fit(tmp_path, [EpochTable(metrics=["anomaly_filters_by_layer/conv1"])], max_epochs=1)
    assert rows(capsys)[:2] == [["anomaly_filters"], ["epoch", "by_layer/conv1", "seconds"]]


def test_each_fit_has_a_table_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = EpochTable(metrics=["train_loss"])
    fit(tmp_path, [table], max_epochs=1)
    fit(tmp_path, [table], max_epochs=1)
    assert [line[0] for line in rows(capsys)] == ["train", "epoch", "0"] * 2


def test_one_table_for_two_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Reading a metric synchronises: if only rank zero read it, both would wait forever."""
    table = EpochTable(metrics=["train_loss", "val_loss"])
    fit(tmp_path, [table], devices=2, strategy=TwoProcesses())
    _, header, *lines = rows(capfd)
    assert header == ["epoch", "loss", "val_loss", "seconds"]
    assert [line[:-1] for line in lines] == [["0", "0.750", "0.500"], ["1", "1.75", "1.50"]]


def test_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one metric"):
        EpochTable(metrics=[])
