"""Principal components against scikit-learn's, up to the sign of a component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from shares import principal_components
from sklearn.decomposition import PCA
from torch import Tensor

Reference = Callable[[Any], tuple[Any, Any]]


def scikit_learn(samples: Any) -> tuple[Any, Any]:
    """Return the leading scores [N, 1 or 2] of samples [N, D], and the explained shares."""
    pca = PCA(n_components=min(2, *samples.shape), svd_solver="full")
    return pca.fit_transform(samples), pca.explained_variance_ratio_


def correlated(n_samples: int, width: int, *, decay: float = 0.7, seed: int = 0) -> Tensor:
    """Return samples [3, N, D] whose variances fall by ``decay`` squared per direction."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(width, 40)
    scores = torch.randn(3, n_samples, rank, generator=generator, dtype=torch.float64)
    scales = decay ** torch.arange(rank, dtype=torch.float64)
    directions = torch.linalg.qr(torch.randn(3, width, rank, generator=generator).double())[0]
    return (scores * scales) @ directions.mT + 3.0


def heavy_tailed(n_samples: int, width: int) -> Tensor:
    """Return samples [3, N, D] in which a few lie far beyond the others."""
    samples = correlated(n_samples, width)
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn(3, n_samples, 1, generator=generator).double().abs().clamp(min=1e-3)
    return samples / factor


def assert_matches(samples: Tensor, reference: Reference, tolerance: float) -> None:
    """Compare with the reference, problem by problem."""
    points, explained = principal_components(samples.clone())
    assert points.dtype == explained.dtype == torch.float64
    assert points.shape == (*samples.shape[:2], 2)
    for problem, problem_points, shares in zip(samples, points, explained, strict=True):
        expected, expected_shares = reference(problem.double().numpy())
        scale = np.abs(expected).max()
        for at in range(2):
            if at == expected.shape[1]:
                assert not problem_points[:, at].any()
                assert shares[at] == 0
                continue
            column = expected[:, at] * np.sign(expected[:, at] @ problem_points[:, at].numpy())
            np.testing.assert_allclose(
                problem_points[:, at].numpy(), column, rtol=0, atol=tolerance * scale
            )
            np.testing.assert_allclose(shares[at], expected_shares[at], rtol=0, atol=tolerance)


@pytest.mark.parametrize("reference", [scikit_learn])
@pytest.mark.parametrize(
    ("n_samples", "width"),
    [
        (100, 2),
        (100, 9),  # fewer than the iterated block
        (300, 25),  # D < N, by way of the covariance
        (300, 36),
        (40, 900),  # N < D
        (10, 64),  # N smaller than the block
        (700, 600),  # too wide for the covariance
    ],
)
@pytest.mark.parametrize("generate", [correlated, heavy_tailed])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-3)])
def test_parity(
    reference: Reference,
    generate: Callable[[int, int], Tensor],
    n_samples: int,
    width: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    assert_matches(generate(n_samples, width).to(dtype), reference, tolerance)


@pytest.mark.parametrize("reference", [scikit_learn])
def test_parity_on_maps_of_one_element(reference: Reference) -> None:
    assert_matches(correlated(50, 1), reference, 1e-12)


@pytest.mark.parametrize("reference", [scikit_learn])
@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
def test_parity_at_any_scale(reference: Reference, factor: float) -> None:
    assert_matches(factor * correlated(60, 30), reference, 1e-6)
    assert_matches((factor * correlated(60, 30)).float(), reference, 2e-3)


@pytest.mark.parametrize("reference", [scikit_learn])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_spectrum_loses_hardly_any_variance(
    reference: Reference, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4, 200, 300, generator=generator, dtype=dtype)
    _, explained = principal_components(samples.clone())
    for problem, shares in zip(samples, explained, strict=True):
        _, expected = reference(problem.double().numpy())
        assert float(shares.sum()) == pytest.approx(expected.sum(), rel=1e-3)


@pytest.mark.parametrize("reference", [scikit_learn])
def test_a_faint_second_component_beside_a_far_outlier(reference: Reference) -> None:
    samples = correlated(500, 100)
    samples[:, 0] += 1e3
    assert_matches(samples, reference, 1e-6)
    _, explained = principal_components(samples.float())
    for problem, shares in zip(samples, explained, strict=True):
        # float32 iterates until 1e-5 of the variance is left to gain.
        np.testing.assert_allclose(shares, reference(problem.numpy())[1], rtol=0, atol=1e-5)


def test_a_large_offset_is_no_variance() -> None:
    samples = correlated(200, 30)
    points, _ = principal_components(samples.clone())
    shifted, _ = principal_components(samples + 1e6)
    torch.testing.assert_close(shifted, points, rtol=0, atol=1e-5)


def test_the_coordinate_of_largest_magnitude_is_positive() -> None:
    samples = correlated(100, 20)
    points, _ = principal_components(samples.clone())
    mirrored, _ = principal_components(-samples)
    for axis in range(2):
        largest = points[..., axis].abs().argmax(1, keepdim=True)
        assert (points[..., axis].gather(1, largest) > 0).all()
    torch.testing.assert_close(mirrored, points)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e20])
def test_constant_maps_become_the_origin(value: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    # A map with a picture in it, the same for every sample; and one that varies beside it.
    picture = value * torch.rand(1, 1, 30, generator=generator, dtype=dtype).expand(1, 80, 30)
    samples = torch.cat([picture, torch.randn(1, 80, 30, generator=generator, dtype=dtype)])
    points, explained = principal_components(samples.clone())
    assert not points[0].any()
    assert not explained[0].any()
    assert float(explained[1].sum()) > 0
    assert points.isfinite().all()


def test_maps_that_vary_along_a_line_have_no_second_coordinate() -> None:
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(1, 60, 1, generator=generator, dtype=torch.float64)
    direction = torch.randn(1, 1, 40, generator=generator, dtype=torch.float64)
    points, explained = principal_components(along * direction)
    assert float(explained[0, 0]) == pytest.approx(1.0)
    assert points[..., 1].abs().max() < 1e-6 * points[..., 0].abs().max()


def test_a_problem_does_not_depend_on_the_others() -> None:
    samples = torch.cat([correlated(80, 50), 1e5 * heavy_tailed(80, 50)])
    together, _ = principal_components(samples.clone())
    for at in range(len(samples)):
        alone, _ = principal_components(samples[at : at + 1].clone())
        scale = float(together[at].abs().max())
        torch.testing.assert_close(alone[0], together[at], rtol=0, atol=1e-6 * scale)


def test_the_same_samples_give_the_same_bits() -> None:
    samples = correlated(100, 700).float()
    first, second = (principal_components(samples.clone())[0] for _ in range(2))
    assert torch.equal(first, second)
