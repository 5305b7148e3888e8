"""From points to verdicts: what the report's layers, anomalies and isolations say of each other."""

from __future__ import annotations

from typing import Any

import torch
from clouds import separated
from torch import Tensor

from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    Plan,
    Reduced,
    cluster_layers,
    judge,
    vote,
)
from filterwatch.observing import Layer

UNEVEN, EVEN = [160, 160, 20, 20], [90, 90, 90, 90]
SMALL = list(range(320, 360))


def layer(name: str, n_filters: int) -> Layer:
    sources: list[tuple[str, int] | None] = [("conv", at) for at in range(n_filters)]
    sources[-1] = None
    return Layer(name=name, module_name=name, kind="activation", sources=sources, map_bytes=4)


def reduced(*points: Tensor) -> Reduced:
    return Reduced(torch.cat(points), torch.ones(len(points), dtype=torch.float64))


CRITERIA = AnomalyCriteria(small_cluster_size=44)


def verdicts(
    votes: int = 0, on_progress: Any = None, criteria: AnomalyCriteria = CRITERIA
) -> AnomalyReport:
    uneven, _ = separated(UNEVEN, seed=1, spread=0.02)
    loose, _ = separated(UNEVEN, seed=2, spread=0.2)
    even, _ = separated(EVEN, seed=3, spread=0.2)
    dead = torch.zeros(1, 360, 2)
    points = {"a": reduced(even, uneven, loose), "b": reduced(dead, even, loose, uneven)}
    return judge(
        Plan([layer("a", 3), layer("b", 4)], 360, 2**20, {"a": None, "b": None}),
        points,
        cluster_layers(points, max_clusters=4, on_progress=on_progress),
        criteria=criteria,
        settings={"votes": votes},
        ballots=vote(points, criteria=criteria, votes=votes, max_clusters=4) if votes else None,
    )


def test_by_the_whole_probe() -> None:
    found = verdicts()
    assert [(a.layer, a.channel) for a in found.anomalies] == [("a", 1), ("b", 3)]
    assert [(a.source_layer, a.source_channel) for a in found.anomalies] == [
        ("conv", 1), (None, None),
    ]  # fmt: skip
    for anomaly in found.anomalies:
        assert anomaly.outliers == SMALL
        assert anomaly.cluster_sizes == UNEVEN
        assert anomaly.n_clusters == 4
    # Loose ones isolate them too, but below the mean index of their layer.
    assert found.isolations == dict.fromkeys(SMALL, 4)
    assert found.layers["a"].votes is None
    assert found.layers["b"].dead == [0]


def test_by_vote() -> None:
    found = verdicts(votes=12)
    assert [(a.layer, a.channel) for a in found.anomalies] == [("a", 1), ("b", 3)]
    assert found.layers["a"].votes is not None
    assert found.layers["a"].votes[1] > 0.5
    assert found.layers["b"].votes is not None
    assert found.layers["b"].votes[:2].tolist() == [0.0, 0.0]
    for anomaly in found.anomalies:
        assert set(anomaly.outliers) <= set(SMALL)
        assert len(anomaly.outliers) > 30
        assert anomaly.cluster_sizes == UNEVEN  # of the clustering of the whole probe
    assert set(found.isolations) <= set(SMALL)


def test_layers_keep_their_order_and_their_own_filters() -> None:
    found = verdicts()
    assert list(found.layers) == ["a", "b"]
    assert [len(report.ch_index) for report in found.layers.values()] == [3, 4]
    torch.testing.assert_close(found.layers["a"].ch_index[1], found.layers["b"].ch_index[3])


def test_progress_names_each_layer_in_turn_and_changes_nothing() -> None:
    told: list[tuple[str, str, int, int]] = []
    found = verdicts(on_progress=lambda *step: told.append(step))
    assert {step for step, *_ in told} == {"clustering"}
    assert [name for _, name, *_ in told] == sorted(name for _, name, *_ in told)
    assert {total for *_, total in told} == {7}
    done = [step[2] for step in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 7)
    assert found.anomalies == verdicts().anomalies


def test_no_layers() -> None:
    report = judge(Plan([], 360, 1, {}), {}, cluster_layers({}), criteria=CRITERIA)
    assert (report.layers, report.anomalies, report.isolations) == ({}, [], {})


def test_judged_by_other_criteria() -> None:
    # Without the second criterion the loose filters are flagged, too.
    loose = AnomalyCriteria(small_cluster_size=44, ch_ratio=None)
    report = verdicts()
    again = verdicts(criteria=loose)
    assert [(a.layer, a.channel) for a in again.anomalies] == [
        ("a", 1), ("a", 2), ("b", 2), ("b", 3),
    ]  # fmt: skip
    assert all(anomaly.outliers == SMALL for anomaly in again.anomalies)
    assert again.criteria == loose
    assert again.isolations == report.isolations
    assert {name: flags.tolist() for name, flags in report.flags(loose).items()} == {
        "a": [False, True, True], "b": [False, False, True, True],
    }  # fmt: skip


def test_another_lambda_isolates_other_samples() -> None:
    again = verdicts(criteria=AnomalyCriteria(small_cluster_size=10))
    assert again.anomalies == []
    assert again.isolations == {}
    assert again.small_cluster_limit == 10


def test_flags_are_those_of_the_whole_probe_also_where_parts_of_it_voted() -> None:
    by_votes = verdicts(votes=3).flags(CRITERIA)
    assert {name: flags.tolist() for name, flags in by_votes.items()} == {
        name: layer.is_anomaly.tolist() for name, layer in verdicts().layers.items()
    }


def test_a_report_without_labels_flags() -> None:
    report = AnomalyReport.from_dict(verdicts().to_dict())
    assert report.flags(CRITERIA)["a"].tolist() == [False, True, False]
