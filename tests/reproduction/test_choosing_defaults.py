import pytest

from reproduction.choosing_defaults import Four, choose, without_tiny_counts


def test_both_conditions_must_hold():
    assert Four(10, 20, 10, 11).passes
    assert not Four(10, 14, 10, 10).passes  # overfit only 1.4 times well-trained
    assert not Four(10, 20, 10, 12).passes  # the regularised run rises by a fifth as much
    assert Four(10, 20, 12, 5).passes  # it may fall


def test_ratio_and_share_by_hand():
    found = Four(10, 20, 10, 13)
    assert found.ratio == 2
    assert found.regularised_share == pytest.approx(0.3)


def test_without_a_rise_nothing_passes():
    assert not Four(10, 10, 5, 5).passes
    assert not Four(0, 0, 0, 0).passes
    assert Four(0, 3, 2, 2).passes


def test_the_choice_is_what_passes_most_often_then_what_misses_least():
    good, near, far = Four(10, 20, 10, 10), Four(10, 14, 10, 10), Four(10, 10, 0, 30)
    assert choose({"a": [good, far], "b": [good, good], "c": [near, near]}) == "b"
    assert choose({"a": [far, far], "c": [near, near]}) == "c"


def test_counts_of_next_to_nothing_are_no_choice():
    few, many, score = Four(0, 2.5, 0, 0), Four(2, 8, 3, 3), Four(0.2, 0.6, 0.3, 0.3)
    table = {"few": [many, few], "many": [many, many], "score": [score, score]}
    assert list(without_tiny_counts(table, {"few", "many"})) == ["many", "score"]
