"""What is said where bare numbers would mislead: of none, of all, of networks that only guess."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shown import N_SAMPLES, report

from filterwatch.detection import AnomalyCriteria, AnomalyReport
from filterwatch.visuals.remarks import crowding, nearest_filter, untrained_note


def unflagged(criteria: AnomalyCriteria, ch_index: list[float] | None = None) -> AnomalyReport:
    """Return the report of three filters with 3, 2 and 1 small clusters, of which none is flagged.

    They have 5, 4 and 3 clusters, and CH indices of 10, 9 and 8 where there are no others.
    """
    shown = report(anomalies=[], criteria=criteria)
    [(name, layer)] = shown.layers.items()
    index = layer.ch_index if ch_index is None else torch.tensor(ch_index)
    silent = replace(layer, is_anomaly=torch.zeros(3, dtype=torch.bool), ch_index=index.double())
    return replace(shown, layers={name: silent})


@pytest.mark.parametrize(
    ("criteria", "channel", "missing"),
    [
        (
            AnomalyCriteria(1, 0.9, 1.05, 0.2),
            0,
            ["3 of its 5 clusters are small, not more than 90%"],
        ),
        (
            AnomalyCriteria(1, 0.2, 2.0, 0.2),
            0,
            ["its CH index is 1.1 times its layer's mean, not more than 2"],
        ),
        (
            AnomalyCriteria(1, 0.55, None, 4.0),
            0,
            ["its activation is 1 times its layer's mean, not 4 or more"],
        ),
    ],
)
def test_the_nearest_filter_and_what_it_misses(
    criteria: AnomalyCriteria, channel: int, missing: list[str]
) -> None:
    nearest = nearest_filter(unflagged(criteria))
    assert nearest is not None
    assert nearest.filter.channel == channel
    assert nearest.missing == missing
    assert nearest.filter.outliers == [3, 4, 17]
    assert nearest.filter.cluster_sizes


def test_dead_and_nearly_dead_filters_come_near_nothing() -> None:
    criteria = AnomalyCriteria(1, 0.2, 2.0, 0.2)
    nearest = nearest_filter(unflagged(criteria, [torch.nan, 3e14, 8.0]))
    assert nearest is not None
    assert nearest.filter.channel == 2
    assert nearest_filter(unflagged(criteria, [torch.nan, 3e14, torch.nan])) is None


def test_where_most_samples_are_isolated_the_reason_is_told() -> None:
    few = report()
    assert crowding(few) is None
    [*anomalies] = few.anomalies
    everybody = replace(anomalies[0], outliers=list(range(N_SAMPLES)))
    crowded = replace(few, anomalies=[everybody, *anomalies[1:]])
    note = crowding(replace(crowded, small_cluster_limit=10))
    assert note is not None
    assert "60 of 60 are isolated" in note
    assert "lambda is too large for K = 4" in note
    assert "up to 10 count as small" in note
    note = crowding(crowded)  # lambda of one sample is as small as it gets
    assert note is not None
    assert "lambda" not in note


@pytest.mark.parametrize(
    ("right", "classes", "untrained"),
    [(0.1, 10, True), (0.143, 10, True), (0.4, 10, False), (0.5, 2, True), (0.7, 2, False)],
)
def test_accuracy_at_chance_is_called_untrained(
    right: float, classes: int, untrained: bool
) -> None:
    labels = torch.arange(1000) % classes
    predictions = labels.roll(1)
    predictions[: int(1000 * right)] = labels[: int(1000 * right)]
    accuracy = float((labels == predictions).double().mean())
    note = untrained_note(accuracy, labels, predictions)
    assert (note is not None) == untrained
    if note is not None:
        assert f"{accuracy:.1%}" in note
        assert f"guessing would give {1 / classes:.1%}" in note


def test_who_names_the_largest_class_every_time_guesses() -> None:
    labels = (torch.arange(1000) < 100).long()
    note = untrained_note(0.9, labels, torch.zeros_like(labels))
    assert note is not None
    assert "90.0%" in note
