import pytest

from reproduction.lead_time import (
    Run,
    alarm,
    compare_alarms,
    direction_of,
    early_stop,
    excess,
    patience_of,
    threshold_of,
)
from reproduction.signals import SIGNALS


def run(seed, overfits, counts, losses):
    rows = [
        dict.fromkeys(SIGNALS, 0.0)
        | {"epoch": epoch, "count": count, "val_loss": loss, "gap": float(epoch)}
        for epoch, (count, loss) in enumerate(zip(counts, losses, strict=True))
    ]
    return Run(seed, overfits, rows)


FALLING = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
RISING = [9.0, 8.0, 7.0, 6.0, 5.0, 6.0, 7.0, 8.0]  # lowest in epoch 4


def test_excess_is_counted_behind_early_learning():
    assert excess([0, 9, 1, 5, 4, 6, 9], 1) == [0, 0, 0, 0, 0, 2, 5]
    assert excess([0, 9, 1, 5, 4, 6, 9], -1) == [0, 0, 0, 0, 1, 0, 0]


def test_an_alarm_goes_when_the_excess_passes_the_threshold():
    values = [0, 9, 1, 5, 4, 6, 9]
    assert alarm(values, 1, 1.9) == 5
    assert alarm(values, 1, 2) == 6
    assert alarm(values, 1, 5) is None


def test_the_threshold_lets_so_many_regularised_runs_alarm():
    runs = [run(seed, False, [0, 0, 0, 0, 0, 0, 0, seed], FALLING) for seed in range(10)]
    assert threshold_of("count", 1, runs, 0.0) == 9
    assert threshold_of("count", 1, runs, 0.1) == 8
    alarms = [alarm(one.series("count"), 1, 8) for one in runs]
    assert sum(epoch is not None for epoch in alarms) == 1


def test_a_signal_that_falls_with_overfitting_is_read_downwards():
    down = run(0, True, [0, 0, 0, 5, 4, 3, 2, 1], RISING)
    up = run(0, True, [0, 0, 0, 1, 2, 3, 4, 5], RISING)
    assert direction_of("count", [down]) == -1
    assert direction_of("count", [up]) == 1


def test_patience_is_counted_as_lightning_does():
    assert early_stop(RISING, 1) == 5
    assert early_stop(RISING, 3) == 7
    assert early_stop(RISING, 4) is None
    assert early_stop(FALLING, 1) is None


def test_patience_is_the_smallest_that_leaves_regularised_runs_alone():
    wavy = [9.0, 8.0, 8.5, 8.5, 7.0, 6.0, 5.0, 4.0]  # two epochs without improvement
    assert patience_of([run(0, False, wavy, wavy), run(1, True, RISING, RISING)], 0.0) == 3


def test_what_is_reported_comes_from_fresh_seeds():
    """In both halves the count rises one epoch before the loss's minimum in epoch 4."""
    early = [0, 0, 0, 1, 1, 1, 1, 1]
    early_alarm = [0, 0, 0, 0, 3, 3, 3, 3]
    runs = [
        run(0, True, early_alarm, RISING),
        run(0, False, early, FALLING),
        run(1, True, [0, 0, 0, 0, 0, 3, 3, 3], RISING),
        run(1, False, [0, 0, 0, 0, 2, 2, 2, 2], FALLING),
    ]
    found = compare_alarms(runs, false_alarms=0.0)
    assert found["calibration_seeds"] == [0]
    assert found["test_seeds"] == [1]
    count = found["alarms"]["count"]
    assert count["threshold"] == 0
    assert count["false_alarm_rate"] == 1.0  # on seed 1, which the threshold had not seen
    assert (count["found"], count["of"]) == (1, 1)
    assert count["lead_times"] == [-1]
    stopping = found["alarms"]["early_stopping"]
    assert stopping["patience"] == 1
    assert stopping["lead_times"] == [-1]
    assert stopping["false_alarm_rate"] == 0.0


def test_without_runs_that_overfit_nothing_is_found():
    runs = [run(seed, False, FALLING, FALLING) for seed in (0, 1)]
    found = compare_alarms(runs)["alarms"]["val_loss"]
    assert found["of"] == 0
    assert found["median_lead_time"] is None
    assert found["false_alarm_rate"] == pytest.approx(0)
