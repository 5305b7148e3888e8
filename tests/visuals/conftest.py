"""Reports in a browser: written once, opened for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from browser import open_browser
from filterwatch import AnomalyCriteria
from filterwatch.analysis import (
    Analysis,
    Comparison,
    analyze,
    compare,
    load_model,
    sample_probe,
    write_comparison,
    write_report,
)
from finished_models import save_classifier, write_classes

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
from report_pages import CRITERIA, SETTINGS, open_page


@pytest.fixture(scope="session")
def analyses(tmp_path_factory: pytest.TempPathFactory) -> list[Analysis]:
    root = tmp_path_factory.mktemp("browser")
    images = sample_probe(write_classes(root / "images"), 100, in_channels=1)
    found = []
    for seed in (0, 1):
        path = root / f"<i>{seed}.ckpt"
        save_classifier(path, seed=seed)
        model = load_model(path)
        convolution = model.module.network.conv1  # type: ignore[union-attr]
        with torch.no_grad():  # a dead filter
            convolution.weight[3].zero_()  # type: ignore[union-attr,operator,index]
            convolution.bias[3] = -1.0  # type: ignore[union-attr,operator,index]
        found.append(analyze(model, images, criteria=AnomalyCriteria(**CRITERIA), **SETTINGS))
    return found


@pytest.fixture(scope="session")
def comparison(analyses: list[Analysis]) -> Comparison:
    return compare(*analyses)


@pytest.fixture(scope="session")
def pages(
    analyses: list[Analysis], comparison: Comparison, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    root = tmp_path_factory.mktemp("pages")
    write_report(analyses[0], root / "report.html", n_charts=10)
    write_comparison(comparison, root / "comparison.html", n_charts=10)
    return {name: (root / f"{name}.html").as_uri() for name in ("report", "comparison")}


@pytest.fixture(scope="session")
def browser() -> Iterator[WebDriver]:
    with open_browser(width=1400, height=1000, offline=True) as driver:
        yield driver


@pytest.fixture
def report_page(browser: WebDriver, pages: dict[str, str]) -> Iterator[WebDriver]:
    open_page(browser, pages["report"])
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def comparison_page(browser: WebDriver, pages: dict[str, str]) -> Iterator[WebDriver]:
    open_page(browser, pages["comparison"])
    yield browser
    assert browser.get_log("browser") == []
