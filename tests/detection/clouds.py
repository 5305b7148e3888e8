"""Points in the plane whose clusters are known, for tests of the engine and of what it feeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from filterwatch.detection import Clusterings


def separated(
    sizes: Sequence[int], *, seed: int = 0, spread: float = 0.05, n_problems: int = 1
) -> tuple[Tensor, Tensor]:
    """Return points [P, N, 2] in tight groups of the given sizes, and the groups [N].

    Groups lie on a jittered circle of radius 2, at least 0.9 apart for up to 10 of them: of all
    clusterings with as many clusters as groups, the groups are the best by far. (More clusters may
    have a higher index yet: it hardly falls when a round group is split.)
    """
    generator = torch.Generator().manual_seed(seed)
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    jitter = 0.1 * torch.rand(n_problems, len(sizes), generator=generator, dtype=torch.float64)
    angle = 2 * torch.pi * (torch.arange(len(sizes)) / len(sizes) + jitter / len(sizes))
    radius = 2 + jitter.flip(1)
    centers = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    noise = torch.randn(n_problems, len(group), 2, generator=generator, dtype=torch.float64)
    return centers[:, group] + spread * noise.clamp(-2.5, 2.5), group


def noise(n_problems: int, n_samples: int, *, seed: int = 0) -> Tensor:
    """Return points [P, N, 2] with neither groups nor a best number of them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_problems, n_samples, 2, generator=generator, dtype=torch.float64)


def same_partition(labels: Tensor, others: Tensor) -> bool:
    """Return whether two clusterings [N] put the same points together."""
    pairs = {(int(one), int(other)) for one, other in zip(labels, others, strict=True)}
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def assert_sensible(found: Clusterings, points: Tensor, max_clusters: int) -> None:
    """Check what holds for any finite points."""
    n_filters, n_samples, _ = points.shape
    assert found.labels.shape == (n_filters, n_samples)
    assert found.cluster_sizes.shape == (n_filters, max_clusters)
    assert found.log_likelihood.shape == (n_filters, max_clusters - 1)
    dead = found.n_clusters == 0
    assert (found.labels[dead] == -1).all()
    assert (found.cluster_sizes[dead] == 0).all()
    assert found.ch_index[dead].isnan().all()
    assert found.log_likelihood[dead].isnan().all()
    assert found.log_likelihood[~dead].isfinite().all()
    assert not found.ch_index.isinf().any()
    assert not (found.ch_index < 0).any()
    for labels, sizes, n_clusters in zip(
        found.labels[~dead], found.cluster_sizes[~dead], found.n_clusters[~dead], strict=True
    ):
        # The largest cluster is number 0, and no number up to the count is left out.
        assert labels.bincount(minlength=max_clusters).tolist() == sizes.tolist()
        assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)
        assert int(sizes.sum()) == n_samples
        assert int(n_clusters) == int((sizes > 0).sum())
        assert n_clusters >= 1
