"""The HTML report of one model as a reader meets it, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from filterwatch import AnomalyCriteria, detect_anomaly_filters
from filterwatch.analysis import Analysis
from filterwatch.detection import nearly_dead

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
from report_pages import (
    CRITERIA,
    KEYS,
    SETTINGS,
    enter,
    expected_count,
    find,
    hover,
    lonely_sample,
    shown_counts,
    texts,
    wait_for,
)

pytestmark = pytest.mark.browser


def test_counts_are_those_of_the_report(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    assert shown_counts(report_page) == [report.count]
    dead = sum(len(layer.dead) for layer in report.layers.values())
    assert texts(report_page, "#tiles .tile b") == [
        str(len(report.outlier_samples())),
        str(report.count),
        f"{analyses[0].accuracy:.1%}",
        str(dead),
    ]
    assert dead > 0
    assert f"on {len(report.filters)} convolution filters" in find(report_page, "#tiles").text
    by_layer = dict(
        zip(
            texts(report_page, "#layer-table td:nth-child(1)"),
            texts(report_page, "#layer-table td:nth-child(2)"),
            strict=True,
        )
    )
    assert by_layer == {name: str(count) for name, count in report.count_by_layer.items()}


@pytest.mark.parametrize("key", list(KEYS))
def test_a_slider_gives_the_count_of_the_detection(
    key: str, report_page: WebDriver, analyses: list[Analysis]
) -> None:
    analysis = analyses[0]
    rows = torch.arange(100)
    pixels = analysis.images.preprocessing(analysis.images.pixels(rows), rows)
    slider = find(report_page, f"#threshold-{key}")
    counts = set()
    for arrow in ("\ue014", "\ue014", "\ue012", "\ue012", "\ue012", "\ue012"):  # right, left
        slider.send_keys(arrow * 2)
        value = float(slider.get_attribute("value"))
        asked: dict[str, Any] = {**CRITERIA, KEYS[key]: int(value) if key == "limit" else value}
        found = detect_anomaly_filters(
            analysis.model.module,
            pixels.split(50),
            criteria=AnomalyCriteria(**asked),
            max_clusters=SETTINGS["max_clusters"],
        )
        assert shown_counts(report_page) == [found.count]
        counts.add(found.count)
    assert len(counts) > 1 or key == "activation_ratio"


def test_counts_agree_for_many_thresholds(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    fractions = {small / clusters for clusters in range(2, 10) for small in range(clusters)}
    relative = [
        float(layer.ch_index[0] / layer.ch_index[~layer.ch_index.isnan()].mean())
        for layer in report.layers.values()
    ]
    tried = {
        "limit": [1, 2, 3, 7, 12, 40, 99],
        "small_cluster_ratio": sorted(fractions),  # where rounding decides
        "ch_ratio": [0.0, 0.123, *relative, 1.7, 9.0],
        "activation_ratio": [0.0, 0.3, 0.77, 1.0, 1.5, 4.0],
    }
    counts = set()
    for key, values in tried.items():
        find(report_page, "#reset").click()
        assert shown_counts(report_page) == [report.count]
        for value in values:
            enter(report_page, key, value)
            asked: dict[str, Any] = {**CRITERIA, KEYS[key]: value}
            count = expected_count(report, AnomalyCriteria(**asked))
            assert shown_counts(report_page) == [count], (key, value)
            counts.add(count)
    assert len(counts) > 10


def test_a_criterion_can_be_switched_off(report_page: WebDriver, analyses: list[Analysis]) -> None:
    asked: dict[str, Any] = dict(CRITERIA)
    for key in ("ch_ratio", "small_cluster_ratio", "activation_ratio"):
        box = f".slider:has(#threshold-{key}) input[type='checkbox']"
        find(report_page, box).click()
        asked[KEYS[key]] = None
        expected = expected_count(analyses[0].report, AnomalyCriteria(**asked))
        assert shown_counts(report_page) == [expected]
        assert not find(report_page, f"#threshold-{key}").is_enabled()
    # All that could be judged: the dead filters are never flagged.
    dead = sum(len(layer.dead) for layer in analyses[0].report.layers.values())
    assert expected == 416 - dead
    find(report_page, box).click()
    asked["activation_ratio"] = 0.2
    expected = expected_count(analyses[0].report, AnomalyCriteria(**asked))
    assert shown_counts(report_page) == [expected]


def test_nonsense_in_a_field_changes_nothing(
    report_page: WebDriver, analyses: list[Analysis]
) -> None:
    for value in ("-1", ""):
        enter(report_page, "ch_ratio", value)
        assert shown_counts(report_page) == [analyses[0].report.count]


def test_sorting(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    clusters = torch.cat([layer.n_clusters for layer in report.layers.values()])
    header = "#filter-table th:nth-child(3) button"
    find(report_page, header).click()
    shown = [int(text) for text in texts(report_page, "#filter-table td:nth-child(3)")]
    assert shown == clusters.sort(descending=True).values[:25].tolist()
    cell = find(report_page, "#filter-table th:nth-child(3)")
    assert cell.get_attribute("aria-sort") == "descending"
    find(report_page, header).click()
    shown = [int(text) for text in texts(report_page, "#filter-table td:nth-child(3)")]
    assert shown == clusters.sort().values[:25].tolist()
    # By CH index; dead filters, and those that nearly are, last in both directions.
    ch_index = torch.cat([layer.ch_index for layer in report.layers.values()])
    sizes = torch.cat([layer.cluster_sizes for layer in report.layers.values()])
    ch_index[nearly_dead(ch_index, sizes)] = torch.nan
    order = ch_index.nan_to_num(-1).argsort(descending=True, stable=True)
    find(report_page, "#filter-table th:nth-child(6) button").click()
    rows = report_page.execute_script(
        "return [...document.querySelectorAll('#filter-table tr.row')].map((r) => +r.dataset.row)"
    )
    assert rows == order[:25].tolist()
    for _ in range(16):
        find(report_page, "#pager [data-turn='1']").click()
    assert "dead" in texts(report_page, "#filter-table td:nth-child(1)")
    assert not find(report_page, "#pager [data-turn='1']").is_enabled()
    assert texts(report_page, "#pager span") == ["401–416 of 416"]


def test_searching_and_narrowing(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    names = "#filter-table td.name"
    search = find(report_page, "#search")
    search.send_keys("conv2 7")
    assert texts(report_page, names) == ["network.conv2\u00a0·\u00a07"]
    search.clear()
    search.send_keys("no such layer")
    assert texts(report_page, names) == []
    assert "No filter fits" in find(report_page, "#filter-table").text
    search.clear()
    search.send_keys(" ")
    find(report_page, "#notable-only").click()
    assert texts(report_page, "#pager span")[0].endswith(f"of {report.count}")
    find(report_page, "#notable-only").click()
    find(report_page, "#layer-table [data-layer='network.relu2'] button").click()
    assert texts(report_page, "#pager span") == ["1–25 of 64"]
    find(report_page, "#only .chip button").click()
    assert texts(report_page, "#pager span") == ["1–25 of 416"]


def test_isolated_images_lead_to_their_filters(
    report_page: WebDriver, analyses: list[Analysis]
) -> None:
    report = analyses[0].report
    sample, count = next(iter(report.outlier_samples().items()))
    first = find(report_page, "#gallery .card")
    assert first.get_attribute("data-sample") == str(sample)
    first.find_element("css selector", "button").click()
    rows = report_page.execute_script(
        "return [...document.querySelectorAll('#filter-table td.name')].map((c) => c.textContent)"
    )
    isolating = {
        f"{anomaly.layer}\u00a0·\u00a0{anomaly.channel}"
        for anomaly in report.anomalies
        if sample in anomaly.outliers
    }
    assert len(isolating) == count
    assert set(rows) == isolating if count <= 25 else len(rows) == 25


def test_hovering_a_point_shows_its_image(report_page: WebDriver, analyses: list[Analysis]) -> None:
    analysis = analyses[0]
    chosen = int(find(report_page, "tr.chosen").get_attribute("data-row"))
    starts, at = list(analysis.report.layers.items()), chosen
    while at >= len(starts[0][1].ch_index):
        at -= len(starts.pop(0)[1].ch_index)
    sample = lonely_sample(analysis, starts[0][0], at)
    assert not find(report_page, "#tooltip").is_displayed()
    hover(report_page, "plot", sample)
    wait_for(report_page, f"document.getElementById('tooltip').dataset.sample === '{sample}'")
    tooltip = find(report_page, "#tooltip")
    assert tooltip.is_displayed()
    assert analysis.images.files[sample] in tooltip.text
    assert analysis.images.labels is not None
    label = analysis.images.class_names[int(analysis.images.labels[sample])]
    assert f"label {label}" in tooltip.text
    assert analysis.predictions is not None
    predicted = analysis.output_names[int(analysis.predictions[sample])]
    assert f"predicted {predicted} (" in tooltip.text
    thumb = find(report_page, "#tooltip .thumb")
    column, row = sample % 10, sample // 10
    place = thumb.value_of_css_property("background-position")
    assert place == f"{-column * 128}px {-row * 128}px".replace("-0px", "0px")


def test_outliers_of_the_chosen_filter_are_listed_and_ringed(
    report_page: WebDriver, analyses: list[Analysis]
) -> None:
    report = analyses[0].report
    anomaly = report.anomalies[-1]
    search = find(report_page, "#search")
    search.send_keys(f"{anomaly.layer} {anomaly.channel}")
    find(report_page, "#filter-table td.name button").click()
    heading = find(report_page, "#detail h3").text
    assert heading.startswith(f"{anomaly.layer} · channel {anomaly.channel}")
    for button in report_page.find_elements("css selector", "#detail .gallery > button"):
        button.click()
    samples = report_page.execute_script(
        "return [...document.querySelectorAll('#detail .card')].map((card) => +card.dataset.sample)"
    )
    assert sorted(samples) == anomaly.outliers
    ringed = report_page.execute_script(
        """return document.getElementById('plot').data
        .filter((trace) => trace.marker.line.width > 2).flatMap((trace) => trace.customdata)"""
    )
    assert sorted(ringed) == anomaly.outliers
    # Focus alone, as from the keyboard, marks the image in the plot.
    report_page.execute_script("document.querySelector('#detail .card').focus()")
    assert wait_for(report_page, "document.getElementById('plot').layout.shapes?.length === 1")


def test_what_has_no_chart_says_so(report_page: WebDriver) -> None:
    find(report_page, "#search").send_keys("network.conv1 3")
    find(report_page, "#filter-table td.name button").click()
    assert "the same for every image" in find(report_page, "#detail").text
    find(report_page, "#filter-table th:nth-child(1) button").click()  # least anomalous first
    find(report_page, "#search").clear()
    find(report_page, "#search").send_keys(" ")
    find(report_page, "#filter-table td.name button").click()
    assert "not of this filter" in find(report_page, "#detail").text
