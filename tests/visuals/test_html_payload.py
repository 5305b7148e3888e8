"""What an HTML report is made of, without a browser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from filterwatch import AnomalyCriteria
from filterwatch.analysis import Analysis, LoadedModel, analyze, sample_probe, write_report
from filterwatch.analysis.documents import page_images, page_model
from filterwatch.visuals.page import embed_json
from filterwatch.visuals.page_numbers import pack, page_numbers, rank_filters
from filterwatch.visuals.sprite_sheet import _side_that_fits, sprite_sheet
from finished_models import Tiny, write_classes, write_images

HOSTILE = "</script><script>alert('&')</script>"


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    torch.manual_seed(0)
    model = LoadedModel(Tiny(), HOSTILE, Path("<b>.pt"), "state_dict", notes=[HOSTILE])
    images = sample_probe(write_classes(tmp_path_factory.mktemp("images")), 80)
    criteria = AnomalyCriteria(small_cluster_size=4, small_cluster_ratio=0.1)
    return analyze(model, images, criteria=criteria, max_clusters=8)


def unpack(packed: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), "<" + packed["dtype"])


def test_numbers_that_decide_are_exact(analysis: Analysis) -> None:
    run = page_numbers([page_model(analysis)], [])["runs"][0]
    layers = analysis.report.layers.values()
    ch_index = torch.cat([layer.ch_index for layer in layers]).numpy()
    activation = torch.cat([layer.activation for layer in layers]).numpy()
    np.testing.assert_array_equal(unpack(run["ch_index"]), ch_index)
    np.testing.assert_array_equal(unpack(run["activation"]), activation)
    sizes = torch.cat([layer.cluster_sizes for layer in layers])
    np.testing.assert_array_equal(unpack(run["cluster_sizes"]).reshape(sizes.shape), sizes.numpy())
    assert [layer["filters"] for layer in run["layers"]] == [6, 6, 8, 8]
    assert run["charts"]["filters"] == []


def test_charts_hold_points_and_labels_in_the_order_asked_for(analysis: Analysis) -> None:
    charts = page_numbers([page_model(analysis)], [13, 2])["runs"][0]["charts"]
    assert charts["filters"] == [13, 2]
    steps = unpack(charts["points"]).reshape(2, 80, 2).astype(float)
    bounds = np.array(charts["bounds"])
    points = bounds[:, None, :2] + steps / 65535 * (bounds[:, None, 2:] - bounds[:, None, :2])
    layers = analysis.report.layers
    for at, (name, channel) in enumerate([("second", 1), ("first", 2)]):
        expected = layers[name].points[channel].numpy()  # type: ignore[index]
        np.testing.assert_allclose(points[at], expected, atol=np.ptp(expected) / 65535)
        labels = unpack(charts["labels"]).reshape(2, 80)[at]
        np.testing.assert_array_equal(labels, layers[name].labels[channel])  # type: ignore[index]


def test_charts_beyond_the_budget_are_left_out(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filterwatch.visuals.page_numbers._CHART_BYTES", 80 * 5 * 4 / 3 * 3)
    charts = page_numbers([page_model(analysis)], list(range(10)))["runs"][0]["charts"]
    assert charts["filters"] == [0, 1, 2]


def test_flagged_filters_are_ranked_first_and_dead_ones_not_at_all(analysis: Analysis) -> None:
    report = analysis.report
    ranked, n_flagged = rank_filters([report])
    flagged = torch.cat([layer.is_anomaly for layer in report.layers.values()])
    assert n_flagged == report.count > 0
    assert set(ranked[:n_flagged]) == set(flagged.nonzero().flatten().tolist())
    assert len(ranked) == len(set(ranked)) == len(flagged)
    layer = report.layers["first"]
    ch_index = layer.ch_index.clone()
    ch_index[4] = torch.nan
    dead = replace(layer, ch_index=ch_index, is_anomaly=layer.is_anomaly & (ch_index == ch_index))
    ranked, _ = rank_filters([replace(report, layers={**report.layers, "first": dead})])
    assert 4 not in ranked


def test_nearly_dead_filters_are_ranked_last(analysis: Analysis) -> None:
    report = analysis.report
    layer = report.layers["first"]
    ch_index, flags = layer.ch_index.clone(), layer.is_anomaly.clone()
    ch_index[[1, 4]] = 3e14
    flags[[1, 4]] = torch.tensor([True, False])
    layers = {**report.layers, "first": replace(layer, ch_index=ch_index, is_anomaly=flags)}
    ranked, n_flagged = rank_filters([replace(report, layers=layers)])
    assert ranked[n_flagged - 1] == 1
    assert ranked[-1] == 4
    assert not unpack(page_numbers([page_model(analysis)], [])["runs"][0]["nearly_dead"]).any()


def test_nothing_from_outside_can_leave_its_place(analysis: Analysis, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(analysis, path)
    page = path.read_text(encoding="utf-8")
    assert HOSTILE not in page
    data = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)
    assert data is not None
    assert not set("<>&") & set(data[1])
    payload = json.loads(data[1])
    assert payload["runs"][0]["file"] == "<b>.pt"
    escaped = escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    assert f"<dt>Model</dt><dd>{escaped} from &lt;b&gt;.pt (state_dict)</dd>" in page
    assert f"<dt>Note</dt><dd>{escaped}</dd>" in page
    assert payload["probe"]["class_names"][0] == "<script>"
    assert "<title>Anomaly filters of &lt;b&gt;.pt</title>" in page


def test_json_keeps_its_meaning() -> None:
    data = {"a": [1, None, "<&>\u2028é"], HOSTILE: 0.1}
    text = embed_json(data)
    assert json.loads(text) == data
    assert text.isascii()
    with pytest.raises(ValueError, match="JSON"):
        embed_json(float("nan"))


def test_the_page_names_no_address_and_allows_only_its_own_scripts(
    analysis: Analysis, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    write_report(analysis, path)
    page = path.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=\"(?!data:,)", page)


def test_thumbnails_show_the_images_in_order(tmp_path: Path) -> None:
    shades = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 28 * 28).reshape(10, 28, 28)
    write_images(tmp_path, shades)
    sheet = sprite_sheet(page_images(sample_probe(tmp_path, 10)))
    assert (sheet.side, sheet.columns, sheet.rows) == (32, 4, 3)
    data = base64.b64decode(sheet.data_uri.split(",")[1])
    pixels = np.array(Image.open(io.BytesIO(data)).convert("L"))
    assert pixels.shape == (96, 128)
    for position in range(10):
        top, left = position // 4 * 32, position % 4 * 32
        cell = pixels[top : top + 32, left : left + 32]
        assert abs(cell.mean() - 25 * position) < 4
        assert cell.std() < 4


def test_large_probes_get_smaller_thumbnails(tmp_path: Path) -> None:
    write_images(tmp_path, np.zeros((3, 100, 80), np.uint8))
    images = sample_probe(tmp_path, 3, image_size=90)
    assert sprite_sheet(page_images(images)).side == 64
    assert _side_that_fits(2100) == 48


def test_packing_keeps_values() -> None:
    values = torch.tensor([[1.5, float("nan")], [-0.1, 1e300]], dtype=torch.float64)
    np.testing.assert_array_equal(unpack(pack(values, "<f8")), values.numpy().ravel())
    np.testing.assert_array_equal(unpack(pack(torch.tensor([0, 65535]), "<u2")), [0, 65535])


def test_a_report_without_points_says_so(analysis: Analysis) -> None:
    layers = {name: replace(layer, points=None) for name, layer in analysis.report.layers.items()}
    without = replace(analysis, report=replace(analysis.report, layers=layers))
    with pytest.raises(ValueError, match="without its points"):
        page_numbers([page_model(without)], [0])


def test_thumbnails_of_much_detail_are_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    write_images(tmp_path, noise)
    images = page_images(sample_probe(tmp_path, 20))
    free = sprite_sheet(images)
    for share, side in ((0.9, 64), (0.6, 48), (0.0, 16)):
        budget = int(share * len(free.data_uri))
        monkeypatch.setattr("filterwatch.visuals.sprite_sheet._SHEET_BYTES", budget)
        sheet = sprite_sheet(images)
        assert sheet.side == side
        if share:
            assert len(sheet.data_uri) < budget + 100
        with Image.open(io.BytesIO(base64.b64decode(sheet.data_uri.partition(",")[2]))) as picture:
            assert picture.size == (sheet.columns * side, sheet.rows * side)
