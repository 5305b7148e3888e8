"""A run that is interrupted and resumed has the history of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, SubsetRandomSampler
from watched import TinyNet, dataset, loader, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.callbacks.record import Record

EPOCHS = 4

# The resumed runs write no checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")


def run(
    callback: AnomalyFilterCallback,
    *callbacks: Any,
    checkpoint: Path | None = None,
    validation: Any = None,
    **options: Any,
) -> Trainer:
    """Fit on samples in fixed order, so that a resumed run trains as an uninterrupted one does."""
    torch.manual_seed(0)
    options = {"max_epochs": EPOCHS, "enable_checkpointing": bool(callbacks), **options}
    fitted = trainer(callback, *callbacks, **options)
    fitted.fit(TinyNet(), loader(seed=1), validation or loader(), ckpt_path=checkpoint)
    return fitted


@pytest.mark.parametrize(
    ("when", "options"),
    [
        ({}, {}),
        ({"every_n_train_steps": 4}, {}),  # behind the last batch, before the epoch's end
        ({}, {"check_val_every_n_epoch": 2}),
        ({}, {"max_steps": 16, "max_epochs": -1}),
    ],
)
@pytest.mark.parametrize("every_n_epochs", [1, 2])
def test_resumed_from_any_epoch_the_history_is_the_same(
    when: dict[str, Any], options: dict[str, Any], every_n_epochs: int, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, **when)
    uninterrupted = watch(every_n_epochs=every_n_epochs)
    run(uninterrupted, checkpoint, **options)
    resumable = sorted(tmp_path.iterdir())[:-1]
    assert resumable
    for path in resumable:
        resumed = watch(every_n_epochs=every_n_epochs)
        run(resumed, checkpoint=path, **options)
        assert resumed.history == uninterrupted.history
        assert resumed.probe_indices == uninterrupted.probe_indices


class Crash(ModelCheckpoint):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            raise KeyError("crash")


def test_the_probe_is_not_drawn_anew(tmp_path: Path) -> None:
    """The indices come from the checkpoint: a sampler that allows for more changes nothing."""
    crashed = watch()
    first = DataLoader(dataset(), 16, sampler=SubsetRandomSampler(range(8, 56)))
    with pytest.raises(KeyError, match="crash"):
        run(crashed, Crash(tmp_path, filename="last"), validation=first)
    resumed = watch()
    run(resumed, checkpoint=tmp_path / "last.ckpt")
    assert resumed.probe_indices == crashed.probe_indices
    assert resumed.history[:2] == crashed.history
    fresh = watch()
    run(fresh)
    assert fresh.probe_indices != crashed.probe_indices


@pytest.mark.parametrize(
    "validation",
    [loader(48), DataLoader(dataset(), 16, sampler=SubsetRandomSampler(range(20, 64)))],
)
def test_samples_that_are_no_longer_there_are_replaced_with_a_warning(
    validation: Any, tmp_path: Path
) -> None:
    run(watch(), ModelCheckpoint(tmp_path, filename="first", every_n_epochs=3))
    resumed = watch()
    with pytest.warns(UserWarning, match="takes a new probe"):
        run(resumed, checkpoint=tmp_path / "first.ckpt", validation=validation)
    assert [entry["epoch"] for entry in resumed.history] == [0, 1, 2, 3]


def test_another_fit_takes_its_own_samples() -> None:
    """As in cross-validation: a sample held out in one fold is a training sample in the next."""
    callback = watch(probe_size=20)
    for fold in (range(32), range(32, 64)):
        held_out = DataLoader(dataset(), 16, sampler=SubsetRandomSampler(fold))
        run(callback, validation=held_out)
        assert callback.probe_indices is not None
        assert set(callback.probe_indices) <= set(fold)
        assert [entry["epoch"] for entry in callback.history] == [0, 1, 2, 3]


def test_the_state_is_small_and_loads_as_plain_data(tmp_path: Path) -> None:
    callback = watch()
    fitted = run(callback, ModelCheckpoint(tmp_path))
    fitted.save_checkpoint(tmp_path / "end.ckpt")
    state = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"][callback.state_key]
    restored = watch()
    restored.load_state_dict(state)
    assert restored.history == callback.history
    assert restored.record.flagged == callback.record.flagged
    assert callback.report is not None
    assert len(restored.record.flagged) == callback.report.count
    assert set(state) == {"history", "seconds", "flagged", "probe_indices", "dataset_size"}
    assert len(repr(state)) < 5000


def test_a_state_with_missing_parts_loads() -> None:
    callback = watch()
    callback.load_state_dict({})
    assert callback.history == []
    entry = {"epoch": 0, "count": 3, "distinct": 2, "by_layer": {}, "outlier_samples": 1}
    callback.load_state_dict({"history": [entry], "from_the_future": 1})
    assert callback.record.metrics([])["anomaly_filters"] == 3


def test_only_a_callback_that_counts_alike_continues_a_history() -> None:
    key = watch().state_key
    assert watch(strict=True, batch_size=7, every_n_epochs=3).state_key == key
    for difference in ({"max_clusters": 4}, {"layers": ["*"]}, {"seed": 1}, {"pca": "layer"}):
        assert watch(**difference).state_key != key


def test_a_record_forgets_epochs_that_come_again() -> None:
    record = Record([{"epoch": 0}, {"epoch": 2}, {"epoch": 4}], [0.1, 0.2, 0.3])
    record.keep_before(4)
    assert [entry["epoch"] for entry in record.history] == [0, 2]
    assert record.seconds == [0.1, 0.2]


def test_a_checkpoint_of_a_run_without_the_callback(tmp_path: Path) -> None:
    fitted = trainer(max_epochs=2)
    fitted.fit(TinyNet(), loader(seed=1), loader())
    fitted.save_checkpoint(tmp_path / "unwatched.ckpt")
    callback = watch()
    run(callback, checkpoint=tmp_path / "unwatched.ckpt")
    assert [entry["epoch"] for entry in callback.history] == [2, 3]
