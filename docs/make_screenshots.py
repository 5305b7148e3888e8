"""Make the pictures of README and docs: train the quickstart, and photograph it in TensorBoard.

    python docs/make_screenshots.py [--logs DIRECTORY]

Needs Chromium and its driver. Overwrites ``docs/images/*.png``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import find_browser, open_browser  # noqa: E402
from filterwatch.cli import main as filterwatch  # noqa: E402
from tensorboard_server import serve_tensorboard  # noqa: E402

IMAGES = ROOT / "docs" / "images"
LARGEST = 300_000  # bytes of a file
# Name of a file, and of the picture in the log.
PICTURES = {
    "memorization": "memorization/layers",
    "memorized_samples": "memorization/samples",
    **{
        name: f"anomaly_filters/{name}"
        for name in ("clusters_1", "isolated_samples", "layers", "training")
    },
}

# TensorBoard's elements are nested in shadow trees, which selectors do not enter.
DEEP = """
const found = [];
const walk = node => {
  if (node.matches && node.matches(arguments[0])) found.push(node);
  for (const child of node.children || []) walk(child);
  if (node.shadowRoot) walk(node.shadowRoot);
};
walk(document.body);
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--logs", type=Path, help="log directory of a finished quickstart; by default it is trained"
    )
    logs = parser.parse_args(arguments).logs
    if find_browser() is None:
        parser.error("no browser found: apt-get install chromium chromium-driver")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if logs is None:
            logs = Path(scratch) / "logs"
            save_to = f"--trainer.logger.init_args.save_dir={logs}"
            config = str(ROOT / "configs" / "quickstart.yaml")
            filterwatch(["fit", "--config", config, save_to])
        save_pictures(logs)
        save_pages(logs)


def save_pictures(logs: Path) -> None:
    """Save the newest of each picture as it lies in the log."""
    written = max(logs.rglob("events*"), key=lambda path: path.stat().st_mtime).parent
    events = EventAccumulator(str(written), size_guidance={"images": 0}).Reload()
    for name, tag in PICTURES.items():
        newest = events.Images(tag)[-1]
        save(Image.open(io.BytesIO(newest.encoded_image_string)), name)


def save_pages(logs: Path) -> None:
    """Photograph TensorBoard's pages."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve_tensorboard(logs.resolve(), Path(scratch)) as address,
        open_browser(1500, 1000) as driver,
    ):
        # Every value as it is: neither smoothed nor cut off.
        driver.get(f"{address}#custom_scalars&_smoothingWeight=0")
        wait_for(driver, "tf-custom-scalar-multi-line-chart-card", 4)
        toggle(driver, "Ignore outliers in chart scaling")
        photograph(driver, "tensorboard_custom_scalars")

        driver.get("about:blank")
        driver.get(f"{address}#images")
        wait_for(driver, "tf-image-loader", 4)
        photograph(driver, "tensorboard_images")

        driver.get("about:blank")
        driver.get(f"{address}?darkMode=true#images")
        wait_for(driver, "tf-image-loader", 4)
        toggle(driver, "Show actual image size")
        photograph(driver, "tensorboard_images_dark")


def wait_for(driver: Any, selector: str, n_elements: int, seconds: float = 60) -> None:
    """Wait for so many elements, and until they have drawn what they show."""
    until = time.monotonic() + seconds
    while driver.execute_script(DEEP + "return found.length;", selector) < n_elements:
        if time.monotonic() > until:
            raise RuntimeError(f"TensorBoard did not show {n_elements} {selector}")
        time.sleep(0.5)
    time.sleep(5)


def toggle(driver: Any, words: str) -> None:
    """Click a checkbox."""
    script = "found.find(box => box.textContent.includes(arguments[1])).click();"
    driver.execute_script(DEEP + script, "paper-checkbox", words)
    time.sleep(5)


def photograph(driver: Any, name: str) -> None:
    """Save what the browser shows."""
    save(Image.open(io.BytesIO(driver.get_screenshot_as_png())), name)


def save(image: Image.Image, name: str) -> None:
    """Save an image as small as it goes: few colours, where true ones would take too much."""
    path = IMAGES / f"{name}.png"
    image = image.convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {image.width} x {image.height} pixels, {size / 1000:.0f} kB")
    if size > LARGEST:
        raise RuntimeError(f"{path} is larger than {LARGEST} bytes")


if __name__ == "__main__":
    main()
