"""What both kinds of pages do, and the comparison of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from filterwatch import AnomalyCriteria
from filterwatch.analysis import Comparison

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
from report_pages import (
    CRITERIA,
    enter,
    expected_count,
    find,
    hover,
    lonely_sample,
    open_page,
    shown_counts,
    texts,
    wait_for,
)

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_it_draws_everything_without_network_or_errors(
    name: str, browser: WebDriver, pages: dict[str, str]
) -> None:
    open_page(browser, pages[name])
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [entry for entry in loaded if not entry.startswith(("data:", "blob:"))] == []
    assert browser.get_log("browser") == []
    assert len(texts(browser, "#plot .point, #plot-1 .point")) == 100
    assert len(texts(browser, "#layer-table tbody tr")) == 8
    thumb = find(browser, ".detail .thumb, .gallery .thumb")
    assert thumb.value_of_css_property("background-image").startswith('url("blob:')
    assert thumb.size["width"] > 50


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_names_from_outside_are_text(name: str, browser: WebDriver, pages: dict[str, str]) -> None:
    open_page(browser, pages[name])
    body = find(browser, "body").text
    assert "<script>" in body
    assert "<i>0.ckpt" in body
    assert browser.execute_script("return document.scripts.length") == 3
    assert browser.execute_script("return document.querySelectorAll('i').length") == 0


def test_the_policy_stops_foreign_scripts_and_requests(
    browser: WebDriver, pages: dict[str, str]
) -> None:
    open_page(browser, pages["report"])
    outcome = browser.execute_async_script(
        """const [done] = arguments;
        const script = document.createElement('script');
        script.textContent = 'window.intruded = true';
        document.body.append(script);
        fetch('data:text/plain,x').then(() => done(['fetched', window.intruded]),
          () => done(['refused', window.intruded ?? false]));"""
    )
    assert outcome == ["refused", False]
    assert len(browser.get_log("browser")) >= 2  # the browser reports both


def test_colours_follow_the_surroundings(report_page: WebDriver) -> None:
    expected = {
        "dark": ["rgb(27, 31, 36)", "rgb(231, 234, 237)"],
        "light": ["rgb(255, 255, 255)", "rgb(27, 31, 35)"],
    }
    for scheme, colours in expected.items():
        report_page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        # The chart is drawn anew after the change: both colours are read at once, until they fit.
        shown = """[
            getComputedStyle(document.querySelector('section')).backgroundColor,
            getComputedStyle(document.querySelector('#plot .xtick text') ?? document.body).fill,
        ]"""
        wait_for(report_page, f"JSON.stringify({shown}) === JSON.stringify({colours})")


def test_comparison_counts_and_changes(comparison_page: WebDriver, comparison: Comparison) -> None:
    first, second = comparison.first.report, comparison.second.report
    assert shown_counts(comparison_page) == [first.count, second.count]
    assert texts(comparison_page, "#tiles .tile b")[2:] == [
        str(len(comparison.turned)),
        str(len(comparison.ceased)),
        str(len(comparison.kept)),
    ]
    changed = len(comparison.turned) + len(comparison.ceased)
    assert texts(comparison_page, "#pager span")[0].endswith(f"of {changed}")
    for value in (1, 6, 20):
        enter(comparison_page, "limit", value)
        asked: dict[str, Any] = {**CRITERIA, "small_cluster_size": value}
        assert shown_counts(comparison_page) == [
            expected_count(report, AnomalyCriteria(**asked)) for report in (first, second)
        ]


def test_comparison_lists_the_images_that_turned_filters_isolate(
    comparison_page: WebDriver, comparison: Comparison
) -> None:
    for name, filters, analysis in (
        ("turned", comparison.turned, comparison.second),
        ("ceased", comparison.ceased, comparison.first),
    ):
        isolated = comparison.isolated_by(filters, analysis)
        samples = comparison_page.execute_script(
            "return [...document.querySelectorAll(`#gallery-${arguments[0]} .card`)]"
            ".map((card) => +card.dataset.sample)",
            name,
        )
        assert samples == list(isolated)[:24]


def test_comparison_marks_the_same_image_in_the_other_model(
    comparison_page: WebDriver, comparison: Comparison
) -> None:
    chosen = find(comparison_page, "tr.chosen td.name").text
    layer, _, channel = chosen.replace("\u00a0", " ").partition(" · ")
    sample = lonely_sample(comparison.first, layer, int(channel))
    hover(comparison_page, "plot-1", sample)
    wait_for(comparison_page, f"document.getElementById('tooltip').dataset.sample === '{sample}'")
    shape = wait_for(comparison_page, "document.getElementById('plot-2').layout.shapes?.[0]")
    points = comparison.second.report.layers[layer].points[int(channel)]  # type: ignore[index]
    assert shape["xanchor"] == pytest.approx(float(points[sample, 0]), abs=1e-3, rel=1e-3)
    assert shape["yanchor"] == pytest.approx(float(points[sample, 1]), abs=1e-3, rel=1e-3)
