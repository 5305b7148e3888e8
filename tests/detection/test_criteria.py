"""Three criteria, computed by hand: what each compares, which inequality is strict, what is off."""

from __future__ import annotations

import math

import pytest
import torch

from filterwatch.detection import AnomalyCriteria
from filterwatch.detection.criteria import flag_anomalies, mean_index, small_clusters

OFF = {"small_cluster_ratio": None, "ch_ratio": None, "activation_ratio": None}


def flags(
    sizes: list[list[int]],
    ch_index: list[float],
    activation: list[float],
    limit: int = 5,
    **criteria: float | None,
) -> list[bool]:
    return flag_anomalies(
        torch.tensor(sizes),
        torch.tensor(ch_index, dtype=torch.float64),
        torch.tensor(activation, dtype=torch.float64),
        limit=limit,
        criteria=AnomalyCriteria(**criteria),
    ).tolist()


def test_small_clusters_are_those_with_at_most_lambda_points_and_at_least_one() -> None:
    assert small_clusters(torch.tensor([7, 6, 5, 1, 0]), 5).tolist() == [
        False, False, True, True, False,
    ]  # fmt: skip


# One of five clusters is small: the ratio is 0.2, and "more than" is strict.
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([50, 20, 15, 10, 5], False),  # 1 > 0.2 * 5 is false
        ([50, 20, 15, 6, 6], False),  # no small one
        ([60, 20, 15, 5, 0], True),  # an empty cluster is none: 1 > 0.2 * 4
        ([60, 20, 11, 5, 4], True),  # 2 > 0.2 * 5
    ],
)
def test_unbalanced_means_more_small_clusters_than_alpha_of_the_non_empty_ones(
    sizes: list[int], expected: bool
) -> None:
    only = {**OFF, "small_cluster_ratio": 0.2}
    assert flags([sizes], [10.0], [1.0], **only) == [expected]


def test_high_ch_means_above_beta_times_the_mean_of_the_layer() -> None:
    sizes = [[50, 50]] * 3
    # The mean is 20: the second lies exactly on it.
    assert flags(sizes, [10.0, 20.0, 30.0], [1.0] * 3, **{**OFF, "ch_ratio": 1.0}) == [
        False, False, True,
    ]  # fmt: skip
    assert flags(sizes, [10.0, 20.0, 30.0], [1.0] * 3, **{**OFF, "ch_ratio": 1.5}) == [False] * 3
    assert flags(sizes, [10.0, 20.0, 30.0], [1.0] * 3, **{**OFF, "ch_ratio": 0.5}) == [
        False, True, True,
    ]  # fmt: skip


def test_active_means_at_least_theta_times_the_mean_of_the_layer() -> None:
    # The mean is 1: the first lies exactly on half of it, and "at least" is not strict.
    activation = [0.5, 0.499, 2.001]
    only = {**OFF, "activation_ratio": 0.5}
    assert flags([[50, 50]] * 3, [10.0] * 3, activation, **only) == [True, False, True]


def test_all_three_must_hold() -> None:
    unbalanced, balanced = [60, 38, 1, 1], [25, 25, 25, 25]
    #              all three    balanced   low CH      inactive    for the mean
    sizes = [unbalanced, balanced, unbalanced, unbalanced, balanced]
    ch_index = [200.0, 200.0, 20.0, 200.0, 20.0]  # mean 128
    activation = [1.0, 1.0, 1.0, 0.1, 1.0]  # mean 0.82
    assert flags(sizes, ch_index, activation) == [True, False, False, False, False]
    for switched_off, also_flagged in zip(OFF, (1, 2, 3), strict=True):
        flagged = flags(sizes, ch_index, activation, **{switched_off: None})
        assert [at for at, flag in enumerate(flagged) if flag] == [0, also_flagged]


def test_with_every_criterion_off_each_filter_that_has_a_clustering_is_flagged() -> None:
    assert flags([[10, 0], [0, 0]], [1.0, math.nan], [1.0, 0.0], **OFF) == [True, False]


def test_a_ratio_of_zero_is_a_threshold_and_does_not_switch_off() -> None:
    sizes = [[50, 50, 0], [50, 45, 5]]
    # More than 0 small clusters; an index above 0; an activation of at least 0.
    flagged = flags(
        sizes, [0.0, 1.0], [0.0, 0.0], small_cluster_ratio=0, ch_ratio=None, activation_ratio=0
    )
    assert flagged == [False, True]
    assert flags(sizes, [0.0, 1.0], [0.0, 0.0], **{**OFF, "ch_ratio": 0}) == [False, True]


