import math

import pytest
import torch

from filterwatch import AnomalyCriteria, AnomalyReport
from filterwatch.detection import LayerReport
from reproduction.points_and_verdicts import MapStatistics
from reproduction.signals import (
    anomaly_score,
    isolation_scores,
    rival_signals,
    scatter_share,
)


def layer(points, labels, sizes, activation=None):
    """One layer with the given filters; dead ones have the label -1."""
    n_filters = len(points)
    dead = [row[0] < 0 for row in labels]
    sizes = torch.tensor(sizes)
    return LayerReport(
        kind="activation",
        ch_index=torch.tensor([math.nan if one else 1.0 for one in dead], dtype=torch.float64),
        n_clusters=(sizes > 0).sum(1),
        cluster_sizes=sizes,
        activation=torch.tensor(activation or [1.0] * n_filters),
        is_anomaly=torch.zeros(n_filters, dtype=torch.bool),
        sources=[None] * n_filters,
        points=torch.tensor(points, dtype=torch.float64),
        labels=torch.tensor(labels),
    )


def report_of(layer):
    n_samples = layer.labels.shape[1]
    return AnomalyReport([], {"a": layer}, {}, n_samples, AnomalyCriteria(), 1)


# Four samples at the origin, two at x = 3, one at x = -6: mean 0, mean square 54 / 7.
FILTER = [[0, 0], [0, 0], [0, 0], [0, 0], [3, 0], [3, 0], [-6, 0]]
LABELS = [0, 0, 0, 0, 1, 1, 2]


def test_isolation_by_hand():
    scores = isolation_scores(layer([FILTER], [LABELS], [[4, 2, 1, 0]]))
    # The pair is 3 from the origin, the single one 6 from it, the nearest of the larger clusters.
    assert scores.item() == pytest.approx((3 / 2 + 6 / 1) / math.sqrt(54 / 7))


def test_isolation_does_not_depend_on_the_unit():
    scaled = [[1000 * x, y] for x, y in FILTER]
    one = isolation_scores(layer([FILTER], [LABELS], [[4, 2, 1, 0]]))
    other = isolation_scores(layer([scaled], [LABELS], [[4, 2, 1, 0]]))
    torch.testing.assert_close(one, other)


def test_scatter_in_small_clusters_by_hand():
    report = report_of(layer([FILTER], [LABELS], [[4, 2, 1, 0]]))
    share = scatter_share(report, small_cluster_size=0.2)  # one sample
    assert share == pytest.approx(36 / 54)
    share = scatter_share(report, small_cluster_size=0.3)  # two samples
    assert share == pytest.approx(1)


def test_dead_and_inactive_filters_do_not_enter_the_mean():
    dead = [[0, 0]] * 7
    mixed = layer(
        [FILTER, FILTER, dead],
        [LABELS, LABELS, [-1] * 7],
        [[4, 2, 1, 0], [4, 2, 1, 0], [0, 0, 0, 0]],
        activation=[1.0, 0.1, 0.0],
    )
    scores = isolation_scores(mixed)
    assert math.isnan(scores[2])
    assert anomaly_score(report_of(mixed)) == pytest.approx(scores[0].item())


def test_a_network_of_dead_filters_has_no_score():
    silent = layer([[[0, 0]] * 7], [[-1] * 7], [[0, 0, 0, 0]])
    assert math.isnan(anomaly_score(report_of(silent)))


def test_rivals_skip_what_is_undefined_and_stay_finite():
    statistics = MapStatistics(
        kurtosis=torch.tensor([3.0, 5.0, math.nan]),
        max_to_median=torch.tensor([math.inf, math.inf, 2.0]),
        sparsity=torch.tensor([0.0, 0.5, 1.0]),
    )
    assert rival_signals({"a": statistics}) == {
        "kurtosis": 4.0,
        "max_to_median": 1e6,
        "sparsity": 0.5,
    }
