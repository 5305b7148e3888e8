"""The HTML reports as a reader meets them: in a browser, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from browser import open_browser
from filterwatch import AnomalyCriteria, AnomalyReport, detect_anomaly_filters
from filterwatch.analysis import Analysis, analyze, load_model, sample_probe
from filterwatch.analysis.comparison import Comparison, compare
from filterwatch.detection.criteria import flag_anomalies
from filterwatch.visuals.html import write_comparison, write_report
from finished_models import save_classifier, write_classes

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.browser

CRITERIA = {"small_cluster_size": 4, "small_cluster_ratio": 0.2, "ch_ratio": 1.0}
SETTINGS: dict[str, Any] = {"max_clusters": 9, "batch_size": 50, "seed": 0}
KEYS = {
    "limit": "small_cluster_size",
    "smallClusterRatio": "small_cluster_ratio",
    "chRatio": "ch_ratio",
    "activationRatio": "activation_ratio",
}


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def comparison(analyses: list[Analysis]) -> Comparison:
    return compare(*analyses)


@pytest.fixture(scope="module")
def pages(
    analyses: list[Analysis], comparison: Comparison, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    root = tmp_path_factory.mktemp("pages")
    write_report(analyses[0], root / "report.html", n_charts=10)
    write_comparison(comparison, root / "comparison.html", n_charts=10)
    return {name: (root / f"{name}.html").as_uri() for name in ("report", "comparison")}


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    with open_browser(width=1400, height=1000, offline=True) as driver:
        yield driver


@pytest.fixture
def report_page(browser: WebDriver, pages: dict[str, str]) -> Iterator[WebDriver]:
    browser.get(pages["report"])
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def comparison_page(browser: WebDriver, pages: dict[str, str]) -> Iterator[WebDriver]:
    browser.get(pages["comparison"])
    yield browser
    assert browser.get_log("browser") == []


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


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_it_draws_everything_without_network_or_errors(
    name: str, browser: WebDriver, pages: dict[str, str]
) -> None:
    browser.get(pages[name])
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


def test_counts_are_those_of_the_report(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    assert shown_counts(report_page) == [report.count]
    tiles = texts(report_page, "#tiles .tile b")
    dead = sum(len(layer.dead) for layer in report.layers.values())
    assert tiles[:3] == [
        str(report.count),
        str(len(report.filters)),
        str(len(report.outlier_samples())),
    ]
    assert tiles[3] == f"{analyses[0].accuracy:.1%}"
    assert tiles[4] == str(dead) != "0"
    by_layer = dict(
        zip(
            texts(report_page, "#layer-table td:nth-child(1)"),
            texts(report_page, "#layer-table td:nth-child(5)"),
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
    assert len(counts) > 1 or key == "activationRatio"


def test_counts_agree_for_many_thresholds(report_page: WebDriver, analyses: list[Analysis]) -> None:
    report = analyses[0].report
    fractions = {small / clusters for clusters in range(2, 10) for small in range(clusters)}
    relative = [
        float(layer.ch_index[0] / layer.ch_index[~layer.ch_index.isnan()].mean())
        for layer in report.layers.values()
    ]
    tried = {
        "limit": [1, 2, 3, 7, 12, 40, 99],
        "smallClusterRatio": sorted(fractions),  # where rounding decides
        "chRatio": [0.0, 0.123, *relative, 1.7, 9.0],
        "activationRatio": [0.0, 0.3, 0.77, 1.0, 1.5, 4.0],
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
    for key in ("chRatio", "smallClusterRatio", "activationRatio"):
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
        enter(report_page, "chRatio", value)
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
    # By CH index, and dead filters last in both directions.
    ch_index = torch.cat([layer.ch_index for layer in report.layers.values()])
    order = ch_index.nan_to_num(-1).argsort(descending=True)
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
    find(report_page, "#flagged-only").click()
    assert texts(report_page, "#pager span")[0].endswith(f"of {report.count}")
    find(report_page, "#flagged-only").click()
    find(report_page, "#with-chart").click()
    assert texts(report_page, "#pager span")[0].endswith(f"of {report.count + 10}")
    find(report_page, "#with-chart").click()
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
    for button in report_page.find_elements("css selector", "#detail .outliers > p button"):
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


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_names_from_outside_are_text(name: str, browser: WebDriver, pages: dict[str, str]) -> None:
    browser.get(pages[name])
    body = find(browser, "body").text
    assert "<script>" in body
    assert "<i>0.ckpt" in body
    assert browser.execute_script("return document.scripts.length") == 3
    assert browser.execute_script("return document.querySelectorAll('i').length") == 0


def test_the_policy_stops_foreign_scripts_and_requests(
    browser: WebDriver, pages: dict[str, str]
) -> None:
    browser.get(pages["report"])
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
    seen = {}
    for scheme in ("dark", "light"):
        report_page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        card = find(report_page, "section").value_of_css_property("background-color")
        wait_for(report_page, "document.querySelector('#plot .xtick text') !== null")
        tick = find(report_page, "#plot .xtick text").value_of_css_property("fill")
        seen[scheme] = (card, tick)
    assert seen["light"] == ("rgba(255, 255, 255, 1)", "rgb(27, 31, 35)")
    assert seen["dark"] == ("rgba(27, 31, 36, 1)", "rgb(231, 234, 237)")


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
        assert samples == list(isolated)[:36]


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
