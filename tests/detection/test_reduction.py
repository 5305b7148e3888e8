"""A layer's maps become points and a mean activation, however the batches fall."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from filterwatch.detection.reduce import LayerReduction, Reduced

N_SAMPLES = 60


def maps(*, n_filters: int = 5, side: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return maps [60, C, h, w] whose variance falls quickly from direction to direction."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(N_SAMPLES, n_filters, 5, generator=generator, dtype=torch.float64)
    scores *= 0.5 ** torch.arange(5)
    directions = torch.randn(n_filters, 5, side * side, generator=generator, dtype=torch.float64)
    flat = torch.einsum("nck,ckd->ncd", scores, directions / side) - 0.3
    return flat.unflatten(2, (side, side)).to(dtype)


def reduction(**options: Any) -> LayerReduction:
    defaults = {"n_samples": N_SAMPLES, "pca": "filter", "rank": None, "group_bytes": 2**24}
    return LayerReduction(**{**defaults, **options})


def reduced(batches: Any, **options: Any) -> Reduced:
    into = reduction(**options)
    for batch in batches:
        into.add(batch)
    result = into.finish()
    assert isinstance(result, Reduced)
    return result


def assert_same_points(points: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare points [C, N, 2] up to the sign of each component."""
    sign = (points * expected).sum(1, keepdim=True).sign()
    scale = float(expected.abs().max())
    torch.testing.assert_close(sign * points, expected, rtol=0, atol=tolerance * scale)


def test_each_filter_by_its_own_components() -> None:
    layer = maps()
    result = reduced([layer])
    for channel in range(5):
        rows = layer[:, channel].flatten(1).numpy()
        expected = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(rows))
        assert_same_points(result.points[channel : channel + 1], expected.unsqueeze(0), 1e-6)


def test_the_layer_by_common_components() -> None:
    layer = maps()
    result = reduced([layer], pca="layer")
    rows = layer.transpose(0, 1).flatten(0, 1).flatten(1).numpy()
    expected = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(rows))
    assert_same_points(
        result.points.flatten(0, 1).unsqueeze(0), expected.unsqueeze(0), tolerance=1e-6
    )
    assert result.points.shape == (5, N_SAMPLES, 2)


def test_the_activation_is_the_mean_absolute_value() -> None:
    layer = maps()
    expected = layer.abs().mean((0, 2, 3))
    for batches in ([layer], layer.split(7)):
        for options in ({}, {"pca": "layer"}, {"rank": 8}):
            torch.testing.assert_close(reduced(batches, **options).activation, expected)


@pytest.mark.parametrize("pca", ["filter", "layer"])
@pytest.mark.parametrize("rank", [None, 30])
@pytest.mark.parametrize("sizes", [[60], [30, 30], [7] * 8 + [4], [1] * 60, [59, 1]])
def test_however_the_batches_fall(pca: str, rank: int | None, sizes: list[int]) -> None:
    layer = maps()
    expected = reduced([layer], pca=pca)
    result = reduced(layer.split(sizes), pca=pca, rank=rank)
    # A factorisation keeps all directions that there are: 5 a filter and the mean, 26 a layer.
    assert_same_points(result.points, expected.points, 1e-6)


@pytest.mark.parametrize("pca", ["filter", "layer"])
def test_a_factorization_of_few_directions_keeps_most_of_the_variance(pca: str) -> None:
    layer = maps()
    best = reduced([layer], pca=pca).points.square().sum()
    kept = reduced(layer.split(16), pca=pca, rank=8).points.square().sum()
    assert 0.95 * best < kept < (1 + 1e-9) * best


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-3), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)],
)
def test_lower_precisions_are_computed_with_in_single(dtype: torch.dtype, tolerance: float) -> None:
    expected = reduced([maps()])
    for batches in ([maps(dtype=dtype)], maps(dtype=dtype).split(16)):
        result = reduced(batches)
        assert_same_points(result.points, expected.points, tolerance)
        torch.testing.assert_close(result.activation, expected.activation, rtol=tolerance, atol=0)


@pytest.mark.parametrize("group_bytes", [1, 60 * 36 * 4, 2 * 60 * 36 * 4 + 5, 2**30])
def test_the_size_of_groups_changes_nothing(group_bytes: int) -> None:
    layer = maps()
    result = reduced([layer], group_bytes=group_bytes)
    assert_same_points(result.points, reduced([layer]).points, 1e-9)


