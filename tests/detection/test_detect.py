"""The whole chain: known filters flagged, the same verdicts by every route, bad input refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from clouds import same_partition
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import (
    ANOMALY,
    DEAD,
    FAILS_ALONE,
    INACTIVE,
    LOW_CH,
    N_CLUSTERS,
    N_FILTERS,
    N_SAMPLES,
    OUTLIERS,
    SMALL,
    UNEVEN,
    bank,
    images,
)
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset

from filterwatch.detection import AnomalyCriteria, AnomalyReport, detect_anomaly_filters

CRITERIA = AnomalyCriteria(small_cluster_size=SMALL)
LAYERS = ["0", "1", "2"]


def detect(model: nn.Module | None = None, probe: Any = None, **options: Any) -> AnomalyReport:
    defaults = {"criteria": CRITERIA, "max_clusters": N_CLUSTERS}
    return detect_anomaly_filters(
        bank() if model is None else model,
        images() if probe is None else probe,
        **{**defaults, **options},
    )


def flagged(report: AnomalyReport) -> dict[str, list[int]]:
    return {
        name: layer.is_anomaly.nonzero().flatten().tolist() for name, layer in report.layers.items()
    }


def assert_same_verdicts(
    report: AnomalyReport, expected: AnomalyReport, tolerance: float = 1e-3
) -> None:
    assert flagged(report) == flagged(expected)
    assert list(report.layers) == list(expected.layers)
    for layer, other in zip(report.layers.values(), expected.layers.values(), strict=True):
        for labels, others in zip(layer.labels, other.labels, strict=True):
            assert same_partition(labels, others)
        assert torch.equal(layer.cluster_sizes, other.cluster_sizes)
        torch.testing.assert_close(
            layer.ch_index, other.ch_index, rtol=tolerance, atol=0, equal_nan=True
        )
        torch.testing.assert_close(layer.activation, other.activation, rtol=1e-5, atol=0)
    assert [anomaly.outliers for anomaly in report.anomalies] == [
        anomaly.outliers for anomaly in expected.anomalies
    ]
    assert report.isolations == expected.isolations


# -- What must be flagged ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_clusters", [N_CLUSTERS, 14])
def test_exactly_the_planted_filter_is_flagged_in_every_layer(seed: int, max_clusters: int) -> None:
    report = detect(probe=images(seed=seed), max_clusters=max_clusters)
    assert flagged(report) == {name: [ANOMALY] for name in LAYERS}
    assert report.count == 3
    assert report.filters == [("0", ANOMALY)]


@pytest.mark.parametrize(("criterion", "filter_index"), FAILS_ALONE.items())
def test_for_each_criterion_one_filter_fails_it_alone(criterion: str, filter_index: int) -> None:
    # Switched off, the criterion lets exactly that filter through.
    report = detect(criteria=dataclasses.replace(CRITERIA, **{criterion: None}))
    assert flagged(report) == {name: sorted([ANOMALY, filter_index]) for name in LAYERS}


def test_all_that_is_known_of_the_planted_filter() -> None:
    report = detect()
    anomaly = report.anomalies[1]
    assert (anomaly.layer, anomaly.channel) == ("1", ANOMALY)
    assert (anomaly.source_layer, anomaly.source_channel) == ("0", ANOMALY)
    assert anomaly.cluster_sizes == UNEVEN
    assert anomaly.n_clusters == 5
    assert anomaly.outliers == OUTLIERS
    assert anomaly.ch_index == float(report.layers["1"].ch_index[ANOMALY])
    expected = images()[:, ANOMALY].abs().mean()
    assert anomaly.activation == pytest.approx(float(expected), rel=1e-6)


def test_what_the_layers_hold() -> None:
    report = detect()
    assert [layer.kind for layer in report.layers.values()] == [
        "convolution", "activation", "max_pool",
    ]  # fmt: skip
    for layer in report.layers.values():
        assert layer.points is not None
        assert layer.labels is not None
        assert layer.points.shape == (N_FILTERS, N_SAMPLES, 2)
        assert layer.labels.shape == (N_FILTERS, N_SAMPLES)
        assert layer.cluster_sizes.shape == (N_FILTERS, N_CLUSTERS)
        for tensor in (layer.ch_index, layer.n_clusters, layer.activation, layer.is_anomaly):
            assert tensor.shape == (N_FILTERS,)
        assert layer.sources == [("0", channel) for channel in range(N_FILTERS)]
        assert layer.dead == [DEAD]
        assert layer.n_clusters[DEAD] == 0
        assert math.isnan(layer.ch_index[DEAD])
        assert (layer.labels[DEAD] == -1).all()
        assert not layer.points[DEAD].any()
    assert report.small_cluster_limit == SMALL
    assert report.n_samples == N_SAMPLES
    assert report.criteria == CRITERIA
    assert report.settings["max_clusters"] == N_CLUSTERS
    assert report.skipped == {}


def test_isolated_samples_are_counted_over_all_filters() -> None:
    # Three filters of every layer have the small clusters; one of them is flagged.
    report = detect()
    uneven = [ANOMALY, LOW_CH, INACTIVE]
    for layer in report.layers.values():
        assert layer.cluster_sizes[uneven].tolist() == [UNEVEN] * 3
    assert report.outlier_samples() == dict.fromkeys(OUTLIERS, 3)
    assert report.outlier_samples(all_filters=True) == dict.fromkeys(OUTLIERS, 9)


def test_a_larger_lambda_makes_no_outliers_of_large_clusters() -> None:
    assert detect(criteria=AnomalyCriteria(small_cluster_size=1)).count == 0  # 1 of 5 is not > 1
    report = detect(criteria=AnomalyCriteria(small_cluster_size=2 / N_SAMPLES))
    assert report.small_cluster_limit == 2
    assert report.anomalies[0].outliers == OUTLIERS


def test_common_components_for_a_layer() -> None:
    report = detect(pca="layer")
    layer = report.layers["0"]
    assert layer.points is not None
    # One cloud for all: the filters' centres differ now, as their pictures do.
    assert float(layer.points.mean(1)[[0, 1, 2]].std(0).norm()) > 0.1
    assert float(layer.points.mean((0, 1)).norm()) < 1e-4
    assert report.settings["pca"] == "layer"
    assert detect(pca="filter").settings["pca"] == "filter"


# -- The same by every route ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 32, 82, 83, 1000])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    assert_same_verdicts(detect(batch_size=batch_size), detect())


@pytest.mark.parametrize("pca", ["filter", "layer"])
@pytest.mark.parametrize("batch_size", [10, 100])
def test_a_small_memory_budget_changes_nothing(batch_size: int, pca: str) -> None:
    # Maps of one sample take 7 * (16 + 16 + 4) * 4 = 1008 bytes.
    options: dict[str, Any] = {"batch_size": batch_size, "pca": pca}
    expected = detect(pca=pca)
    for budget in (20 * 1008, 5 * 1008):
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


# -- What cannot be judged -----------------------------------------------------------------------


class Breaking(nn.Module):
    """Puts something into one layer that is no number, and goes on without it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.good = bank()
        self.bad = nn.Conv2d(N_FILTERS, 3, 1)
        self.value = value

    def forward(self, maps: Tensor) -> Tensor:
        kept = self.good(maps)
        self.bad(maps * torch.where(maps[:, :1] > maps[:, :1].mean(), self.value, 1.0))
        return kept  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("batch_size", [20, 100])
