"""A truncated factorisation keeps what two principal components need."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from filterwatch.detection.components import TruncatedFactors, principal_components


def samples(n_samples: int, width: int, *, decay: float = 0.8, offset: float = 2.0) -> Tensor:
    """Return samples [3, N, D] whose standard deviations fall by ``decay`` per direction."""
    generator = torch.Generator().manual_seed(0)
    rank = min(width, 60)
    scores = torch.randn(3, n_samples, rank, generator=generator, dtype=torch.float64)
    scores *= decay ** torch.arange(rank)
    directions = torch.randn(3, rank, width, generator=generator, dtype=torch.float64)
    return scores @ torch.linalg.qr(directions.mT)[0].mT + offset


def empty_factors(like: Tensor, rank: int) -> TruncatedFactors:
    """Return factors with room for all samples [C, N, D]; none of it holds a number yet."""
    n_problems, n_samples, width = like.shape
    basis = like.new_full((n_problems, rank, width), torch.nan)
    return TruncatedFactors(basis, like.new_full((n_problems, n_samples, rank), torch.nan))


def factorized(whole: Tensor, rank: int, batch_size: int) -> Tensor:
    factors = empty_factors(whole, rank)
    for part in whole.split(batch_size, dim=1):
        factors.add(part)
    return factors.scores


@pytest.mark.parametrize("batch_size", [1, 10, 32, 33, 200])
@pytest.mark.parametrize("n_samples", [1, 31, 200])
def test_distances_are_kept_where_the_rank_suffices(n_samples: int, batch_size: int) -> None:
    whole = samples(n_samples, 50)[:, :, :10]
    scores = factorized(whole, 16, batch_size)
    assert scores.shape[:2] == whole.shape[:2]
    assert scores.shape[2] <= 16
    torch.testing.assert_close(
        torch.cdist(scores, scores), torch.cdist(whole, whole), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("decay", [0.5, 0.8])
@pytest.mark.parametrize("batch_size", [16, 100])
def test_the_leading_components_survive(decay: float, batch_size: int) -> None:
    whole = samples(400, 300, decay=decay)
    points, _ = principal_components(factorized(whole, 16, batch_size).clone())
    for at in range(3):
        expected = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(whole[at].numpy()))
        sign = (points[at] * expected).sum(0).sign()
        scale = float(expected.abs().max())
        torch.testing.assert_close(sign * points[at], expected, rtol=0, atol=0.02 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_spectrum_loses_little_of_the_leading_variance(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(2, 300, 200, generator=generator, dtype=dtype)
    points, _ = principal_components(factorized(whole, 16, 32).clone())
    for at in range(2):
        best = PCA(2, svd_solver="full").fit(whole[at].double().numpy()).singular_values_
        captured = float(points[at].square().sum())
        # Nothing stands out here, so that nothing is worth finding.
        assert captured > 0.6 * float((best**2).sum())
        assert captured <= (1 + 1e-6) * float((best**2).sum())


def test_a_late_outlier_is_not_lost() -> None:
    whole = samples(300, 100)
    direction = torch.randn(3, 100, generator=torch.Generator().manual_seed(5)).double()
    whole[:, 290] += 50 * direction
    points, _ = principal_components(factorized(whole, 16, 32).clone())
    assert (points[:, :, 0].abs().argmax(1) == 290).all()


def test_a_large_offset_takes_one_direction_and_no_more() -> None:
    whole = samples(200, 80, decay=0.5, offset=0.0)
    near, _ = principal_components(factorized(whole, 16, 32).clone())
    far, _ = principal_components(factorized(whole + 1e3, 16, 32).clone())
    sign = (near * far).sum(1, keepdim=True).sign()
    torch.testing.assert_close(sign * far, near, rtol=0, atol=1e-3)


def test_silent_filters_stay_silent() -> None:
    whole = samples(100, 40)
    whole[1] = 0.0
    scores = factorized(whole, 8, 32)
    assert scores.isfinite().all()
    assert not scores[1].any()


def test_memory_does_not_grow_with_the_width() -> None:
    assert factorized(samples(100, 60), 4, 25).shape == (3, 100, 4)
