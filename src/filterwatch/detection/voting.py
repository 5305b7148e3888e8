"""Verdicts by vote: which filters are anomalous on most random parts of the probe.

A verdict of one clustering hangs on a few samples: on another 80 % of the same probe most flagged
filters are others. The share of random quarters of the probe on which a filter is flagged is
steadier, and a majority of them a verdict that lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from filterwatch.detection.cluster import cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters

# Share of the probe in one ballot. Halves cost twice as much and agree less.
BALLOT_SHARE = 0.25


class Votes(NamedTuple):
    """The outcome of a vote over random parts of the probe.

    Attributes:
        share: Share of the ballots that flag a filter, [C].
        isolated: Which samples [C, N] lie in a small cluster on most of the ballots that hold
            them.
    """

    share: Tensor
    isolated: Tensor

    @property
    def is_anomaly(self) -> Tensor:
        """Which filters a majority flags, [C]."""
        return self.share > 0.5


def ballot_size(n_samples: int, max_clusters: int) -> int:
    """Return the number of samples in a ballot: a quarter of the probe, or what the fits need."""
    return min(n_samples, max(round(BALLOT_SHARE * n_samples), 4 * max_clusters))


def ballots(votes: int, n_samples: int, size: int) -> Iterator[Tensor]:
    """Yield the samples of each ballot, the same ones at every call.

    A random order of the probe is dealt out in parts, then another one, so that every sample is in
    as many ballots as the next, or in one more, but for what a last part lacks. No seed changes
    them: that would change what a network is said to be like, and nothing else.

    Args:
        votes: Number of ballots.
        n_samples: Number of samples in the probe.
        size: Number of samples in a ballot.
    """
    generator = torch.Generator().manual_seed(0)
    for at in range(votes):
        part = at % (n_samples // size)
        if part == 0:
            order = torch.randperm(n_samples, generator=generator)
        yield order[part * size : (part + 1) * size]


def vote(
    points: Tensor,
    activation: Tensor,
    layer_sizes: Sequence[int],
    *,
    criteria: AnomalyCriteria,
    votes: int,
    max_clusters: int = 14,
) -> Votes:
    """Cluster and judge random parts of the probe.

    Lambda as a fraction is taken of the part; as a count it shrinks with the part.

    Args:
        points: The filters' points, layer after layer, [C, N, 2].
        activation: Mean absolute activation of each filter on the whole probe, [C].
        layer_sizes: Number of filters of each layer; they add up to C.
        criteria: The thresholds.
        votes: Number of ballots.
        max_clusters: Largest number of clusters.
    """
    n_filters, n_samples, _ = points.shape
    size = ballot_size(n_samples, max_clusters)
    limit = criteria.small_cluster_limit(n_samples)
    limit = max(1, round(limit * size / n_samples))
    flagged = torch.zeros(n_filters, dtype=torch.float64, device=points.device)
    times_isolated = torch.zeros(n_filters, n_samples, dtype=torch.int16, device=points.device)
    times_drawn = torch.zeros(n_samples, dtype=torch.int16, device=points.device)
    for ballot in ballots(votes, n_samples, size):
        drawn = ballot.to(points.device)
        fit = cluster_points(points[:, drawn], max_clusters=max_clusters)
        verdicts = [
            flag_anomalies(sizes, ch_index, active, limit=limit, criteria=criteria)
            for sizes, ch_index, active in zip(
                fit.cluster_sizes.split(list(layer_sizes)),
                fit.ch_index.split(list(layer_sizes)),
                activation.split(list(layer_sizes)),
                strict=True,
            )
        ]
        flagged += torch.cat(verdicts)
        small = small_clusters(fit.cluster_sizes, limit)
        times_isolated[:, drawn] += small.gather(1, fit.labels.clamp(min=0)).short()
        times_drawn[drawn] += 1
    return Votes(flagged / votes, 2 * times_isolated > times_drawn)
