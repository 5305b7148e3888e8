"""From points to verdicts: what the report's layers, anomalies and isolations say of each other."""

from __future__ import annotations

import torch
from clouds import separated
from torch import Tensor

from filterwatch.detection import AnomalyCriteria, Layer
from filterwatch.detection.reduction import Reduced
from filterwatch.detection.verdicts import Verdicts, judge

UNEVEN, EVEN = [160, 160, 20, 20], [90, 90, 90, 90]
SMALL = list(range(320, 360))


def layer(name: str, n_filters: int) -> Layer:
    sources: list[tuple[str, int] | None] = [("conv", at) for at in range(n_filters)]
    sources[-1] = None
    return Layer(name=name, module_name=name, kind="activation", sources=sources, map_bytes=4)


def reduced(*points: Tensor) -> Reduced:
    return Reduced(torch.cat(points), torch.ones(len(points), dtype=torch.float64))


def verdicts(**options: object) -> Verdicts:
    uneven, _ = separated(UNEVEN, seed=1, spread=0.02)
    loose, _ = separated(UNEVEN, seed=2, spread=0.2)
    even, _ = separated(EVEN, seed=3, spread=0.2)
    dead = torch.zeros(1, 360, 2)
    return judge(
        {"a": layer("a", 3), "b": layer("b", 4)},
        {"a": reduced(even, uneven, loose), "b": reduced(dead, even, loose, uneven)},
        criteria=AnomalyCriteria(small_cluster_size=44),
        max_clusters=4,
        **options,  # type: ignore[arg-type]
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
    assert judge({}, {}, criteria=AnomalyCriteria()) == Verdicts({}, [], {})
