"""The compiled components and those by tensor operations: the same plane, from the same samples."""

from __future__ import annotations

import pytest
import torch
from shares import principal_components
from torch import Tensor

from filterwatch.detection import components
from filterwatch.detection.kernels import power_iteration


@pytest.fixture
def tensor_form(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let single precision on the CPU use what it uses on other devices."""
    monkeypatch.setattr(components, "is_compiled", lambda samples: False)
    return monkeypatch


def samples(n_samples: int, width: int, *, decay: float = 0.6) -> Tensor:
    """Return samples [3, N, D], float32, whose variances fall by ``decay`` squared."""
    generator = torch.Generator().manual_seed(0)
    rank = min(width, 30)
    scores = torch.randn(3, n_samples, rank, generator=generator) * decay ** torch.arange(rank)
    return scores @ torch.randn(3, rank, width, generator=generator) + 0.5


# Rows are taken four at a time, and the first rounds see a part of them: sizes around both.
@pytest.mark.parametrize("n_samples", [3, 4, 5, 33, 127, 128, 257, 600])
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 130])
def test_the_same_plane(tensor_form: pytest.MonkeyPatch, n_samples: int, width: int) -> None:
    whole = samples(n_samples, width)
    tensor_form.setattr(components, "LEAST_GAIN", {torch.float32: 1e-7})
    expected, expected_shares = principal_components(whole.clone())
    tensor_form.undo()
    tensor_form.setattr(power_iteration, "MOST_MISSED", 1e-7)
    points, shares = principal_components(whole.clone())
    torch.testing.assert_close(shares, expected_shares, rtol=0, atol=1e-5)
    scale = float(expected.abs().max())
    sign = (points * expected).sum(1, keepdim=True).sign()
    torch.testing.assert_close(sign * points, expected, rtol=0, atol=2e-3 * scale)


@pytest.mark.parametrize("factor", [1e-36, 1e-20, 1e20, 1e36])
def test_any_scale(factor: float) -> None:
    expected, shares = principal_components(samples(50, 20))
    points, scaled_shares = principal_components(factor * samples(50, 20))
    torch.testing.assert_close(points / factor, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scaled_shares, shares, rtol=0, atol=1e-5)


def test_numbers_below_the_normal_range_are_no_trouble() -> None:
    # Weights on their way to zero under weight decay pass through it.
    whole = torch.cat([1e-41 * samples(50, 20), samples(50, 20)])
    points, shares = principal_components(whole.clone())
    assert points.isfinite().all()
    assert shares.isfinite().all()
    torch.testing.assert_close(points[3:], principal_components(samples(50, 20))[0])


def test_a_problem_without_variance_is_left_out() -> None:
    whole = samples(50, 20)
    whole[1] = 0.7
    points, shares = principal_components(whole.clone())
    assert not points[1].any()
    assert not shares[1].any()
    alone, _ = principal_components(whole[[0, 2]].clone())
    assert torch.equal(points[[0, 2]], alone)


def test_the_number_of_threads_changes_nothing() -> None:
    whole = samples(60, 40).repeat(10, 1, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected, _ = principal_components(whole.clone())
        torch.set_num_threads(3)
        points, _ = principal_components(whole.clone())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(points, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu() -> None:
    whole = samples(300, 100)
    expected, _ = principal_components(whole.clone())
    points, _ = principal_components(whole.cuda())
    assert points.is_cuda
    scale = float(expected.abs().max())
    torch.testing.assert_close(points.cpu(), expected, rtol=0, atol=1e-2 * scale)


def exact(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the two leading components explain, [P], and their shares of it, [P, 2]."""
    centred = (samples - samples.mean(1, keepdim=True)).double()
    squares = torch.linalg.svdvals(centred).square()
    return squares.sum(1), squares[:, :2] / squares.sum(1, keepdim=True)


def flat_with(first: float, second: float, n_samples: int, width: int) -> Tensor:
    """Return samples [2, N, D] with two directions of these shares, and the rest all alike."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, n_samples, width, generator=generator).double()
    left, _, right = torch.linalg.svd(noise - noise.mean(1, keepdim=True), full_matrices=False)
    rank = n_samples - 1
    values = torch.full((rank,), (1 - first - second) / (rank - 2))
    values[0], values[1] = first, second
    return ((left[..., :rank] * values.sqrt()) @ right[:, :rank]).float()


@pytest.mark.parametrize("n_samples", [20, 64, 126])
@pytest.mark.parametrize(
    ("first", "second"),
    [(0.9, 0.001), (0.48, 0.009), (0.31, 0.012), (0.3, 0.2), (0.05, 0.04), (0.03, 0.02)],
)
def test_two_directions_above_a_flat_rest(first: float, second: float, n_samples: int) -> None:
    if second * n_samples < 1.2:
        second = 1.2 / n_samples  # above the rest, barely
    whole = flat_with(max(first, 1.1 * second), second, n_samples, 400)
    _, explained = principal_components(whole.clone())
    _, shares = exact(whole)
    assert (explained.sum(1) >= (1 - 1e-4) * shares.sum(1)).all()
    torch.testing.assert_close(explained, shares.to(explained), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("decay", [0.9, 0.97, 0.995])
@pytest.mark.parametrize("size", [(100, 30), (400, 200), (400, 600)])
def test_what_is_missed_is_within_the_tolerance(decay: float, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    n_samples, width = size
    whole = torch.randn(4, n_samples, width, generator=generator)
    whole = whole * decay ** torch.arange(width)
    _, shares = exact(whole)
    _, explained = principal_components(whole.clone())
    assert (explained.sum(1) >= (1 - 1e-4) * shares.sum(1)).all()
