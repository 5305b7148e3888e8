"""Reading the HTML reports in a browser, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from filterwatch import AnomalyCriteria, AnomalyReport
from filterwatch.analysis import Analysis
from filterwatch.detection import flag_anomalies

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

CRITERIA = {"small_cluster_size": 4, "small_cluster_ratio": 0.2, "ch_ratio": 1.0}
SETTINGS: dict[str, Any] = {"max_clusters": 14, "batch_size": 50, "seed": 0}
KEYS = {
    "limit": "small_cluster_size",
    "small_cluster_ratio": "small_cluster_ratio",
    "ch_ratio": "ch_ratio",
    "activation_ratio": "activation_ratio",
}


def open_page(page: WebDriver, address: str) -> None:
    """Open a report, unfold it, and wait for its charts, so that no element is replaced later."""
    page.get(address)
    wait_for(page, "document.querySelector('#plot .point, #plot-1 .point') !== null")
    page.execute_script("document.querySelectorAll('details').forEach((it) => { it.open = true; })")


def find(page: WebDriver, selector: str) -> Any:
    return page.find_element("css selector", selector)


def texts(page: WebDriver, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"
    found: list[str] = page.execute_script(script, selector)
    return found


def shown_counts(page: WebDriver) -> list[int]:
    return [int(count) for count in find(page, "#count").get_attribute("data-count").split()]


def enter(page: WebDriver, key: str, value: float | str) -> None:
    """Write a threshold into the field beside its slider."""
    page.execute_script(
        """const box = document.getElementById(`threshold-${arguments[0]}`).closest('.slider');
        const field = box.querySelector('input[type="number"]');
        field.value = arguments[1];
        field.dispatchEvent(new Event('change'));""",
        key,
        str(value),
    )


def expected_count(report: AnomalyReport, criteria: AnomalyCriteria) -> int:
    limit = criteria.small_cluster_limit(report.n_samples)
    flags = (
        flag_anomalies(
            layer.cluster_sizes, layer.ch_index, layer.activation, limit=limit, criteria=criteria
        )
        for layer in report.layers.values()
    )
    return int(sum(flag.sum() for flag in flags))


def lonely_sample(analysis: Analysis, layer: str, channel: int) -> int:
    """Return the sample that is drawn farthest from all others."""
    points = analysis.report.layers[layer].points[channel]  # type: ignore[index]
    scaled = (points - points.amin(0)) / (points.amax(0) - points.amin(0))
    distances = torch.cdist(scaled, scaled).fill_diagonal_(9)
    return int(distances.amin(1).argmax())


def hover(page: WebDriver, plot: str, sample: int) -> None:
    from selenium.webdriver import ActionChains

    point = page.execute_script(
        """const plot = document.getElementById(arguments[0]);
        plot.scrollIntoView({ block: 'center' });
        const curve = plot.data.findIndex((trace) => trace.customdata.includes(arguments[1]));
        const at = plot.data[curve].customdata.indexOf(arguments[1]);
        return plot.querySelectorAll('.scatterlayer .trace')[curve].querySelectorAll('.point')[at];
        """,
        plot,
        sample,
    )
    ActionChains(page).move_to_element(point).perform()


def wait_for(page: WebDriver, condition: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 10).until(
        lambda driver: driver.execute_script(f"return {condition}")
    )