@pytest.mark.parametrize("rank", [None, 8])
def test_maps_are_copied_where_they_are_kept_and_never_written_to(rank: int | None) -> None:
    layer = maps()
    expected = reduced([layer]).points
    into = reduction(rank=rank)
    for batch in layer.split(20):
        overwritten = batch.clone()
        into.add(overwritten)
        assert torch.equal(overwritten, batch)
        overwritten.relu_()  # as an in-place activation would
    assert_same_points(into.finish().points, expected, 1e-6)  # type: ignore[union-attr]
    whole = layer.clone()
    reduced([whole])
    assert torch.equal(whole, layer)


def test_maps_with_one_element() -> None:
    result = reduced([maps()[:, :, :1, :1]])
    assert not result.points[..., 1].any()
    assert result.points[..., 0].std(1).min() > 0


def test_dead_filters_are_at_the_origin_with_their_activation() -> None:
    layer = maps()
    layer[:, 1] = 0.0
    layer[:, 3] = -2.0
    for batches in ([layer], layer.split(16)):
        for dtype in (torch.float64, torch.float32):
            result = reduced([batch.to(dtype) for batch in batches])
            assert not result.points[[1, 3]].any()
            assert result.points[[0, 2, 4]].any(2).any(1).all()
            assert result.activation[[1, 3]].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 35, 59])
@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize("batch_size", [20, 60])
def test_a_number_that_is_none_skips_the_layer(
    value: float, at: int, rank: int | None, batch_size: int
) -> None:
    layer = maps()
    layer[at, 2, 3, 3] = value
    into = reduction(rank=rank)
    for batch in layer.split(batch_size):
        into.add(batch)
    reason = into.finish()
    assert reason == "NaN or infinity in the maps of 1 of its 5 filters"


def test_large_numbers_are_no_infinity() -> None:
    layer = (1e37 * maps()).float()
    result = reduced([layer])
    torch.testing.assert_close(
        result.activation, layer.double().abs().mean((0, 2, 3)), rtol=1e-6, atol=0
    )
    assert_same_points(result.points, 1e37 * reduced([maps()]).points, 1e-3)


def test_maps_that_change_their_size_skip_the_layer() -> None:
    into = reduction()
    into.add(maps()[:30])
    into.add(maps(side=5)[30:])
    reason = into.finish()
    assert isinstance(reason, str)
    assert "differ in shape between batches: give images of one size" in reason


@pytest.mark.parametrize("sizes", [[30], [30, 40], [60, 60], []])
def test_another_number_of_maps_than_samples_skips_the_layer(sizes: list[int]) -> None:
    into = reduction()
    for size in sizes:
        into.add(maps().repeat(2, 1, 1, 1)[:size])
    assert into.finish() == f"it put out {sum(sizes)} maps a filter for 60 samples"


def test_memory_that_nobody_shares_is_freed_with_the_maps() -> None:
    half = torch.rand(10, 64, 32, 32)
    for traced in (False, True):  # compiled code takes memory of its own, the first time
        reduction = LayerReduction(n_samples=20, pca="filter", rank=None, group_bytes=2**20)
        if traced:
            tracemalloc.start()
        reduction.add(half)
        kept, _ = tracemalloc.get_traced_memory()
        reduction.add(half)
        assert isinstance(reduction.finish(), Reduced)
        left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    whole = 2 * half.numel() * half.element_size()
    assert kept > whole
    assert left < whole / 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("options", [{}, {"pca": "layer"}, {"rank": 30}])
def test_what_remains_of_maps_on_a_gpu_is_on_the_host(options: dict[str, Any]) -> None:
    layer = maps()
    expected = reduced(layer.split(20), **options)
    result = reduced(layer.cuda().split(20), **options)
    assert result.points.device.type == result.activation.device.type == "cpu"
    assert_same_points(result.points, expected.points, 1e-6)
    torch.testing.assert_close(result.activation, expected.activation)


def test_maps_on_a_device_without_double_precision_are_reduced_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # This one has no values: bringing them to the host is what fails, and says so.
    monkeypatch.setattr("filterwatch.detection.reduce._WITHOUT_DOUBLE", {"meta"})
    with pytest.raises(NotImplementedError, match="no data"):
        reduced([maps().to("meta")])
