"""`StopTraining` stops what overfits, and lets early learning and regularised runs go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from acted import fit, watch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from filterwatch import StopTraining
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.callbacks.record import Record


def history(counts: Sequence[float], first: int = 0) -> list[dict[str, Any]]:
    return [{"epoch": first + i, "count": count} for i, count in enumerate(counts)]


def stops_at(rule: StopTraining, counts: Sequence[float]) -> int | None:
    entries = history(counts)
    for epoch in range(len(entries)):
        if rule.reason_to_stop(entries[: epoch + 1]) is not None:
            return epoch
    return None


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a callback count what a test says, while it really watches a network train."""

    def make(counts: Sequence[float], **options: Any) -> AnomalyFilterCallback:
        callback = watch(**options)
        add = Record.add

        def counted(record: Record, *args: Any) -> None:
            add(record, *args)
            if record is callback.record:
                record.history[-1]["count"] = counts[record.history[-1]["epoch"]]

        monkeypatch.setattr(Record, "add", counted)
        return callback

    return make


EARLY_LEARNING = [0, 0, 12, 25, 28, 27, 26, 28, 27, 28, 26, 27, 28, 27, 26]


@pytest.mark.parametrize(
    ("counts", "options", "risen"),
    [
        ([4, 2, 3], {}, True),
        ([8, 4, 5], {}, False),  # no more than the factor
        ([4, 2, 3], {"min_rise": 1}, True),
        ([4, 2, 3], {"min_rise": 2}, False),
        ([4, 2, 3, 3], {"patience": 2}, True),
        ([4, 2, 3], {"patience": 2}, False),
        ([4, 2, 3, 2, 3], {"patience": 2}, False),
        ([3], {}, False),
        ([], {}, False),
        ([0, 0, 1], {}, True),
        ([0, 0, 0], {}, False),
        ([3, 6, 0, 3], {"window": 3}, False),  # means of 3 and 3
        ([3, 6, 0, 6], {"window": 3}, True),
        ([3, 6], {"window": 1}, True),
        ([3, 6], {"window": 3}, False),
    ],
)
def test_what_a_rise_is(counts: list[int], options: dict[str, Any], risen: bool) -> None:
    every = {"start_epoch": 0, "rise": 1.25, "min_rise": 0, "patience": 1, "window": 1}
    rule = StopTraining(**{**every, **options})
    assert (rule.reason_to_stop(history(counts)) is not None) == risen


def test_a_rise_in_early_learning_does_not_stop() -> None:
    assert stops_at(StopTraining(), EARLY_LEARNING) is None
    # The same rule from the first epoch on would take learning for overfitting.
    assert stops_at(StopTraining(start_epoch=0), EARLY_LEARNING) == 7


# Curves to tell apart, not results: they are of another clustering than now. Counts of the simple
# CNN on CIFAR-10 (K to 14, lambda 1% of 1,000 held-out images): one
# run that overfits, validation loss 0.85 at epoch 6 and 2.53 at epoch 55, and one with flips, crops
# and weight decay, whose validation loss still falls at epoch 49. The second has more at first.
OVERFITTING = {0: 5, 2: 0, 6: 25, 12: 31, 24: 29, 40: 43, 55: 45}
REGULARISED = {6: 37, 24: 41, 49: 36}


def test_an_overfitting_run_is_stopped_and_a_regularised_one_is_not() -> None:
    rule = StopTraining(patience=2, window=1)  # for probes that lie so far apart
    assert rule.start_epoch == StopTraining().start_epoch
    overfitting = [{"epoch": epoch, "count": count} for epoch, count in OVERFITTING.items()]
    regularised = [{"epoch": epoch, "count": count} for epoch, count in REGULARISED.items()]
    assert rule.reason_to_stop(overfitting[:-1]) is None
    assert rule.reason_to_stop(overfitting) is not None
    for end in range(1, 4):
        assert rule.reason_to_stop(regularised[:end]) is None


# And on digits, epoch by epoch, with another clustering than now: 300 images with a fifth of the
# labels wrong, against all of them, augmented and with weight decay.
OVERFITTING_DIGITS = [
    *(22, 30, 22, 17, 18, 19, 14, 23, 19, 17, 19, 20),
    *(16, 23, 19, 23, 19, 18, 29, 43, 30, 34, 29, 32, 33),
]
REGULARISED_DIGITS = [
    *(16, 17, 20, 34, 30, 42, 30, 22, 50, 47, 44, 35),
    *(29, 30, 54, 40, 48, 29, 44, 15, 30, 32, 28, 31, 30),
]


def test_counts_that_jump_are_told_from_counts_that_rise() -> None:
    assert stops_at(StopTraining(), OVERFITTING_DIGITS) == 21
    assert stops_at(StopTraining(), REGULARISED_DIGITS) is None
    # Smoothed less, the jumps of a regularised run look like a rise.
    assert stops_at(StopTraining(window=2), REGULARISED_DIGITS) is not None


