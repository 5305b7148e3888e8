import math

import pytest
import torch

from reproduction.points_and_verdicts import LayerClusters, LayerMaps
from reproduction.signals import (
    anomaly_score,
    isolation_scores,
    rival_signals,
    scatter_share,
)


def layer(points, labels, sizes, activation=None):
    """One layer with the given filters; dead ones have the label -1."""
    points = torch.tensor(points, dtype=torch.float64)
    n_filters = len(points)
    dead = [row[0] < 0 for row in labels]
    nothing = torch.full((n_filters,), math.nan, dtype=torch.float64)
    maps = LayerMaps(
        points=points,
        activation=torch.tensor(activation or [1.0] * n_filters),
        sources=[None] * n_filters,
        kurtosis=nothing,
        max_to_median=nothing,
        sparsity=nothing,
    )
    clusters = LayerClusters(
        labels=torch.tensor(labels, dtype=torch.int8),
        cluster_sizes=torch.tensor(sizes),
        ch_index=torch.tensor([math.nan if one else 1.0 for one in dead], dtype=torch.float64),
    )
    return maps, clusters


# Four samples at the origin, two at x = 3, one at x = -6: mean 0, mean square 54 / 7.
FILTER = [[0, 0], [0, 0], [0, 0], [0, 0], [3, 0], [3, 0], [-6, 0]]
LABELS = [0, 0, 0, 0, 1, 1, 2]


def test_isolation_by_hand():
    scores = isolation_scores(*layer([FILTER], [LABELS], [[4, 2, 1, 0]]))
    # The pair is 3 from the origin, the single one 6 from it, the nearest of the larger clusters.
    assert scores.item() == pytest.approx((3 / 2 + 6 / 1) / math.sqrt(54 / 7))


def test_isolation_does_not_depend_on_the_unit():
    scaled = [[1000 * x, y] for x, y in FILTER]
    one = isolation_scores(*layer([FILTER], [LABELS], [[4, 2, 1, 0]]))
    other = isolation_scores(*layer([scaled], [LABELS], [[4, 2, 1, 0]]))
    torch.testing.assert_close(one, other)


def test_scatter_in_small_clusters_by_hand():
    maps, clusters = layer([FILTER], [LABELS], [[4, 2, 1, 0]])
    share = scatter_share({"a": maps}, {"a": clusters}, small_cluster_size=0.2)  # one sample
    assert share == pytest.approx(36 / 54)
    share = scatter_share({"a": maps}, {"a": clusters}, small_cluster_size=0.3)  # two samples
    assert share == pytest.approx(1)


def test_dead_and_inactive_filters_do_not_enter_the_mean():
    dead = [[0, 0]] * 7
    maps, clusters = layer(
        [FILTER, FILTER, dead],
        [LABELS, LABELS, [-1] * 7],
        [[4, 2, 1, 0], [4, 2, 1, 0], [0, 0, 0, 0]],
        activation=[1.0, 0.1, 0.0],
    )
    scores = isolation_scores(maps, clusters)
    assert math.isnan(scores[2])
    assert anomaly_score({"a": maps}, {"a": clusters}) == pytest.approx(scores[0].item())


def test_a_network_of_dead_filters_has_no_score():
    maps, clusters = layer([[[0, 0]] * 7], [[-1] * 7], [[0, 0, 0, 0]])
    assert math.isnan(anomaly_score({"a": maps}, {"a": clusters}))


def test_rivals_skip_what_is_undefined_and_stay_finite():
    maps, _ = layer([FILTER] * 3, [LABELS] * 3, [[4, 2, 1, 0]] * 3)
    maps = LayerMaps(
        **{
            **vars(maps),
            "kurtosis": torch.tensor([3.0, 5.0, math.nan]),
            "max_to_median": torch.tensor([math.inf, math.inf, 2.0]),
            "sparsity": torch.tensor([0.0, 0.5, 1.0]),
        }
    )
    assert rival_signals({"a": maps}) == {
        "kurtosis": 4.0,
        "max_to_median": 1e6,
        "sparsity": 0.5,
    }
