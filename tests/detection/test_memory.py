"""Which layers are kept whole, within a number of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterwatch.detection.memory import MAX_RANK, MIN_RANK, Plan, plan_ranks


def taken(sizes: dict[str, int], ranks: dict[str, int | None], n_samples: int) -> int:
    """Return the bytes that a plan keeps: whole maps, and bases of the factorizations."""
    return sum(
        size * (n_samples if ranks[name] is None else ranks[name])  # type: ignore[operator]
        for name, size in sizes.items()
    )


def test_everything_whole_where_it_fits() -> None:
    assert plan_ranks({"a": 100, "b": 50}, 10, 1500) == {"a": None, "b": None}
    assert plan_ranks({"a": 100, "b": 50}, 10, 1499) != {"a": None, "b": None}


def test_small_layers_stay_whole_and_the_large_one_is_factorized() -> None:
    # 16 directions of all take 17600 bytes; 84 more samples of the two small ones 8400.
    sizes = {"a": 50, "big": 1000, "b": 50}
    assert plan_ranks(sizes, 100, 26_000) == {"a": None, "big": 16, "b": None}
    assert plan_ranks(sizes, 100, 25_999) == {"a": None, "big": 16, "b": 16}


def test_a_small_budget_lowers_the_rank() -> None:
    assert plan_ranks({"a": 100}, 1000, 750) == {"a": 7}
    assert plan_ranks({"a": 100}, 1000, 400) == {"a": 4}


def test_what_is_reserved_is_left_free() -> None:
    assert plan_ranks({"a": 100}, 10, 2000, free_share=0.5) == {"a": None}
    assert plan_ranks({"a": 100}, 10, 1998, free_share=0.5) == {"a": 9}


@pytest.mark.parametrize("budget", [399, 1])
def test_a_budget_too_small_for_anything_is_refused(budget: int) -> None:
    reason = rf"memory_budget={budget} bytes .* take 100 bytes; raise it to at least "
    with pytest.raises(ValueError, match=reason + "400, .* look at fewer `layers`, or send"):
        plan_ranks({"a": 100}, 1000, budget)
    with pytest.raises(ValueError, match=reason + "534, "):
        plan_ranks({"a": 100}, 1000, budget, free_share=0.25)
    assert plan_ranks({"a": 100}, 1000, 534, free_share=0.25) == {"a": 4}


def test_fewer_samples_than_directions_need_less() -> None:
    with pytest.raises(ValueError, match="at least 400, "):
        plan_ranks({"a": 100}, 3, 399, free_share=0.25)
    assert plan_ranks({"a": 100}, 3, 400, free_share=0.25) == {"a": None}


def test_rough_points_are_noted() -> None:
    def warning(**ranks: int | None) -> str | None:
        return Plan([], 100, 1000, ranks).warning

    assert warning(a=None, b=None) is None
    assert warning(a=None, b=MAX_RANK) is None
    note = warning(a=None, b=4, c=4)
    assert note is not None
    assert "4 directions of the maps of 2 in 3 layers" in note
    assert "4.0 times as much for 16" in note


def test_no_layers() -> None:
    assert plan_ranks({}, 100, 1) == {}


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    st.integers(2, 2000),
    st.integers(1, 10**9),
)
def test_a_plan_never_takes_more_than_the_budget(
    sizes: list[int], n_samples: int, budget: int
) -> None:
    layers = {str(at): size for at, size in enumerate(sizes)}
    try:
        ranks = plan_ranks(layers, n_samples, budget)
    except ValueError:
        assert sum(sizes) * min(n_samples, MIN_RANK) > budget
        return
    assert list(ranks) == list(layers)
    assert taken(layers, ranks, n_samples) <= budget
    for rank in ranks.values():
        assert rank is None or MIN_RANK <= rank <= MAX_RANK


def test_a_plan_does_not_grow_with_the_probe() -> None:
    sizes = {"a": 1000, "b": 2000}
    small, large = (plan_ranks(sizes, n_samples, 100_000) for n_samples in (10_000, 10**7))
    assert small == large == {"a": 16, "b": 16}
