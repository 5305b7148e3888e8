"""The report: counts, outlier samples, the way to a file and back, and how it prints."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import ANOMALY, DEAD, N_CLUSTERS, N_SAMPLES, OUTLIERS, SMALL, bank, images
from rich.console import Console
from torch import Tensor

from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyFilter,
    AnomalyReport,
    LayerReport,
    cluster_points,
    detect_anomaly_filters,
)

CRITERIA = AnomalyCriteria(small_cluster_size=SMALL, ch_ratio=None)


def layer(*flags: bool, ch_index: list[float] | None = None) -> LayerReport:
    """Return a layer of filters that are flagged or not."""
    n = len(flags)
    return LayerReport(
        kind="activation",
        ch_index=torch.tensor(ch_index or [2.0] * n, dtype=torch.float64),
        n_clusters=torch.full((n,), 2),
        cluster_sizes=torch.tensor([[3, 1]] * n),
        activation=torch.ones(n, dtype=torch.float64),
        is_anomaly=torch.tensor(flags),
        sources=[("conv", channel) for channel in range(n)],
    )


def anomaly(
    layer_name: str, channel: int, source: tuple[str, int] | None, outliers: list[int]
) -> AnomalyFilter:
    source_layer, source_channel = source or (None, None)
    return AnomalyFilter(
        layer=layer_name,
        channel=channel,
        source_layer=source_layer,
        source_channel=source_channel,
        ch_index=2.0,
        n_clusters=2,
        cluster_sizes=[3, 1],
        activation=1.0,
        outliers=outliers,
    )


def by_hand(**changes: Any) -> AnomalyReport:
    """Return a report of four flagged maps: one filter three times, and one of nobody's."""
    contents: dict[str, Any] = {
        "anomalies": [
            anomaly("conv", 1, ("conv", 1), [3, 8]),
            anomaly("relu", 1, ("conv", 1), [8]),
            anomaly("pool", 1, ("conv", 1), [8, 3]),
            anomaly("add", 0, None, [5, 1]),
        ],
        "layers": {
            "conv": layer(False, True),
            "relu": layer(False, True),
            "pool": layer(False, True),
            "add": layer(True, False, ch_index=[2.0, math.nan]),
            "quiet": layer(False, False),
        },
        "skipped": {"bad": "NaN in its maps"},
        "n_samples": 9,
        "criteria": CRITERIA,
        "small_cluster_limit": 1,
        "settings": {"max_clusters": 5},
        "isolations": {8: 4, 3: 2, 5: 1, 1: 1, 0: 4},
    }
    return AnomalyReport(**{**contents, **changes})


def probed() -> AnomalyReport:
    return detect_anomaly_filters(bank(), images(), criteria=CRITERIA, max_clusters=N_CLUSTERS)


def assert_equal(one: Any, other: Any) -> None:
    """Compare layer reports field by field, bit by bit."""
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(other).items():
        found = getattr(one, name)
        if isinstance(value, Tensor):
            assert found.dtype == value.dtype, name
            assert torch.equal(found.nan_to_num(-7), value.nan_to_num(-7)), name
        else:
            assert found == value, name


# -- Counting ------------------------------------------------------------------------------------


def test_maps_are_counted_and_filters_are_distinct() -> None:
    report = by_hand()
    assert report.count == 4
    assert report.filters == [("conv", 1)]  # the map behind the addition has none
    assert report.count_by_layer == {"conv": 1, "relu": 1, "pool": 1, "add": 1, "quiet": 0}
    assert report.layers["add"].dead == [1]
    assert report.layers["quiet"].dead == []


def test_distinct_filters_come_in_forward_order() -> None:
    anomalies = [
        anomaly("b", 2, ("b", 2), []),
        anomaly("b", 0, ("b", 0), []),
        anomaly("c", 1, ("a", 7), []),
        anomaly("d", 0, ("b", 2), []),
    ]
    assert by_hand(anomalies=anomalies).filters == [("b", 2), ("b", 0), ("a", 7)]


def test_outlier_samples_of_flagged_maps() -> None:
    # Sample 8 in three maps, 3 in two, 1 and 5 in one: most isolated first, then by number.
    assert list(by_hand().outlier_samples().items()) == [(8, 3), (3, 2), (1, 1), (5, 1)]


def test_outlier_samples_of_every_filter() -> None:
    found = by_hand().outlier_samples(all_filters=True)
    assert list(found.items()) == [(0, 4), (8, 4), (3, 2), (1, 1), (5, 1)]


def test_outlier_samples_of_both_kinds_on_a_planted_network() -> None:
    report = probed()
    # With the second criterion off two filters are flagged in each of three layers; a third one
    # isolates the same samples but is hardly active.
    assert [a.channel for a in report.anomalies if a.layer == "0"] == [ANOMALY, 2]
    assert report.outlier_samples() == dict.fromkeys(OUTLIERS, 6)
    assert report.outlier_samples(all_filters=True) == dict.fromkeys(OUTLIERS, 9)


def test_an_empty_report() -> None:
    report = by_hand(anomalies=[], layers={}, skipped={}, isolations={})
    assert report.count == 0
    assert report.filters == []
    assert report.count_by_layer == {}
    assert report.outlier_samples() == report.outlier_samples(all_filters=True) == {}
    assert "0 anomaly filters" in str(report)


# -- To a file and back --------------------------------------------------------------------------