def test_dead_filters_are_never_flagged_and_enter_neither_mean() -> None:
    alive = {"sizes": [[90, 5, 5]] * 2, "ch_index": [11.0, 9.0], "activation": [1.0, 0.19]}
    dead = {"sizes": [[0, 0, 0]] * 8, "ch_index": [math.nan] * 8, "activation": [100.0] * 8}
    both = {name: alive[name] + dead[name] for name in alive}  # type: ignore[operator]
    thresholds = {"ch_ratio": 1.0, "activation_ratio": 0.2}
    # Means of 10 and 0.595. With the dead ones' activation no living filter would be active; with
    # an index of 0 for them, the second would lie above the mean.
    assert flags(**alive, **thresholds) == [True, False]
    assert flags(**both, **thresholds) == [True, False] + [False] * 8
    silent = {**both, "activation": [1.0, 0.19] + [0.0] * 8}
    assert flags(**silent, **{**OFF, "activation_ratio": 0.4}) == [True, False] + [False] * 8


def test_a_layer_of_dead_filters_has_no_anomaly() -> None:
    assert flags([[0, 0]] * 3, [math.nan] * 3, [0.0] * 3, **OFF) == [False] * 3


@pytest.mark.parametrize(
    ("size", "n_samples", "limit"),
    [
        (7, 100, 7),
        (0.29, 100, 29),  # 0.29 * 100 is 28.999999999999996
        (0.57, 100, 57),
        (0.01, 1000, 10),
        (0.015, 1000, 15),
        (0.999, 1000, 999),
        (0.01, 150, 1),  # rounded down
        (0.01, 50, 1),  # never below one sample
    ],
)
def test_small_cluster_size_as_a_number_of_samples(size: float, n_samples: int, limit: int) -> None:
    assert AnomalyCriteria(small_cluster_size=size).small_cluster_limit(n_samples) == limit


@pytest.mark.parametrize(("size", "n_samples"), [(100, 100), (100, 60), (0.5, 1)])
def test_a_limit_that_makes_every_cluster_small_is_refused(size: float, n_samples: int) -> None:
    with pytest.raises(ValueError, match=rf"{size}.*{n_samples} samples.*lower it, or use a larg"):
        AnomalyCriteria(small_cluster_size=size).small_cluster_limit(n_samples)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (1, AnomalyCriteria(100, 0.2, 1.0, 0.2)),
        (2, AnomalyCriteria(5, None, None, None)),
        (3, AnomalyCriteria(50, 0.2, 1.2, 0.5)),
    ],
)
def test_rows_of_table_1(row: int, expected: AnomalyCriteria) -> None:
    assert AnomalyCriteria.paper(row) == expected


@pytest.mark.parametrize("row", [0, 4, "1"])
def test_an_unknown_row_is_refused(row: int) -> None:
    with pytest.raises(ValueError, match=rf"rows 1, 2 and 3, got {row!r}"):
        AnomalyCriteria.paper(row)


def test_defaults() -> None:
    assert AnomalyCriteria() == AnomalyCriteria(0.01, 0.2, 1.0, 0.2)


@pytest.mark.parametrize("size", [0, -3])
def test_a_count_below_one_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"at least 1, got {size}: use 1 for single outliers"):
        AnomalyCriteria(small_cluster_size=size)


@pytest.mark.parametrize("size", [0.0, 1.0, 1.5, -0.1, math.nan, math.inf])
def test_a_fraction_outside_zero_and_one_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match=rf"\(0, 1\), got {size}: write a number of samples as"):
        AnomalyCriteria(small_cluster_size=size)


@pytest.mark.parametrize("value", [None, True, "5", [5]])
def test_a_small_cluster_size_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="small_cluster_size must be an int or a float, got"):
        AnomalyCriteria(small_cluster_size=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(OFF))
@pytest.mark.parametrize("value", [-0.1, -1, math.nan, math.inf])
def test_a_ratio_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*None to switch.*off, got {value}"):
        AnomalyCriteria(**{name: value})


@pytest.mark.parametrize("name", list(OFF))
@pytest.mark.parametrize("value", [False, "0.2"])
def test_a_ratio_that_is_no_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"{name} must be a number or None, got {value!r}"):
        AnomalyCriteria(**{name: value})  # type: ignore[arg-type]


def test_a_filter_that_answers_to_one_sample_does_not_set_the_layers_mean() -> None:
    # Equal points but for one: no scatter within clusters, and an index as large as rounding lets.
    sizes = torch.tensor([[299, 1, 0], [150, 140, 10], [100, 100, 100]])
    ch_index = torch.tensor([5e14, 300.0, 100.0], dtype=torch.float64)
    activation = torch.ones(3, dtype=torch.float64)
    criteria = AnomalyCriteria(small_cluster_size=10, small_cluster_ratio=0.2)
    assert float(mean_index(ch_index, sizes)) == 200.0
    flagged = flag_anomalies(sizes, ch_index, activation, limit=10, criteria=criteria)
    assert flagged.tolist() == [True, True, False]
    assert float(mean_index(ch_index[:1], sizes[:1])) == 5e14
    assert mean_index(torch.full((2,), torch.nan), sizes[:2]).isnan()


def test_a_ratio_that_can_never_be_exceeded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"small_cluster_ratio .* got 1\.0"):
        AnomalyCriteria(small_cluster_ratio=1.0)
