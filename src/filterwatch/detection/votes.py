"""Verdicts by vote: which filters are anomalous on most random parts of the probe.

The verdict of one clustering depends on a few samples: on another 80 % of the same probe most
flagged filters are different ones. The share of random quarters of the probe on which a filter is
flagged is steadier, and a majority of them a verdict that lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from filterwatch.detection.cluster import cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters
from filterwatch.detection.reduce import Reduced

# Share of the probe in one ballot. Halves cost twice as much and agree less.
BALLOT_SHARE = 0.25


class Votes(NamedTuple):
    """By layer: the share of ballots that flag each filter, and the samples that it isolates.

    Attributes:
        share: float64 [C].
        isolated: bool [C, N], which samples lie in a small cluster on most ballots that hold them.
    """

    share: dict[str, Tensor]
    isolated: dict[str, Tensor]


def ballot_size(n_samples: int, max_clusters: int) -> int:
    """Return the number of samples in a ballot: a quarter of the probe, or what the fits need."""
    return min(n_samples, max(round(BALLOT_SHARE * n_samples), 4 * max_clusters))


def ballots(votes: int, n_samples: int, size: int) -> Iterator[Tensor]:
    """Yield the samples of each ballot, the same ones at every call.

    A random order of the probe is dealt out in parts, then another one, so that every sample is in
    as many ballots as the next, or in one more, but for what a last part lacks. There is no
    seed: another one would change the verdicts on a network, and nothing else.
    """
    generator = torch.Generator().manual_seed(0)
    for at in range(votes):
        part = at % (n_samples // size)
        if part == 0:
            order = torch.randperm(n_samples, generator=generator)
        yield order[part * size : (part + 1) * size]


def vote(
    reduced: Mapping[str, Reduced],
    *,
    criteria: AnomalyCriteria,
    votes: int,
    max_clusters: int = 14,
) -> Votes:
    """Cluster and judge random parts of the probe, by its points as `Reduction` returns them.

    The points of a layer are [C, N, 2] and its activations [C]. Lambda as a fraction is taken of
    the part; as a count it shrinks with the part.
    """
    if not reduced:
        return Votes({}, {})
    lengths = [len(layer.points) for layer in reduced.values()]
    points = torch.cat([layer.points for layer in reduced.values()])
    n_filters, n_samples, _ = points.shape
    size = ballot_size(n_samples, max_clusters)
    limit = max(1, round(criteria.small_cluster_limit(n_samples) * size / n_samples))
    flagged = torch.zeros(n_filters, dtype=torch.float64)
    times_isolated = torch.zeros(n_filters, n_samples, dtype=torch.int16)
    times_drawn = torch.zeros(n_samples, dtype=torch.int16)
    for drawn in ballots(votes, n_samples, size):
        fit = cluster_points(points[:, drawn], max_clusters=max_clusters)
        flagged += torch.cat(
            [
                flag_anomalies(
                    of_layer.cluster_sizes,
                    of_layer.ch_index,
                    layer.activation,
                    limit=limit,
                    criteria=criteria,
                )
                for of_layer, layer in zip(fit.split(lengths), reduced.values(), strict=True)
            ]
        )
        small = small_clusters(fit.cluster_sizes, limit)
        times_isolated[:, drawn] += small.gather(1, fit.labels.clamp(min=0)).short()
        times_drawn[drawn] += 1
    share, isolated = flagged / votes, 2 * times_isolated > times_drawn
    return Votes(
        dict(zip(reduced, share.split(lengths), strict=True)),
        dict(zip(reduced, isolated.split(lengths), strict=True)),
    )