def test_a_layer_with_numbers_that_are_none_is_skipped_and_the_others_are_judged(
    value: float, batch_size: int
) -> None:
    report = detect(Breaking(value), batch_size=batch_size)
    assert report.skipped == {"bad": "NaN or infinity in the maps of 3 of its 3 filters"}
    assert flagged(report) == {f"good.{name}": [ANOMALY] for name in LAYERS}
    assert "bad" not in report.layers


def test_a_network_gone_to_nan_gives_an_empty_report() -> None:
    model = bank()
    with torch.no_grad():
        model[0].bias.fill_(math.nan)
    report = detect(model)
    assert list(report.skipped) == LAYERS
    assert (report.count, report.layers, report.outlier_samples(all_filters=True)) == (0, {}, {})


def test_images_of_several_sizes_skip_what_depends_on_them() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.pool = nn.AdaptiveMaxPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            return self.pool(self.conv(images))  # type: ignore[no-any-return]

    batches = [torch.rand(20, 3, 8, 8), torch.rand(20, 3, 9, 9)]
    report = detect(Pooled(), batches)
    assert list(report.layers) == ["pool"]
    assert "give images of one size" in report.skipped["conv"]


def test_a_layer_that_runs_on_crops_is_skipped() -> None:
    class Crops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.relu = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            self.relu(self.conv(images))
            crops = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            return self.conv(crops)  # type: ignore[no-any-return]

    report = detect(Crops(), torch.rand(20, 3, 8, 8))
    assert list(report.layers) == ["conv", "relu"]
    assert report.skipped == {"conv#2": "it put out 80 maps a filter for 20 samples"}


