"""The three criteria that make a filter an anomaly filter (paper, sections 3.4 and 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Table 1 of the paper: lambda, alpha, beta, theta. A dash there is None here.
_TABLE_1: dict[int, tuple[int, float | None, float | None, float | None]] = {
    1: (100, 0.2, 1.0, 0.2),
    2: (5, None, None, None),
    3: (50, 0.2, 1.2, 0.5),
}

# Scatter within clusters below this share of the total is that of points that coincide.
_COINCIDING = 1e-6


@dataclass(frozen=True)
class AnomalyCriteria:
    """Thresholds of the three criteria; a filter is an anomaly filter when all three hold.

    ``None`` for any of the last three switches that criterion off, so that it always holds; 0 is a
    legal ratio.

    Args:
        small_cluster_size: The paper's lambda. A cluster with at most this many points is small.
            An ``int`` is a number of samples, a ``float`` in (0, 1) a fraction of the probe,
            rounded down but never below one sample.
        small_cluster_ratio: The paper's alpha. Criterion 1 (unbalanced): the filter's small
            clusters number more than this times its non-empty clusters.
        ch_ratio: The paper's beta. Criterion 2 (high Calinski-Harabasz index): the filter's index
            exceeds this times the mean index of its layer.
        activation_ratio: The paper's theta. Criterion 3 (active): the filter's mean absolute
            activation is at least this times the mean of its layer.

    Raises:
        TypeError: If a threshold is not a number.
        ValueError: If a threshold is outside its range.
    """

    small_cluster_size: int | float = 0.01
    small_cluster_ratio: float | None = 0.2
    ch_ratio: float | None = 1.0
    activation_ratio: float | None = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            optional = field.name != "small_cluster_size"
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                expected = "a number or None" if optional else "an int or a float"
                raise TypeError(f"{field.name} must be {expected}, got {value!r}")
            if optional and not (value >= 0 and math.isfinite(value)):
                raise ValueError(
                    f"{field.name} must be a finite number of at least 0, or None to switch the "
                    f"criterion off, got {value!r}"
                )
        if self.small_cluster_ratio is not None and self.small_cluster_ratio >= 1:
            raise ValueError(
                f"small_cluster_ratio is a share of a filter's clusters, got "
                f"{self.small_cluster_ratio!r}: from 1 on nothing is ever flagged; use None to "
                "switch the criterion off"
            )
        size = self.small_cluster_size
        if isinstance(size, int) and size < 1:
            raise ValueError(
                f"small_cluster_size as a count must be at least 1, got {size!r}: "
                "use 1 for single outliers, or a fraction of the probe such as 0.01"
            )
        if isinstance(size, float) and not 0 < size < 1:
            raise ValueError(
                f"small_cluster_size as a float is a fraction of the probe and must lie in (0, 1), "
                f"got {size!r}: write a number of samples as an int"
            )

    @classmethod
    def paper(cls, experiment: int) -> AnomalyCriteria:
        """Return row 1, 2 or 3 of the paper's Table 1; ``ValueError`` if there is no such row."""
        if experiment not in _TABLE_1:
            raise ValueError(f"Table 1 has the rows 1, 2 and 3, got {experiment!r}")
        return cls(*_TABLE_1[experiment])

    def small_cluster_limit(self, n_samples: int) -> int:
        """Return lambda as a number of samples: the largest size of a small cluster.

        Raises:
            ValueError: If every cluster of such a probe would count as small.
        """
        size = self.small_cluster_size
        # The nudge keeps 0.29 * 100 at 29: binary fractions fall just short of it.
        limit = size if isinstance(size, int) else max(1, math.floor(size * n_samples + 1e-9))
        if limit >= n_samples:
            raise ValueError(
                f"small_cluster_size={size!r} makes every cluster of a probe of {n_samples} "
                "samples small: lower it, or use a larger probe"
            )
        return limit


def check_criteria(criteria: object, *, none_means: str) -> None:
    """Raise ``TypeError`` unless ``criteria`` is None or an `AnomalyCriteria`."""
    if criteria is not None and not isinstance(criteria, AnomalyCriteria):
        raise TypeError(
            f"criteria={criteria!r} is no AnomalyCriteria: pass AnomalyCriteria(...), or None for "
            f"{none_means}"
        )


def small_clusters(cluster_sizes: Tensor, limit: int) -> Tensor:
    """Mark the non-empty clusters of at most ``limit`` samples, by the sizes of all [..., K]."""
    return (cluster_sizes > 0) & (cluster_sizes <= limit)


def mean_index(ch_index: Tensor, cluster_sizes: Tensor) -> Tensor:
    """Return the mean Calinski-Harabasz index of a layer, which criterion 2 compares with.

    Indices are [C], cluster sizes [C, K] with 0 where there is no cluster. Left out are filters
    without an index (NaN), and nearly dead ones (`nearly_dead`; a filter that answers to a single
    sample, for instance): their index is as large as rounding lets it be, and would leave no other
    filter of the layer above the mean.
    Where every index is like that, their mean is returned.
    """
    sound = ~nearly_dead(ch_index, cluster_sizes) & ~ch_index.isnan()
    return (ch_index[sound] if bool(sound.any()) else ch_index).nanmean()


def nearly_dead(ch_index: Tensor, cluster_sizes: Tensor) -> Tensor:
    """Mark filters whose points coincide within clusters, but for a millionth of the scatter.

    Arguments are as in `mean_index`; a filter without an index is dead, and not among them.
    """
    clusters = (cluster_sizes > 0).sum(-1)
    # Equation 4, solved for the share of the scatter that lies within clusters.
    between = ch_index * (clusters - 1) / (cluster_sizes.sum(-1) - clusters)
    return ~(1 / (1 + between) > _COINCIDING) & ~ch_index.isnan()


def flag_anomalies(
    cluster_sizes: Tensor,
    ch_index: Tensor,
    activation: Tensor,
    *,
    limit: int,
    criteria: AnomalyCriteria,
) -> Tensor:
    """Decide which filters of one layer are anomaly filters (paper, section 4).

    Args:
        cluster_sizes: Number of samples in each cluster, [C, K]; 0 where there is no cluster.
        ch_index: Calinski-Harabasz index of each filter, [C]; NaN for a filter without one (a dead
            filter, for instance), which is never flagged and enters neither layer mean.
        activation: Mean absolute activation of each filter, [C].
        limit: The largest size of a small cluster, in samples.
        criteria: The thresholds.

    Returns:
        bool [C].
    """
    defined = ~torch.isnan(ch_index)
    flagged = defined.clone()
    if not bool(defined.any()):
        return flagged
    if criteria.small_cluster_ratio is not None:
        small = small_clusters(cluster_sizes, limit).sum(-1)
        # In double precision, as the other two: whole numbers times a float would be in single.
        clusters = (cluster_sizes > 0).sum(-1).double()
        flagged &= small > criteria.small_cluster_ratio * clusters
    if criteria.ch_ratio is not None:
        flagged &= ch_index > criteria.ch_ratio * mean_index(ch_index, cluster_sizes)
    if criteria.activation_ratio is not None:
        flagged &= activation >= criteria.activation_ratio * activation[defined].mean()
    return flagged
