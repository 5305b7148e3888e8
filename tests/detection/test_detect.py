"""The whole chain: known filters flagged, and bad input refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from planted import (
    ANOMALY,
    CRITERIA,
    DEAD,
    FAILS_ALONE,
    INACTIVE,
    LAYERS,
    LOW_CH,
    N_CLUSTERS,
    N_FILTERS,
    N_SAMPLES,
    OUTLIERS,
    SMALL,
    UNEVEN,
    detect,
    flagged,
    images,
)
from torch import nn

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyCriteria, AnomalyReport


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_clusters", [N_CLUSTERS, 14])
def test_exactly_the_planted_filter_is_flagged_in_every_layer(seed: int, max_clusters: int) -> None:
    report = detect(probe=images(seed=seed), max_clusters=max_clusters)
    assert flagged(report) == {name: [ANOMALY] for name in LAYERS}
    assert report.count == 3
    assert report.filters == [("0", ANOMALY)]


@pytest.mark.parametrize(("criterion", "filter_index"), FAILS_ALONE.items())
def test_for_each_criterion_one_filter_fails_it_alone(criterion: str, filter_index: int) -> None:
    # Switched off, the criterion lets exactly that filter through.
    report = detect(criteria=dataclasses.replace(CRITERIA, **{criterion: None}))
    assert flagged(report) == {name: sorted([ANOMALY, filter_index]) for name in LAYERS}


def test_all_that_is_known_of_the_planted_filter() -> None:
    report = detect()
    anomaly = report.anomalies[1]
    assert (anomaly.layer, anomaly.channel) == ("1", ANOMALY)
    assert (anomaly.source_layer, anomaly.source_channel) == ("0", ANOMALY)
    assert anomaly.cluster_sizes == UNEVEN
    assert anomaly.n_clusters == 5
    assert anomaly.outliers == OUTLIERS
    assert anomaly.ch_index == float(report.layers["1"].ch_index[ANOMALY])
    expected = images()[:, ANOMALY].abs().mean()
    assert anomaly.activation == pytest.approx(float(expected), rel=1e-6)


def test_what_the_layers_hold() -> None:
    report = detect()
    assert [layer.kind for layer in report.layers.values()] == [
        "convolution", "activation", "max_pool",
    ]  # fmt: skip
    for layer in report.layers.values():
        assert layer.points is not None
        assert layer.labels is not None
        assert layer.points.shape == (N_FILTERS, N_SAMPLES, 2)
        assert layer.labels.shape == (N_FILTERS, N_SAMPLES)
        assert layer.cluster_sizes.shape == (N_FILTERS, N_CLUSTERS)
        for tensor in (layer.ch_index, layer.n_clusters, layer.activation, layer.is_anomaly):
            assert tensor.shape == (N_FILTERS,)
        assert layer.sources == [("0", channel) for channel in range(N_FILTERS)]
        assert layer.dead == [DEAD]
        assert layer.n_clusters[DEAD] == 0
        assert math.isnan(layer.ch_index[DEAD])
        assert (layer.labels[DEAD] == -1).all()
        assert not layer.points[DEAD].any()
    assert report.small_cluster_limit == SMALL
    assert report.n_samples == N_SAMPLES
    assert report.criteria == CRITERIA
    assert report.settings["max_clusters"] == N_CLUSTERS
    assert report.skipped == {}


def test_isolated_samples_are_counted_over_all_filters() -> None:
    # Three filters of every layer have the small clusters; one of them is flagged.
    report = detect()
    uneven = [ANOMALY, LOW_CH, INACTIVE]
    for layer in report.layers.values():
        assert layer.cluster_sizes[uneven].tolist() == [UNEVEN] * 3
    assert report.outlier_samples() == dict.fromkeys(OUTLIERS, 3)
    assert report.outlier_samples(all_filters=True) == dict.fromkeys(OUTLIERS, 9)


def test_a_larger_lambda_makes_no_outliers_of_large_clusters() -> None:
    assert detect(criteria=AnomalyCriteria(small_cluster_size=1)).count == 0  # 1 of 5 is not > 1
    report = detect(criteria=AnomalyCriteria(small_cluster_size=2 / N_SAMPLES))
    assert report.small_cluster_limit == 2
    assert report.anomalies[0].outliers == OUTLIERS


def test_common_components_for_a_layer() -> None:
    report = detect(pca="layer")
    layer = report.layers["0"]
    assert layer.points is not None
    # One cloud for all: the filters' centres differ now, as their pictures do.
    assert float(layer.points.mean(1)[[0, 1, 2]].std(0).norm()) > 0.1
    assert float(layer.points.mean((0, 1)).norm()) < 1e-4
    assert report.settings["pca"] == "layer"
    assert detect(pca="filter").settings["pca"] == "filter"


def test_a_vote_finds_the_planted_filter_on_a_larger_probe() -> None:
    # Ten of each sample, nearly alike: the small clusters are in every quarter of the probe.
    probe = images().repeat_interleave(10, dim=0)
    probe *= 1 + 1e-4 * torch.randn(len(probe), 1, 1, 1)
    criteria = AnomalyCriteria(small_cluster_size=40)
    report = detect(probe=probe, criteria=criteria, votes=5)
    assert flagged(report) == {name: [ANOMALY] for name in LAYERS}
    for layer in report.layers.values():
        assert layer.votes is not None
        assert float(layer.votes[ANOMALY]) > 0.5
        assert float(layer.votes[DEAD]) == 0.0
    assert report.settings["votes"] == 5
    for anomaly in report.anomalies:
        assert {index // 10 for index in anomaly.outliers} <= set(OUTLIERS)
    back = AnomalyReport.from_dict(report.to_dict())
    assert back.to_dict() == report.to_dict()
    assert torch.equal(back.layers["0"].votes, report.layers["0"].votes)  # type: ignore[arg-type]


def test_progress_is_told_and_changes_nothing() -> None:
    told: list[tuple[str, str, int, int]] = []
    report = detect(batch_size=20, on_progress=lambda *step: told.append(step))
    assert report.to_dict(include_samples=True) == detect(batch_size=20).to_dict(
        include_samples=True
    )
    steps = [step for step, *_ in told]
    assert list(dict.fromkeys(steps)) == ["feature maps", "principal components", "clustering"]
    assert {name for _, name, *_ in told} == set(LAYERS)
    assert all(0 <= done <= total for *_, done, total in told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_clusters": 84}, "83 samples .* max_clusters=84 clusters: use a larger probe, or lo"),
        ({"probe": images()[:4]}, "a probe of 4 samples cannot form max_clusters=5 clusters: use"),
        ({"probe": images()[:0]}, "a probe of 0 samples cannot form max_clusters=5 clusters"),
        ({"probe": []}, "a probe of 0 samples cannot form max_clusters=5 clusters"),
        (
            {"probe": images()[:, 0]},
            r"found no images, .*tensor \[83, 4, 4\]: single images become",
        ),
        ({"probe": images().byte()}, r"found no images, .*torch.uint8 tensor \[83, 7, 4, 4\]: sc"),
        ({"probe": [torch.arange(9)]}, r"found no images, .*torch.int64 tensor \[9\]: convert"),
        ({"layers": ["conv*"]}, r"the pattern 'conv\*' matches none of: 0, 1, 2"),
        ({"layers": []}, r"layers=\[\] watches nothing: name a layer"),
        ({"model": nn.Flatten()}, "Flatten ran no 2-D convolution"),
        ({"criteria": AnomalyCriteria(83)}, "small_cluster_size=83 makes every .*lower it, or use"),
        ({"criteria": AnomalyCriteria.paper(1)}, "small_cluster_size=100 .* of 83 samples small"),
    ],
)
def test_bad_input_is_refused_with_the_value_and_the_remedy(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detect(**arguments)


# What the callback refuses at construction, in the same words.
BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max_clusters": 1}, ValueError, "max_clusters=1 .*at least 2"),
    ({"max_clusters": 2.5}, TypeError, "max_clusters=2.5 is not an integer"),
    ({"votes": -1}, ValueError, "votes=-1 .*at least 0"),
    ({"votes": 1.5}, TypeError, "votes=1.5 is not an integer"),
    ({"votes": True}, TypeError, "votes=True is not an integer"),
    ({"pca": "both"}, ValueError, "pca='both' is unknown: pass 'filter' or 'layer'"),
    ({"batch_size": 0}, ValueError, "batch_size=0 .*at least 1"),
    ({"batch_size": 8.0}, TypeError, "batch_size=8.0 is not an integer"),
    ({"seed": 1.5}, TypeError, "seed=1.5 is not an integer"),
    ({"seed": -1}, ValueError, "seed=-1 .*at least 0"),
    ({"seed": 2**32}, ValueError, "seed=4294967296 .*4294967295"),
    ({"layers": "conv1"}, TypeError, "layers='conv1' is not a list"),
    ({"layers": [1]}, TypeError, r"layers=\[1\] .*strings"),
    ({"criteria": 0.1}, TypeError, "criteria=0.1 is no AnomalyCriteria"),
]


@pytest.mark.parametrize("function", [detect, AnomalyFilterCallback])
@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS)
def test_the_function_and_the_callback_refuse_the_same_arguments(
    arguments: dict[str, Any], error: type[Exception], message: str, function: Any
) -> None:
    with pytest.raises(error, match=message):
        function(**arguments)


@pytest.mark.parametrize(
    ("memory_budget", "error"), [(0, ValueError), (-1, ValueError), (1e9, TypeError)]
)
def test_a_memory_budget_is_a_number_of_bytes(memory_budget: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"memory_budget={memory_budget} .*at least 1"):
        detect(memory_budget=memory_budget)