def plain(value: Any) -> bool:
    """Return whether a value is made of what JSON knows."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(inner) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("include_samples", [False, True])
def test_a_report_comes_back_from_its_dict(include_samples: bool) -> None:
    report = probed()
    data = report.to_dict(include_samples=include_samples)
    assert plain(data)
    back = AnomalyReport.from_dict(data)
    assert back.to_dict(include_samples=include_samples) == data
    assert (back.count, back.filters) == (report.count, report.filters)
    assert back.anomalies == report.anomalies


@pytest.mark.parametrize("include_samples", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_report_comes_back_from_a_file(
    tmp_path: Path, include_samples: bool, as_text: bool
) -> None:
    report = probed()
    path = tmp_path / "report.json"
    report.to_json(str(path) if as_text else path, include_samples=include_samples)
    back = AnomalyReport.from_json(str(path) if as_text else path)
    assert back.anomalies == report.anomalies
    assert list(back.layers) == list(report.layers)
    for name in ("skipped", "n_samples", "criteria", "small_cluster_limit", "settings"):
        assert getattr(back, name) == getattr(report, name)
    assert back.isolations == report.isolations
    for all_filters in (False, True):
        assert back.outlier_samples(all_filters=all_filters) == report.outlier_samples(
            all_filters=all_filters
        )
    assert str(back) == str(report)
    for name, expected in report.layers.items():
        found = back.layers[name]
        if include_samples:
            assert_equal(found, expected)
            continue
        assert found.points is None
        assert found.labels is None
        for field in ("ch_index", "n_clusters", "cluster_sizes", "activation", "is_anomaly"):
            one, other = getattr(found, field), getattr(expected, field)
            assert torch.equal(one.nan_to_num(-7), other.nan_to_num(-7)), field
        assert found.sources == expected.sources


def test_sources_of_nobody_and_dead_filters_come_back(tmp_path: Path) -> None:
    layers = {"add": layer(True, False, ch_index=[math.nan, 1e300])}
    layers["add"].sources[0] = None
    by_hand(layers=layers).to_json(tmp_path / "report.json")
    back = AnomalyReport.from_json(tmp_path / "report.json")
    assert back.layers["add"].sources == [None, ("conv", 1)]
    assert math.isnan(back.layers["add"].ch_index[0])
    assert float(back.layers["add"].ch_index[1]) == 1e300
    assert back.anomalies == by_hand().anomalies


def test_the_file_is_json_that_anyone_can_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    probed().to_json(path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["count"] == 6
    assert data["n_samples"] == N_SAMPLES
    assert data["layers"]["0"]["ch_index"][DEAD] is None
    assert "points" not in data["layers"]["0"]


def test_points_and_labels_are_most_of_a_file(tmp_path: Path) -> None:
    report = probed()
    report.to_json(tmp_path / "small.json")
    report.to_json(tmp_path / "large.json", include_samples=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("small.json", "large.json")]
    assert sizes[1] > 3 * sizes[0]


def test_a_report_without_samples_can_be_written_again(tmp_path: Path) -> None:
    back = AnomalyReport.from_dict(probed().to_dict())
    back.to_json(tmp_path / "again.json", include_samples=True)
    assert AnomalyReport.from_json(tmp_path / "again.json").to_dict() == back.to_dict()


@pytest.mark.parametrize("data", [{}, {"format": 99}, {"count": 3}])
def test_another_file_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps(data), encoding="utf-8")
    message = rf"format 1: found format {data.get('format')!r}; write it again"
    with pytest.raises(ValueError, match=message):
        AnomalyReport.from_json(tmp_path / "other.json")


# -- Printing ------------------------------------------------------------------------------------


def test_a_report_prints_as_a_table() -> None:
    text = str(by_hand())
    lines = text.splitlines()
    assert "4 anomaly filters (1 distinct convolution filters) on a probe of 9 samples" in " ".join(
        line.strip() for line in lines[:2]
    )
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    rows = {row[0]: row[1:] for row in cells if row}
    assert rows == {
        "conv": ["2", "0", "1", "1: 2"],
        "relu": ["2", "0", "1", "1: 1"],
        "pool": ["2", "0", "1", "1: 2"],
        "add": ["2", "1", "1", "0: 2"],
        "1 other layer: none": ["2", "0", "0", ""],
    }
    notes = " ".join(text.split())
    assert "4 outlier samples; most isolated, with number of filters: 8 (3), 3 (2)" in notes
    assert "skipped bad: NaN in its maps" in notes
    assert "\x1b" not in text


def test_print_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print(by_hand())
    assert capsys.readouterr().out.strip() == str(by_hand()).strip()


def test_rich_prints_the_table() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(by_hand())
    assert console.file.getvalue() == str(by_hand())  # type: ignore[attr-defined]


def test_many_flagged_channels_are_cut_short() -> None:
    anomalies = [anomaly("conv", channel, ("conv", channel), [1]) for channel in range(20)]
    text = str(by_hand(anomalies=anomalies, layers={"conv": layer(*[True] * 20)}))
    assert "… 12 more" in text


def test_layer_names_and_reasons_are_no_markup() -> None:
    layers = {"stem[red].0": layer(True)}
    text = str(by_hand(layers=layers, skipped={"head[1]": "[bold]no[/bold]"}, anomalies=[]))
    assert "stem[red].0" in text
    assert "skipped head[1]: [bold]no[/bold]" in text


def test_reports_can_be_compared_without_looking_into_their_tensors() -> None:
    report, again = probed(), probed()
    layer_name = next(iter(report.layers))
    assert report == report
    assert report != again
    assert report.layers[layer_name] != again.layers[layer_name]
    assert report.to_dict(include_samples=True) == again.to_dict(include_samples=True)
    assert {report, again, report} == {again, report}
    clusterings = cluster_points(torch.rand(2, 20, 2), max_clusters=3)
    assert clusterings == clusterings
    assert clusterings != cluster_points(torch.rand(2, 20, 2), max_clusters=3)
