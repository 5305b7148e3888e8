"""What a page says where nothing is flagged, nearly everything isolated, or a network guesses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from shown import N_SAMPLES, report
from test_html_memorization import page_images

from filterwatch.visuals import PageModel, write_page
from filterwatch.visuals.remarks import nearest_filter
from report_pages import enter, find, open_page, texts

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three filters, all flagged, and of a network that names one class every time."""
    path = tmp_path_factory.mktemp("zero") / "page.html"
    names = ["a", "b"]
    model = PageModel(
        report(),
        "model.pt",
        accuracy=0.5,
        comparable=True,
        output_names=names,
        predictions=torch.zeros(N_SAMPLES, dtype=torch.long),
        confidences=torch.ones(N_SAMPLES),
    )
    images = page_images(N_SAMPLES, names)
    write_page(path, [model], images, title="A page", subject="", facts=[], n_charts=3)
    return path


def test_a_network_that_guesses_is_called_untrained(page: Path) -> None:
    assert "This network looks untrained: 50.0% of the images get their label" in page.read_text()


@pytest.mark.browser
def test_where_nothing_is_flagged_the_nearest_is_named(browser: WebDriver, page: Path) -> None:
    open_page(browser, page.as_uri())
    assert texts(browser, "#remarks") == [""]
    enter(browser, "ch_ratio", 2)
    shown = report()
    criteria = replace(shown.criteria, ch_ratio=2.0)
    nearest = nearest_filter(replace(shown, anomalies=[], criteria=criteria))
    assert nearest is not None
    remark = find(browser, "#remarks").text.replace("\u00a0", " ").replace("’", "'")
    assert remark == (
        f"Nothing flagged. Nearest: features.conv · {nearest.filter.channel} – "
        "its CH index is 1.11 times its layer's mean, not more than 2."
    )
    assert find(browser, "#tiles b").text == "0"
    find(browser, "#remarks button").click()
    assert find(browser, "#detail h3").text.startswith("features.conv · channel 0")


@pytest.mark.browser
def test_where_nearly_all_are_isolated_the_reason_is_told(browser: WebDriver, page: Path) -> None:
    open_page(browser, page.as_uri())
    enter(browser, "ch_ratio", 0)
    enter(browser, "limit", 40)
    remark = find(browser, "#remarks").text
    assert "60 of 60 images isolated says little" in remark
    assert "λ is too large for K = 4" in remark
    assert "15 images on average" in remark
    assert "1% of these images is 1;" in remark


@pytest.mark.browser
def test_nearly_dead_filters_come_last(browser: WebDriver, tmp_path: Path) -> None:
    shown = report()
    [(name, layer)] = shown.layers.items()
    ch_index = torch.tensor([3e14, 9.0, 8.0], dtype=torch.float64)
    almost = replace(shown, layers={name: replace(layer, ch_index=ch_index)})
    path = tmp_path / "page.html"
    images = page_images(N_SAMPLES, ["a", "b"])
    write_page(path, [PageModel(almost, "a.pt")], images, title="A page", subject="", facts=[])
    open_page(browser, path.as_uri())
    rows = "return [...document.querySelectorAll('tr.row')].map((row) => Number(row.dataset.row))"
    assert browser.execute_script(rows) == [1, 2, 0]
    find(browser, "#filter-table th button").click()
    assert browser.execute_script(rows) == [2, 1, 0]
    assert "nearly dead" in texts(browser, "#filter-table tr.row")[2]
    assert texts(browser, "#layer-table td:nth-child(6)") == ["8.50"]
