import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from reproduction.rank_correlations import correlations, partial_spearman, spearman
from reproduction.signals import SIGNALS, rises


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 30).tolist(), rng.normal(size=30).tolist()
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_a_constant_has_no_correlation():
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_what_only_time_explains_vanishes_with_the_epoch_fixed():
    epochs = list(range(20))
    squared = [epoch**2 for epoch in epochs]
    assert spearman(squared, epochs) == pytest.approx(1)
    assert math.isnan(partial_spearman(squared, [3 * epoch for epoch in epochs], epochs))


def test_partial_correlation_is_the_textbook_formula():
    rng = np.random.default_rng(1)
    fixed = rng.normal(size=40)
    first, second = fixed + rng.normal(size=40), fixed + rng.normal(size=40)
    a, b, c = (
        spearmanr(*pair).statistic for pair in ((first, second), (first, fixed), (second, fixed))
    )
    expected = (a - b * c) / math.sqrt((1 - b**2) * (1 - c**2))
    found = partial_spearman(first.tolist(), second.tolist(), fixed.tolist())
    assert found == pytest.approx(expected)


def test_correlations_leave_early_learning_out():
    """Behind epoch 2 the count goes up with the gap; before, it does the opposite."""
    gaps = [9, 5, 1, 2, 3, 4, 5, 6]
    counts = [0, 5, 9, 1, 2, 3, 4, 5]
    rows = [
        dict.fromkeys(SIGNALS, 0.0) | {"epoch": epoch, "count": count, "gap": gap, "rise": 0.0}
        for epoch, (count, gap) in enumerate(zip(counts, gaps, strict=True))
    ]
    found = correlations(rows)
    assert found["count"]["gap"] == pytest.approx(1)
    assert found["epoch"]["gap"] == pytest.approx(1)
    assert math.isnan(found["count"]["rise"])
    assert math.isnan(found["score"]["gap"])


def test_rises_are_measured_from_the_lowest_so_far():
    assert rises([3.0, 1.0, 2.0, 0.5, 0.5]) == [0.0, 0.0, 1.0, 0.0, 0.0]
