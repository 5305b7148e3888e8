"""Votes of random parts of the probe: who is flagged, which samples are isolated, what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from clouds import separated
from torch import Tensor

from filterwatch.detection import AnomalyCriteria, Reduced, vote
from filterwatch.detection.votes import ballot_size, ballots

UNEVEN = [160, 160, 20, 20]
EVEN = [90, 90, 90, 90]
N_SAMPLES = sum(UNEVEN)
LIMIT = 44  # a cluster of 20 has 5 of 90 samples in a ballot, hardly ever more than 11


def points() -> tuple[Tensor, Tensor]:
    """Return points of an uneven filter, three even and looser ones, and a dead one; the groups."""
    uneven, group = separated(UNEVEN, seed=1, spread=0.02)
    even, _ = separated(EVEN, seed=2, spread=0.2, n_problems=3)
    return torch.cat([uneven, even, torch.zeros(1, N_SAMPLES, 2)]), group


def voted(
    activation: Sequence[float] = (1, 1, 1, 1, 1), lengths: Sequence[int] = (5,), **options: Any
) -> tuple[Tensor, Tensor]:
    """Return the share of votes and the isolated samples, of layers of so many filters."""
    defaults: dict[str, Any] = {
        "criteria": AnomalyCriteria(small_cluster_size=LIMIT), "votes": 9, "max_clusters": 4,
    }  # fmt: skip
    parts = zip(
        points()[0].split(list(lengths)),
        torch.tensor(activation, dtype=torch.float64).split(list(lengths)),
        strict=True,
    )
    reduced = {str(at): Reduced(*part) for at, part in enumerate(parts)}
    votes = vote(reduced, **{**defaults, **options})
    assert list(votes.share) == list(votes.isolated) == list(reduced)
    return torch.cat(list(votes.share.values())), torch.cat(list(votes.isolated.values()))


def test_the_planted_filter_wins_every_vote_and_no_other_wins_one() -> None:
    share, _ = voted()
    assert share.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_isolated_are_the_samples_of_the_small_clusters_that_were_drawn() -> None:
    _, isolated = voted(votes=20)
    group = points()[1]
    assert torch.equal(isolated[0], group >= 2)  # 20 quarters leave hardly a sample out
    assert not isolated[1:].any()
    one = voted(votes=1)[1][0]
    assert 0 < int(one.sum()) < int((group >= 2).sum())
    assert not one[group < 2].any()


def test_a_fraction_as_lambda_means_the_same_as_the_count_that_it_makes() -> None:
    fraction = voted(criteria=AnomalyCriteria(small_cluster_size=LIMIT / N_SAMPLES))
    assert torch.equal(fraction[0], voted()[0])


def test_layers_are_judged_apart() -> None:
    # Alone in its layer a filter is its own mean: its index does not exceed it.
    share, _ = voted(lengths=(1, 4), votes=3)
    assert share[0] == 0.0


def test_an_inactive_filter_wins_no_vote() -> None:
    share, _ = voted(activation=(0.01, 1, 1, 1, 1), votes=3)
    assert share[0] == 0.0


def test_every_call_takes_the_same_ballots_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    first, second = voted(votes=3), voted(votes=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], voted(votes=2)[1])


@pytest.mark.parametrize(
    ("votes", "n_samples", "size"), [(16, 1000, 250), (3, 83, 21), (4, 40, 40)]
)
def test_ballots_take_every_sample_as_often(votes: int, n_samples: int, size: int) -> None:
    drawn = list(ballots(votes, n_samples, size))
    assert [len(set(ballot.tolist())) for ballot in drawn] == [size] * votes
    times = torch.cat(drawn).bincount(minlength=n_samples)
    assert times.max() - times.min() <= 1
    assert times.sum() == votes * size


def test_ballots_of_different_rounds_differ() -> None:
    first, *_, fifth = ballots(5, 1000, 250)
    assert 30 < len(set(first.tolist()) & set(fifth.tolist())) < 100  # 62.5 by chance


@pytest.mark.parametrize(
    ("n_samples", "max_clusters", "size"),
    [(1000, 14, 250), (100, 14, 56), (40, 14, 40), (83, 5, 21), (10, 2, 8)],
)
def test_a_ballot_is_a_quarter_or_what_the_fits_need(
    n_samples: int, max_clusters: int, size: int
) -> None:
    assert ballot_size(n_samples, max_clusters) == size