def test_a_rise_of_few_maps_or_by_a_small_factor_does_not_stop() -> None:
    few = [0, 1, 2, 2, 2, *[2] * 5, *[5] * 8]
    assert stops_at(StopTraining(), few) is None
    assert stops_at(StopTraining(min_rise=2), few) == 15
    assert stops_at(StopTraining(), [90] * 12 + [105] * 12) is None


def test_a_single_high_count_does_not_stop() -> None:
    assert stops_at(StopTraining(), [*EARLY_LEARNING, 45, *EARLY_LEARNING[5:]]) is None
    assert stops_at(StopTraining(), [*EARLY_LEARNING, *[45] * 6]) is not None


def test_it_says_why_and_when(counting: Any, capsys: Any) -> None:
    action = StopTraining(start_epoch=1, patience=2, window=1)
    callback = counting([40, 10, 8, 9, 20, 22, 30, 30], action=action, print_summary=True)
    fitted = fit(callback, max_epochs=8)
    assert fitted.current_epoch == 6
    assert action.stopped_epoch == 5
    assert action.reason == (
        "the anomaly filters, 22.0 on average over 1 probes, have stayed above 1.25 times their "
        "minimum of 8.0 since epoch 2 for 2 probes"
    )
    assert "Stopped at epoch 5: the anomaly filters, 22.0" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_reason_is_text_in_tensorboard(counting: Any, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    action = StopTraining(start_epoch=0, patience=1, window=1)
    fit(counting([10, 20], action=action), logger=logger, log_every_n_steps=1)
    (text,) = EventAccumulator(str(tmp_path)).Reload().Tensors("actions/text_summary")
    assert text.tensor_proto.string_val[0].decode().startswith("- stopped: the anomaly filters")


def test_a_run_whose_count_stays_is_not_stopped(counting: Any) -> None:
    action = StopTraining(start_epoch=1)
    fitted = fit(counting([2, 20, 24, 21, 20, 22, 24, 21], action=action), max_epochs=8)
    assert fitted.current_epoch == 8
    assert action.stopped_epoch is None
    assert action.summary() is None


def test_min_epochs_is_respected(counting: Any) -> None:
    action = StopTraining(start_epoch=0, patience=1, window=1)
    fitted = fit(counting([10] + [30] * 7, action=action), max_epochs=8, min_epochs=5)
    assert fitted.current_epoch == 5
    assert action.stopped_epoch == 1


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (5, 4)])
def test_beside_early_stopping_whoever_is_first_stops(
    patience: int, epochs: int, counting: Any
) -> None:
    callback = counting([10, 11, 30, 30, 30, 30], action=StopTraining(0, 1.25, 5, 2, 1))
    early = EarlyStopping("anomaly_filters", patience=patience)
    fitted = fit(callback, early, max_epochs=6)
    assert fitted.current_epoch == epochs


def test_resumed_it_remembers_the_minimum(counting: Any, tmp_path: Path) -> None:
    counts = [10, 12, 20, 20, 20, 20]
    options: Any = {"start_epoch": 0, "patience": 2, "window": 1}
    first = fit(counting(counts, action=StopTraining(**options)), max_epochs=2)
    first.save_checkpoint(tmp_path / "two.ckpt")
    action = StopTraining(**options)
    fit(counting(counts, action=action), checkpoint=tmp_path / "two.ckpt", max_epochs=6)
    assert action.stopped_epoch == 3


def test_a_rule_of_ones_own(counting: Any) -> None:
    class AtMost(StopTraining):
        def reason_to_stop(self, history: Sequence[dict[str, Any]]) -> str | None:
            return "too many" if history[-1]["count"] > 25 else None

    action = AtMost()
    fitted = fit(counting([10, 30, 30], action=action))
    assert fitted.current_epoch == 2
    assert action.reason == "too many"


def test_the_next_fit_starts_anew(counting: Any) -> None:
    action = StopTraining(start_epoch=0, patience=1, window=1)
    fit(counting([10, 30, 30], action=action))
    assert action.stopped_epoch == 1
    fit(counting([10, 10, 10], action=action))
    assert action.stopped_epoch is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start_epoch": -1}, ValueError, "start_epoch"),
        ({"rise": 1}, ValueError, "rise must be above 1, got 1"),
        ({"rise": "much"}, TypeError, "rise must be a number, got 'much'"),
        ({"min_rise": -2}, ValueError, "min_rise"),
        ({"patience": 0}, ValueError, "patience"),
        ({"window": 0}, ValueError, "window"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        StopTraining(**arguments)


def test_a_recorded_history_tells_where_it_would_have_been_stopped() -> None:
    counts = [10] * 12 + [30] * 12
    history = [{"epoch": 2 * at, "count": count} for at, count in enumerate(counts)]
    rule = StopTraining(start_epoch=0)
    stop = rule.epoch_to_stop(history)
    assert stop is not None
    known = [entry for entry in history if entry["epoch"] <= stop]
    assert rule.reason_to_stop(known) is not None
    assert rule.reason_to_stop(known[:-1]) is None
    assert rule.epoch_to_stop(history[:12]) is None
    assert rule.epoch_to_stop([]) is None
