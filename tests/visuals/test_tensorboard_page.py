"""The pages of TensorBoard, as a browser shows them, for a short run of the quickstart."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import open_browser
from filterwatch.cli import main
from tensorboard_server import serve_tensorboard

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
EPOCHS = 4  # with "ignore outliers", TensorBoard draws no line of two points
# Width and height in pixels.
SIZES = {
    "anomaly_filters/clusters_1": [960, 520],
    "anomaly_filters/layers": [860, 275],
    "anomaly_filters/training": [860, 560],
}

# TensorBoard's elements are nested in shadow trees, which selectors do not enter.
DEEP = """
const found = [];
const walk = node => {
  if (node.matches && node.matches(arguments[0])) found.push(node);
  for (const child of node.children || []) walk(child);
  if (node.shadowRoot) walk(node.shadowRoot);
};
const text = node => {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (['STYLE', 'SCRIPT', 'TEMPLATE'].includes(node.tagName)) return '';
  const inside = [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes];
  return inside.map(text).join(' ').replace(/\\s+/g, ' ').trim();
};
walk(document.body);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser and the address of a TensorBoard that serves the run."""
    with open_browser(1500, 1100) as driver:  # first: without one, there is no need to train
        logs = tmp_path_factory.mktemp("logs")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PL_GLOBAL_SEED", "0")
            patch.setenv("PL_SEED_WORKERS", "0")
            options = [f"--trainer.max_epochs={EPOCHS}", "--trainer.accelerator=cpu"]
            save_to = f"--trainer.logger.init_args.save_dir={logs}"
            main(["fit", "--config", str(QUICKSTART), *options, save_to])
        with serve_tensorboard(logs, logs) as address:
            yield driver, address


def opened(page: Any, tab: str) -> Callable[..., Any]:
    """Open a tab of TensorBoard; return a function that asks its page by a script."""
    driver, address = page
    driver.get("about:blank")  # a mere change of the fragment would not load it again
    driver.get(f"{address}#{tab}")
    return lambda script, *args: driver.execute_script(DEEP + script, *args)


def eventually(ask: Callable[[], Any], expected: Any, seconds: float = 90.0) -> None:
    """Wait for an answer: TensorBoard reads its files and draws in its own time."""
    until = time.monotonic() + seconds
    while (answer := ask()) != expected and time.monotonic() < until:
        time.sleep(0.5)
    assert answer == expected


@pytest.mark.browser
def test_the_dashboard_has_a_line_a_chart_and_memorization_first(page: Any) -> None:
    ask = opened(page, "custom_scalars")

    def charts() -> dict[str, list[Any]]:
        """Return what each chart says that it shows, and how many bands; drawn lines alone."""
        shown = ask(
            """
            return found.map(card => {
              const chart = card.shadowRoot
                .querySelector('tf-line-chart-data-loader').shadowRoot
                .querySelector('vz-line-chart2');
              const drawn = kind => chart.shadowRoot.querySelectorAll(`path.${kind}[d]`).length;
              return [card.title, text(card), drawn('line'), drawn('area')];
            });
            """,
            "tf-custom-scalar-multi-line-chart-card, tf-custom-scalar-margin-chart-card",
        )
        return {
            title: [*re.findall(r"(\S+) \((?:quickstart|version_)", words), n_bands]
            for title, words, n_lines, n_bands in shown
            if n_lines
        }

    eventually(
        charts,
        {
            "memorization": ["memorization", 0],
            "generalization_gap": ["generalization_gap", 0],
            "memorized_samples": ["memorized_samples", 0],
            "anomaly_filters": ["anomaly_filters", 0],
            "val_loss (line), train_loss (edge of the band)": ["val_loss", 1],
            "val_accuracy (line), train_accuracy (edge of the band)": ["val_accuracy", 1],
        },
    )
    dashboards = ask("return found.map(text);", "tf-category-paginated-view")
    assert len(dashboards) == 1
    assert dashboards[0].startswith("Overfitting 6 memorization")


@pytest.mark.browser
def test_the_pictures_arrive_as_they_were_drawn(page: Any) -> None:
    ask = opened(page, "images")

    def sizes() -> dict[str, list[int]]:
        loaded = ask(
            """
            return found.map(loader => {
              const image = loader.shadowRoot.querySelector('img');
              return [loader.tag, image ? [image.naturalWidth, image.naturalHeight] : []];
            });
            """,
            "tf-image-loader",
        )
        return {tag: size for tag, size in loaded if tag in SIZES}

    eventually(sizes, SIZES)
