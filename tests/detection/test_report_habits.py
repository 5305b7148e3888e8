"""The report in a notebook, as a figure, a page and a table, and how much of it is stored."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from planted import ANOMALY, N_SAMPLES, OUTLIERS, images
from test_report import by_hand, probed
from torch import Tensor, nn

from filterwatch import (
    AnomalyReport,
    cluster_points,
    detect_anomaly_filters,
    measure_memorization,
)
from filterwatch.detection import LayerReport


def tensors(report: AnomalyReport) -> list[Tensor]:
    return [
        value
        for layer in report.layers.values()
        for value in vars(layer).values()
        if isinstance(value, Tensor)
    ]


def n_bytes(report: AnomalyReport) -> int:
    return sum(value.numel() * value.element_size() for value in tensors(report))


# -- In a line, and in a notebook ----------------------------------------------------------------


def test_a_bare_report_is_one_line() -> None:
    assert repr(by_hand()) == (
        "<AnomalyReport: 4 anomaly filters (1 distinct convolution filters) in 5 layers, 9 samples>"
    )
    assert repr(by_hand().layers["add"]) == "<LayerReport: activation, 1 of 2 filters flagged>"
    assert len(repr(probed().layers)) < 400  # a dict of them, too


def test_a_notebook_shows_the_table() -> None:
    page = by_hand()._repr_html_()
    assert page.startswith("<pre ")
    assert "4 anomaly filters" in page
    assert "add" in page


def test_nothing_is_displayed_beside_what_is_returned(capsys: pytest.CaptureFixture[str]) -> None:
    by_hand()._repr_html_()
    assert capsys.readouterr().out == ""


# -- A figure, a page, a table -------------------------------------------------------------------


def test_a_figure() -> None:
    figure = probed().plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # which a notebook shows
    texts = [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]
    assert "6 anomaly filters on 83 samples" in texts
    assert f"0, channel {ANOMALY}" in texts


def test_a_figure_without_points_or_anomalies() -> None:
    assert len(AnomalyReport.from_dict(probed().to_dict()).plot().axes) == 1
    assert len(by_hand(anomalies=[], layers={}).plot().axes) == 1


@pytest.mark.parametrize("form", ["tensor", "array", "batches", "with labels"])
def test_a_page(form: str, tmp_path: Path) -> None:
    probe: Any = images()
    labels = torch.arange(N_SAMPLES) % 3
    given: dict[str, Any] = {
        "tensor": {"images": probe, "labels": labels},
        "array": {"images": probe.numpy(), "labels": labels},
        "batches": {"images": list(zip(probe.split(10), labels.split(10), strict=True))},
        "with labels": {"images": (probe, labels), "class_names": ["0", "1", "2"]},
    }[form]
    probed().to_html(tmp_path / "page.html", **given)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"class_names":["0","1","2"]' in page
    assert '"n_samples":83' in page


def test_a_page_without_labels(tmp_path: Path) -> None:
    probed().to_html(tmp_path / "page.html", images())
    assert '"labels":null' in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="9 images for a report of 83 samples: pass the probe"):
        probed().to_html(tmp_path / "page.html", images()[:9])
    without = AnomalyReport.from_dict(probed().to_dict())
    with pytest.raises(ValueError, match="without its points"):
        without.to_html(tmp_path / "page.html", images())


def test_a_page_with_memorization_on_top(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, labels = torch.rand(80, 1, 8, 8, generator=generator), torch.arange(80) % 2
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    training, held_out = (pictures[:40], labels[:40]), (pictures[40:], labels[40:])
    measured = measure_memorization(model, training, held_out)
    report = detect_anomaly_filters(model, held_out)
    path = tmp_path / "page.html"
    report.to_html(path, held_out, memorization=measured, training=training)
    assert '"n_training":40' in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="80 training images for a report of 40: pass those"):
        report.to_html(path, held_out, memorization=measured, training=(pictures, labels))


def test_a_table_of_all_filters() -> None:
    pandas = pytest.importorskip("pandas")
    report = probed()
    table = report.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == sum(len(layer.ch_index) for layer in report.layers.values())
    flagged = table[table["is_anomaly"]]
    assert list(zip(flagged["layer"], flagged["channel"], strict=True)) == [
        (each.layer, each.channel) for each in report.anomalies
    ]
    [row] = table[(table["layer"] == "0") & (table["channel"] == ANOMALY)].to_dict("records")
    assert row["isolated"] == len(OUTLIERS)
    assert (row["source_layer"], row["source_channel"]) == ("0", ANOMALY)


def test_a_table_says_where_there_is_no_single_filter_behind() -> None:
    pytest.importorskip("pandas")
    report = by_hand()
    report.layers["add"].sources[0] = None
    table = report.to_pandas()
    assert table[table["layer"] == "add"]["source_layer"].isna().tolist() == [True, False]


def test_without_pandas_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas, or write a file with to_json\(\)"):
        by_hand().to_pandas()


# -- Stored --------------------------------------------------------------------------------------


def test_a_report_is_stored_in_no_more_than_it_holds() -> None:
    report = probed()
    stored = pickle.dumps(report)
    assert len(stored) < n_bytes(report) + 20_000
    kept = {value.untyped_storage().data_ptr() for value in tensors(report)}
    assert len(kept) == len(tensors(report))  # each has memory of its own
    name, layer = next(iter(report.layers.items()))
    assert len(pickle.dumps(layer)) < len(stored) / 2
    again = pickle.loads(stored)
    assert again.to_dict(include_samples=True) == report.to_dict(include_samples=True)
    copied = copy.deepcopy(report)
    assert sum(value.untyped_storage().nbytes() for value in tensors(copied)) == n_bytes(report)
    assert torch.equal(copied.layers[name].labels, layer.labels)


def test_labels_take_a_byte_each_and_are_the_clusterings() -> None:
    layer: LayerReport = probed().layers["0"]
    assert layer.labels is not None
    assert layer.points is not None
    assert layer.labels.dtype == torch.int8
    expected = cluster_points(layer.points, max_clusters=5).labels
    assert torch.equal(layer.labels.long(), expected)


def test_labels_of_many_clusters_take_two() -> None:
    values = np.arange(200).reshape(1, 200)
    data = probed().to_dict(include_samples=True)
    data["layers"] = {"0": {**data["layers"]["0"], "labels": values.tolist()}}
    labels = AnomalyReport.from_dict(data).layers["0"].labels
    assert labels is not None
    assert labels.dtype == torch.int16
    assert labels.tolist() == values.tolist()
