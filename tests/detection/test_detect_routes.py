"""The same verdicts by every route: batches, memory, forms of probe, precision, order, unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import (
    ANOMALY,
    LAYERS,
    N_FILTERS,
    N_SAMPLES,
    OUTLIERS,
    assert_same_verdicts,
    bank,
    detect,
    flagged,
    images,
)
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset


@pytest.mark.parametrize("batch_size", [1, 7, 32, 82, 83, 1000])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    assert_same_verdicts(detect(batch_size=batch_size), detect())


@pytest.mark.parametrize("pca", ["filter", "layer"])
@pytest.mark.parametrize("batch_size", [10, 100])
def test_a_small_memory_budget_changes_nothing(batch_size: int, pca: str) -> None:
    # Maps of one sample take 7 * (16 + 16 + 4) * 4 = 1008 bytes.
    options: dict[str, Any] = {"batch_size": batch_size, "pca": pca}
    expected = detect(pca=pca)
    for budget in (22 * 1008, 6 * 1008):
        report = detect(memory_budget=budget, **options)
        for layer, other in zip(report.layers.values(), expected.layers.values(), strict=True):
            assert layer.points is not None
            assert other.points is not None
            sign = (layer.points * other.points).sum(1, keepdim=True).sign()
            scale = float(other.points.abs().max())
            torch.testing.assert_close(sign * layer.points, other.points, rtol=0, atol=2e-3 * scale)
        if pca == "filter":
            assert_same_verdicts(report, expected, tolerance=0.02)  # tight clusters feel rounding


def test_a_budget_too_small_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"memory_budget=1000 bytes is too small: .* 1008 bytes"):
        detect(memory_budget=1000, batch_size=10)
    assert_same_verdicts(detect(memory_budget=1000), detect())  # nothing is kept of one batch


def test_wide_maps_within_a_small_budget() -> None:
    # 32 x 32 maps whose variance falls slowly, as those of real networks do: what is left out
    # must not change the verdicts on what stands out.
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.interpolate(
        torch.randn(N_SAMPLES, N_FILTERS, 8, 8, generator=generator), size=32, mode="bilinear"
    )
    probe = nn.functional.interpolate(images(), size=32) + 0.01 * smooth
    expected = detect(probe=probe)
    assert flagged(expected)["0"] == [ANOMALY]
    report = detect(probe=probe, memory_budget=8 * 70_000, batch_size=16)
    assert flagged(report) == flagged(expected)
    assert [a.outliers for a in report.anomalies] == [a.outliers for a in expected.anomalies]


class Numbered(Dataset[Any]):
    def __init__(self) -> None:
        self.images = images()

    def __len__(self) -> int:
        return N_SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(images())


class Counted(Streamed):
    def __len__(self) -> int:
        return N_SAMPLES


@pytest.mark.parametrize(
    "probe",
    [
        list(images().split(20)),
        tuple(images().split(20)),
        DataLoader(TensorDataset(images()), batch_size=20),
        DataLoader(Numbered(), batch_size=20),
        DataLoader(Numbered(), batch_size=83, drop_last=True),
        DataLoader(Numbered(), batch_sampler=BatchSampler(range(N_SAMPLES), 20, False)),
        DataLoader(list(images().split(20)), batch_size=None),
        DataLoader(Streamed(), batch_size=20),
        DataLoader(Counted(), batch_size=20),
    ],
    ids=lambda probe: type(probe).__name__,
)
def test_a_probe_of_any_form(probe: Any) -> None:
    assert_same_verdicts(detect(probe=probe), detect())


def test_a_probe_that_can_be_read_once() -> None:
    assert_same_verdicts(detect(probe=(part for part in images().split(20))), detect())
    assert_same_verdicts(detect(probe=iter(images().split(20))), detect())


def test_batches_whose_images_only_forward_finds() -> None:
    class Wrapped:
        def __init__(self, samples: list[tuple[Tensor]]) -> None:
            self.content = torch.stack([image for (image,) in samples])

    model = bank()
    loader = DataLoader(TensorDataset(images()), batch_size=16, collate_fn=Wrapped)
    report = detect(model, loader, forward=lambda batch: model(batch.content))
    assert_same_verdicts(report, detect())


def test_a_loader_of_a_part_of_its_data_set() -> None:
    # The other samples do not come: neither do they count.
    half = BatchSampler(range(0, N_SAMPLES, 2), 20, False)
    report = detect(probe=DataLoader(Numbered(), batch_sampler=half))
    assert report.n_samples == 42
    assert report.skipped == {}
    dropped = detect(probe=DataLoader(Numbered(), batch_size=20, drop_last=True))
    assert dropped.n_samples == 80
    sampled = DataLoader(Numbered(), batch_size=20, sampler=list(range(50)))
    assert detect(probe=sampled).n_samples == 50


def test_a_shuffled_loader_leaves_the_random_state_and_repeats_itself() -> None:
    loader = DataLoader(Numbered(), batch_size=20, shuffle=True)
    model, state = bank(), torch.get_rng_state()
    first = detect(model, loader)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second = detect(probe=loader)
    assert first.to_dict(include_samples=True) == second.to_dict(include_samples=True)
    assert flagged(first) == flagged(detect())


def test_double_precision_changes_no_verdict() -> None:
    assert_same_verdicts(detect(bank().double(), images().double()), detect())


def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    contents = []
    try:
        for threads in (1, 1, 3):
            torch.set_num_threads(threads)
            contents.append(detect(seed=7).to_dict(include_samples=True))
    finally:
        torch.set_num_threads(before)
    assert contents[0] == contents[1]
    for name in LAYERS:
        one, other = contents[0]["layers"][name], contents[2]["layers"][name]
        assert one["labels"] == other["labels"]
        assert one["is_anomaly"] == other["is_anomaly"]


def test_the_order_of_samples_moves_the_outliers_with_them() -> None:
    order = torch.randperm(N_SAMPLES)
    report = detect(probe=images()[order])
    assert flagged(report) == flagged(detect())
    back = [int(order[index]) for index in report.anomalies[0].outliers]
    assert sorted(back) == OUTLIERS


def test_the_order_of_filters_moves_the_verdicts_with_them() -> None:
    order = torch.randperm(N_FILTERS)
    model, shuffled = bank(), bank()
    with torch.no_grad():
        shuffled[0].weight.copy_(model[0].weight[order])
    report, expected = detect(shuffled), detect(model)
    for name in LAYERS:
        assert torch.equal(report.layers[name].is_anomaly, expected.layers[name].is_anomaly[order])
        assert torch.equal(report.layers[name].labels, expected.layers[name].labels[order])


@settings(max_examples=12)
@given(st.integers(-18, 18), st.floats(1, 10))
def test_the_unit_of_the_activations_changes_no_verdict(exponent: int, digits: float) -> None:
    model = bank()
    with torch.no_grad():
        model[0].weight *= digits * 10.0**exponent
    report, expected = detect(model), detect()
    assert flagged(report) == flagged(expected)
    for layer, other in zip(report.layers.values(), expected.layers.values(), strict=True):
        assert torch.equal(layer.cluster_sizes, other.cluster_sizes)
