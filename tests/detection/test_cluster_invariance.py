"""What must not change a verdict: order, unit, place and direction of the points."""

from __future__ import annotations

import math

import torch
from clouds import assert_sensible, noise, same_partition, separated
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from filterwatch.detection import AnomalyCriteria, Clusterings, cluster_points
from filterwatch.detection.criteria import flag_anomalies

SEEDS = st.integers(0, 2**16)
SIZES = st.lists(st.sampled_from([1, 2, 3, 10, 30]), min_size=2, max_size=7).filter(
    lambda sizes: sum(sizes) >= len(sizes) + 2
)
EXPONENTS = st.integers(-20, 20)
ANGLES = st.floats(0, 2 * math.pi)
SHIFTS = st.floats(-100, 100)


def verdicts(found: Clusterings) -> Tensor:
    """Flag filters [C] as one layer's, by their clusterings alone."""
    return flag_anomalies(
        found.cluster_sizes,
        found.ch_index,
        torch.ones_like(found.ch_index),
        limit=3,
        criteria=AnomalyCriteria(small_cluster_size=3),
    )


def mixed(sizes: list[int], seed: int) -> Tensor:
    """Return points of filters with groups of the given sizes, and of as many equal ones."""
    uneven, _ = separated(sizes, seed=seed, n_problems=2)
    share, rest = divmod(sum(sizes), len(sizes))
    equal = [share + 1] * rest + [share] * (len(sizes) - rest)
    even, _ = separated(equal, seed=seed, spread=0.2, n_problems=2)
    return torch.cat([uneven, even])


def rotation(angle: float) -> Tensor:
    return torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )


def assert_same(found: Clusterings, expected: Clusterings, tolerance: float = 1e-6) -> None:
    for labels, others in zip(found.labels, expected.labels, strict=True):
        assert same_partition(labels, others)
    assert torch.equal(found.cluster_sizes, expected.cluster_sizes)
    assert torch.equal(verdicts(found), verdicts(expected))
    torch.testing.assert_close(
        found.ch_index, expected.ch_index, rtol=tolerance, atol=0, equal_nan=True
    )


@given(SIZES, SEEDS)
def test_the_order_of_samples(sizes: list[int], seed: int) -> None:
    points = mixed(sizes, seed)
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(seed))
    expected = cluster_points(points, max_clusters=len(sizes))
    found = cluster_points(points[:, order], max_clusters=len(sizes))
    for labels, others in zip(found.labels, expected.labels, strict=True):
        assert same_partition(labels, others[order])
    assert torch.equal(found.cluster_sizes, expected.cluster_sizes)
    assert torch.equal(verdicts(found), verdicts(expected))


@given(SIZES, SEEDS)
def test_the_order_of_filters(sizes: list[int], seed: int) -> None:
    points = torch.cat([mixed(sizes, seed), noise(4, sum(sizes), seed=seed)])
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    expected = cluster_points(points, max_clusters=len(sizes))
    found = cluster_points(points[order], max_clusters=len(sizes))
    # Bit for bit, on points without groups as well: filters know nothing of one another.
    for name in vars(found):
        assert torch.equal(
            getattr(found, name).nan_to_num(), getattr(expected, name)[order].nan_to_num()
        )


@given(SIZES, SEEDS, st.floats(1, 10), EXPONENTS)
def test_the_unit(sizes: list[int], seed: int, digits: float, exponent: int) -> None:
    points = mixed(sizes, seed)
    factor = digits * 10.0**exponent
    expected = cluster_points(points, max_clusters=len(sizes))
    found = cluster_points(factor * points, max_clusters=len(sizes))
    assert_same(found, expected)
    # A density in the plane falls with the square of the unit.
    torch.testing.assert_close(
        found.log_likelihood, expected.log_likelihood - 2 * math.log(factor), rtol=0, atol=1e-4
    )


@given(SEEDS, EXPONENTS)
def test_the_unit_in_single_precision(seed: int, exponent: int) -> None:
    points = mixed([30, 20, 3, 1], seed).float()
    expected = cluster_points(points, max_clusters=4)
    assert_same(cluster_points(points * 10.0**exponent, max_clusters=4), expected, 1e-3)


@given(SEEDS, st.integers(-60, 60))
def test_a_unit_of_a_power_of_two_changes_no_bit(seed: int, exponent: int) -> None:
    points = noise(5, 40, seed=seed)
    expected = cluster_points(points, max_clusters=6)
    found = cluster_points(points * 2.0**exponent, max_clusters=6)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.ch_index, expected.ch_index)


@given(SIZES, SEEDS, SHIFTS, SHIFTS)
def test_the_place(sizes: list[int], seed: int, right: float, up: float) -> None:
    points = mixed(sizes, seed)
    expected = cluster_points(points, max_clusters=len(sizes))
    found = cluster_points(points + torch.tensor([right, up]), max_clusters=len(sizes))
    assert_same(found, expected)
    torch.testing.assert_close(
        found.log_likelihood, expected.log_likelihood, rtol=0, atol=1e-4, equal_nan=True
    )


@given(SIZES, SEEDS, ANGLES, st.booleans())
def test_the_direction(sizes: list[int], seed: int, angle: float, mirrored: bool) -> None:
    points = mixed(sizes, seed)
    turned = points @ rotation(angle)
    if mirrored:
        turned = turned.flip(-1)
    expected = cluster_points(points, max_clusters=len(sizes))
    assert_same(cluster_points(turned, max_clusters=len(sizes)), expected)


def test_points_without_groups_are_hardly_ever_clustered_otherwise() -> None:
    # Where nothing speaks for one clustering, rounding may decide: in few cases, not in many.
    points = noise(100, 100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    expected = cluster_points(points, max_clusters=8)
    for name, changed in {
        "order": points[:, order],
        "unit": 1.7e-9 * points,
        "place": points + 5.0,
        "direction": points @ rotation(0.7),
        "precision": points.float(),
    }.items():
        found = cluster_points(changed, max_clusters=8)
        same = (found.cluster_sizes == expected.cluster_sizes).all(1).double().mean()
        assert same >= 0.9, name


@given(
    places=st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=5, max_size=25),
    max_clusters=st.integers(2, 5),
    exponent=EXPONENTS,
    offset=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_any_points_give_finite_sensible_results(
    places: list[tuple[int, int]], max_clusters: int, exponent: int, offset: float
) -> None:
    # A coarse grid makes duplicates, lines, and points that are all the same.
    points = 10.0**exponent * (torch.tensor(places, dtype=torch.float64) + offset).unsqueeze(0)
    found = cluster_points(points, max_clusters=max_clusters)
    assert_sensible(found, points, max_clusters)
    assert (int(found.n_clusters) == 0) == (len(set(places)) == 1)
    labels = found.labels[0].tolist()
    for place in set(places):
        together = {label for label, other in zip(labels, places, strict=True) if other == place}
        assert len(together) == 1


@given(
    values=st.lists(
        st.tuples(*[st.floats(-1e20, 1e20, allow_subnormal=False)] * 2), min_size=4, max_size=15
    )
)
def test_any_floats_give_finite_sensible_results(values: list[tuple[float, float]]) -> None:
    points = torch.tensor(values, dtype=torch.float64).unsqueeze(0)
    assert_sensible(cluster_points(points, max_clusters=3), points, 3)
