"""A layer's maps in a few numbers, by hand and in every form that maps come in."""

from __future__ import annotations

import pytest
import torch

from filterwatch.memorization import BatchFeatures, features_of, joined

MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-4.0, 0.0], [0.0, 0.0]]]])


def test_means_then_maxima_of_maps() -> None:
    assert features_of(MAPS).tolist() == [[3.0, -1.0, 6.0, 0.0]]


def test_one_value_a_map_and_units_are_taken_as_they_are() -> None:
    values = [[1.0, -2.0, 3.0]]
    for given in (torch.tensor(values), torch.tensor(values)[:, :, None, None]):
        found = features_of(given)
        given.zero_()  # as an in-place operation may
        assert found.tolist() == values


def test_channels_last_maps_have_the_same_features() -> None:
    maps = torch.randn(3, 5, 7, 7)
    torch.testing.assert_close(
        features_of(maps.to(memory_format=torch.channels_last)), features_of(maps)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    maps = torch.full((1, 1, 300, 300), 1.5, dtype=dtype)  # whose sum float16 cannot hold
    found = features_of(maps)
    assert found.dtype == torch.float32
    assert found.tolist() == [[1.5, 1.5]]
    assert features_of(maps[:, :, 0, 0]).dtype == torch.float32


def test_nan_is_kept() -> None:
    maps = MAPS.clone()
    maps[0, 0, 0, 0] = torch.nan
    assert features_of(maps).isnan().tolist() == [[True, False, True, False]]


def of(**layers: torch.Tensor) -> BatchFeatures:
    return BatchFeatures(layers, torch.zeros(2, 3), torch.tensor([0, 1]))


def test_batches_are_joined() -> None:
    whole = joined([of(a=torch.zeros(2, 4)), of(a=torch.ones(2, 4))])
    assert whole.layers["a"].sum(1).tolist() == [0, 0, 4, 4]
    assert whole.labels is not None
    assert whole.labels.tolist() == [0, 1, 0, 1]
    assert whole.logits is not None
    assert len(whole.logits) == 4


def test_what_one_batch_lacks_or_has_otherwise_is_left_out() -> None:
    first = of(a=torch.zeros(2, 4), b=torch.zeros(2, 4), c=torch.zeros(2, 4))
    second = of(b=torch.zeros(2, 6), c=torch.zeros(2, 4))
    assert list(joined([first, second]).layers) == ["c"]
    assert joined([first, BatchFeatures({}, None, None)]).labels is None
    assert joined([]).layers == {}
