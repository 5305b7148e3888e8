"""Memorization at the top of a page: its numbers, and how a reader meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from memorized import HISTORY, LOSS, MEMORIZED, memorization_report
from shown import N_SAMPLES, report
from torch import Tensor

from filterwatch.visuals import PageImages, PageMemorization, PageModel, write_page
from report_pages import find, open_page, texts, wait_for

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

HOSTILE = "<i>dog</i></script>"


def page_images(n_images: int, class_names: list[str]) -> PageImages:
    """Return images of which number i is all of brightness 40 i."""

    def drawn(rows: Tensor, side: int) -> Tensor:
        levels = (40 * rows % 256).to(torch.uint8)
        return levels.view(-1, 1, 1, 1).expand(-1, 3, side, side)

    files = [f"{HOSTILE}{number}.png" for number in range(n_images)]
    labels = [number % 2 for number in range(n_images)]
    return PageImages(files, labels, class_names, drawn, side=32)


def written_page(path: Path, memorization: PageMemorization | None) -> str:
    write_page(
        path,
        [PageModel(report(), "model.pt")],
        page_images(N_SAMPLES, ["a", "b"]),
        title="A page",
        subject="of a test",
        facts=[],
        memorization=memorization,
    )
    return path.read_text(encoding="utf-8")


def memorization(**fields: Any) -> PageMemorization:
    names = ["cat", HOSTILE]  # the third class has none
    return PageMemorization(memorization_report(), page_images(6, names), **fields)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("memorization")
    pages = {
        "epochs": memorization(history=HISTORY, loss_curves=LOSS),
        "long": memorization(
            history=[{**HISTORY[-1], "epoch": epoch} for epoch in range(60)], loss_curves=LOSS
        ),
        "bars": memorization(history=HISTORY[2:3]),  # where it was not measured
        "without": None,
    }
    for name, shown in pages.items():
        written_page(root / f"{name}.html", shown)
    return {name: (root / f"{name}.html").as_uri() for name in pages}


def test_a_page_holds_the_samples_worst_first_and_nothing_that_a_browser_runs(
    tmp_path: Path,
) -> None:
    page = written_page(tmp_path / "page.html", memorization(history=HISTORY))
    assert HOSTILE not in page
    data = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)
    assert data is not None
    found = json.loads(data[1])["memorization"]
    assert [sample["index"] for sample in found["samples"]] == MEMORIZED
    assert found["samples"][0] == {
        "index": 1,
        "file": f"{HOSTILE}1.png",
        "label": HOSTILE,
        "rather": "2",
        "evidence": -11.0,
        "confidence": pytest.approx(0.75),
    }
    assert found["epochs"]["epochs"] == [0, 2, 6]
    assert found["epochs"]["values"] == [[0.02, 0.03, -0.2], [0.0, 0.4, 0.8], [0.0, 0.5, 6.0]]
    assert found["epochs"]["lowest_loss"] is None
    assert json.loads(data[1])["memorization"]["sprite"]["columns"] == 2


def test_without_memorization_the_page_is_what_it_was(tmp_path: Path) -> None:
    page = written_page(tmp_path / "page.html", None)
    assert 'id="memorization"' not in page
    assert "mislabeled no more often than others" in page


@pytest.mark.browser
def test_the_map_marks_what_exceeds_three_errors(
    browser: WebDriver, addresses: dict[str, str]
) -> None:
    open_page(browser, addresses["epochs"])
    rows = browser.execute_script(
        """return [...document.querySelectorAll('#memorization-layers tbody tr')].map((row) =>
        [row.dataset.layer, [...row.querySelectorAll('.cell')].map((cell) =>
          [cell.textContent, getComputedStyle(cell).backgroundColor, cell.className])]);"""
    )
    assert [name for name, _ in rows] == ["conv", "dense", "output"]
    marked = {(at, column) for at, (_, cells) in enumerate(rows) for column in range(3)
              if cells[column][0] == "•"}  # fmt: skip
    assert marked == {(0, 2), (1, 2), (2, 1), (2, 2)}
    assert [column for column in range(3) if "lowest" in rows[0][1][column][2]] == [1]
    colors = {(name, at): cell[1] for name, cells in rows for at, cell in enumerate(cells)}
    assert colors["dense", 2] == colors["output", 2]
    assert len({colors["dense", 0], colors["dense", 1], colors["dense", 2], colors["conv", 2]}) == 4
    assert "lowest validation loss, epoch 2" in find(browser, "#memorization-caption").text
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_without_epochs_there_are_bars(browser: WebDriver, addresses: dict[str, str]) -> None:
    open_page(browser, addresses["bars"])
    assert texts(browser, "#memorization-layers td.number") == [
        "−0.20 ± 0.05 nats",
        "+0.80 ± 0.05 nats",
        "+0.10 ± 0.05 nats",
        "+6.00 ± 0.10 nats",
    ]
    kinds = browser.execute_script(
        "return [...document.querySelectorAll('.length')].map((bar) => bar.className.trim())"
    )
    assert kinds == ["length cool", "length warm", "length", "length warm"]
    assert texts(browser, "#memorization-tiles b") == ["3 ± 1", "+0.80", "+6.00"]


@pytest.mark.browser
def test_memorized_images_say_what_speaks_against_their_label(
    browser: WebDriver, addresses: dict[str, str]
) -> None:
    open_page(browser, addresses["epochs"])
    cards = browser.find_elements("css selector", "#memorized .card")
    assert [card.get_attribute("data-training") for card in cards] == ["1", "0", "2"]
    assert cards[0].text.split("\n") == [
        f"label {HOSTILE}",
        "rather 2",
        "evidence −11.00",
        "network: 75%",
        f"{HOSTILE}1.png",
    ]
    browser.execute_script("document.querySelector('#memorized .card').focus()")
    wait_for(browser, "document.getElementById('tooltip').dataset.training === '1'")
    thumb = find(browser, "#tooltip .thumb")
    assert thumb.size["width"] == 192
    probe = find(browser, "#gallery .thumb, #detail .thumb").value_of_css_property(
        "background-image"
    )
    assert thumb.value_of_css_property("background-image").startswith('url("blob:')
    assert thumb.value_of_css_property("background-image") != probe
    assert browser.execute_script("return document.querySelectorAll('i').length") == 0
    assert browser.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_page(
    width: int, browser: WebDriver, addresses: dict[str, str]
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for name in ("epochs", "long", "bars"):
            open_page(browser, addresses[name])
            wide = "return [document.documentElement.scrollWidth, innerWidth]"
            assert browser.execute_script(wide) == [width, width]
            boxes = browser.execute_script(
                """return [...document.querySelectorAll('.scroll')].map((box) =>
                [box.scrollWidth, box.clientWidth]);"""
            )
            assert len(boxes) == 3
            assert all(inside == outside for inside, outside in boxes)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_the_answer_comes_first_and_thresholds_are_folded(
    browser: WebDriver, addresses: dict[str, str]
) -> None:
    browser.get(addresses["epochs"])
    order = texts(browser, "main > section > h2")
    assert order == [
        "Memorization",
        "Anomaly filters and the images that they isolate",
        "Layers",
        "Filters",
        "How this was made",
    ]
    assert not find(browser, "#sliders").is_displayed()
    line = find(browser, "#thresholds summary").text
    assert "clusters of up to 1 image are small" in line
    assert "wrong labels" in find(browser, "#memorized-hint").text
    assert "not mislabeled more often" in find(browser, "#images-hint").text
    untold = "return [...document.querySelectorAll('th[scope=col]')].filter((head) => !head.title)"
    assert browser.execute_script(f"{untold}.map((head) => head.textContent)") == ["epoch"]


@pytest.mark.browser
def test_an_isolated_image_names_its_filters(browser: WebDriver, addresses: dict[str, str]) -> None:
    open_page(browser, addresses["without"])
    card = find(browser, "#gallery .card")
    assert "1 anomaly filter" in card.text
    find(browser, "#gallery .card .by button:nth-child(2)").click()
    assert find(browser, "#detail h3").text.startswith("features.conv · channel 0")
    assert "isolate" in find(browser, "#only .chip").text