def test_a_layer_that_runs_for_some_batches_only_is_skipped() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.extra = nn.Conv2d(3, 2, 3)

        def forward(self, images: Tensor) -> Tensor:
            if len(images) != 10:
                self.extra(images)
            return self.conv(images)  # type: ignore[no-any-return]

    report = detect(Sometimes(), list(torch.rand(20, 3, 8, 8).split([6, 10, 4])))
    assert list(report.layers) == ["conv"]
    assert report.skipped == {"extra": "it put out 10 maps a filter for 20 samples"}


def test_a_layer_of_dead_filters() -> None:
    model = bank()
    with torch.no_grad():
        model[0].weight.zero_()
    report = detect(model)
    assert report.count == 0
    assert report.layers["0"].dead == list(range(N_FILTERS))
    assert report.outlier_samples(all_filters=True) == {}


def test_a_probe_of_one_picture_over_and_over() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    report = detect(model, torch.rand(1, 3, 8, 8).expand(40, -1, -1, -1))
    assert report.layers["0"].dead == [0, 1, 2, 3]


def test_maps_of_one_element() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU())
    report = detect(model, torch.rand(40, 3, 8, 8))
    assert report.layers["0"].dead == []
    assert not report.layers["0"].points[..., 1].any()  # type: ignore[index]


def test_as_many_samples_as_clusters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    report = detect(model, torch.rand(N_CLUSTERS, 3, 8, 8))
    assert list(report.layers) == ["0", "1"]


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_clusters": 1}, "max_clusters must be at least 2, got 1"),
        ({"pca": "both"}, 'pca must be "filter" or "layer", got \'both\''),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"memory_budget": 0}, "memory_budget must be a positive number of bytes, got 0"),
        ({"max_clusters": 84}, "83 samples .* max_clusters=84 clusters: use a larger probe, or lo"),
        ({"probe": images()[:4]}, "a probe of 4 samples cannot form max_clusters=5 clusters: use"),
        ({"probe": images()[:0]}, "a probe of 0 samples cannot form max_clusters=5 clusters"),
        ({"probe": []}, "a probe of 0 samples cannot form max_clusters=5 clusters"),
        ({"probe": images()[:, 0]}, r"found no images, .*tensor \[83, 4, 4\]: convert the images"),
        ({"probe": images().byte()}, r"found no images, .*torch.uint8 tensor \[83, 7, 4, 4\]: con"),
        ({"probe": [torch.arange(9)]}, r"found no images, .*torch.int64 tensor \[9\]: convert"),
        ({"layers": ["conv*"]}, r"the pattern 'conv\*' matches none of: 0, 1, 2"),
        ({"layers": []}, r"layers=\[\] names none: .* 0, 1, 2"),
        ({"model": nn.Flatten()}, "Flatten ran no 2-D convolution"),
        ({"criteria": AnomalyCriteria(83)}, "small_cluster_size=83 makes every .*lower it, or use"),
        ({"criteria": AnomalyCriteria.paper(1)}, "small_cluster_size=100 .* of 83 samples small"),
    ],
)
def test_bad_input_is_refused_with_the_value_and_the_remedy(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detect(**arguments)
