"""A run that is interrupted and resumed has the history of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, SubsetRandomSampler
from watched import FAST, TinyNet, dataset, loader, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.callbacks.record import Record
from filterwatch.detection import AnomalyCriteria

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
    assert set(state) == {
        *("settings", "history", "seconds", "flagged", "probe_indices", "dataset_size"),
        "training_probe_indices",
    }
    assert len(repr(state)) < 5000


def test_a_state_with_missing_parts_loads() -> None:
    callback = watch()
    callback.load_state_dict({})
    assert callback.history == []
    entry = {"epoch": 0, "count": 3, "distinct": 2, "by_layer": {}, "outlier_samples": 1}
    callback.load_state_dict({"history": [entry], "from_the_future": 1})
    assert callback.record.metrics([])["anomaly_filters"] == 3


def two_epochs(tmp_path: Path, **options: Any) -> tuple[AnomalyFilterCallback, Path]:
    callback = watch(**options)
    run(callback, max_epochs=2).save_checkpoint(tmp_path / "two.ckpt")
    return callback, tmp_path / "two.ckpt"


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({"max_clusters": 4}, "max_clusters=4 was 6"),
        ({"votes": 3}, "votes=3 was 0"),
        ({"layers": ["*.0"]}, r"layers=\['\*.0'\] was None"),
        ({"pca": "layer"}, "pca='layer' was 'filter'"),
        ({"criteria": AnomalyCriteria(3)}, "criteria=.*: 3, .*was.*: 4, "),
        ({"seed": 1}, "seed=1 was 0.*; a new probe is taken"),
        ({"probe_size": 30}, "probe_size=30 was 40.*; a new probe is taken"),
    ],
)
def test_with_other_settings_a_new_history_begins_and_it_is_said(
    difference: dict[str, Any], said: str, tmp_path: Path
) -> None:
    first, checkpoint = two_epochs(tmp_path)
    resumed = watch(**difference)
    assert resumed.state_key == first.state_key
    with pytest.warns(UserWarning, match=f"other settings.*{said}") as warned:
        run(resumed, checkpoint=checkpoint)
    assert sum("other settings" in str(warning.message) for warning in warned) == 1
    assert [entry["epoch"] for entry in resumed.history] == [2, 3]
    same_probe = resumed.probe_indices == first.probe_indices
    assert same_probe == ("a new probe" not in said)
    assert resumed.samples is None or resumed.samples.n_samples == resumed.probe_size


def test_what_counts_do_not_depend_on_may_change(tmp_path: Path) -> None:
    first, checkpoint = two_epochs(tmp_path)
    resumed = watch(strict=True, batch_size=7, every_n_epochs=3, print_summary=True)
    run(resumed, checkpoint=checkpoint)
    assert resumed.history[:1] == first.history[:1]
    assert [entry["epoch"] for entry in resumed.history] == [0, 1, 3]


def test_the_settings_of_a_restored_history_stay_with_it_until_a_fit(tmp_path: Path) -> None:
    first, _ = two_epochs(tmp_path)
    other = watch(max_clusters=4)
    other.load_state_dict(first.state_dict())
    assert other.state_dict()["settings"]["max_clusters"] == 6
    assert other.state_dict() == first.state_dict()


def test_a_subclass_goes_on_where_the_callback_was(tmp_path: Path) -> None:
    class Own(AnomalyFilterCallback):
        pass

    first, checkpoint = two_epochs(tmp_path)
    resumed = Own(**FAST)
    run(resumed, checkpoint=checkpoint)
    assert resumed.history[:2] == first.history


def test_a_record_forgets_epochs_that_come_again() -> None:
    record = Record([{"epoch": 0}, {"epoch": 2}, {"epoch": 4}], [0.1, 0.2, 0.3])
    record.start(4)
    assert [entry["epoch"] for entry in record.history] == [0, 2]
    assert record.seconds == [0.1, 0.2]
    assert record.seconds_in_fit == []


def test_a_checkpoint_of_a_run_without_the_callback(tmp_path: Path) -> None:
    fitted = trainer(max_epochs=2)
    fitted.fit(TinyNet(), loader(seed=1), loader())
    fitted.save_checkpoint(tmp_path / "unwatched.ckpt")
    callback = watch()
    run(callback, checkpoint=tmp_path / "unwatched.ckpt")
    assert [entry["epoch"] for entry in callback.history] == [2, 3]
