"""A headless browser for tests of what people look at."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # the user of a container is root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # Nothing that is not the page's own: no updates, no sync, no pre-loading.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


def find_browser() -> tuple[str, str] | None:
    """Return the paths of a browser and of its driver, or ``None`` where one of them is missing."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return None if browser is None or driver is None else (browser, driver)


@contextmanager
def open_browser(
    width: int = 1280, height: int = 900, *, offline: bool = False
) -> Iterator[WebDriver]:
    """Open a browser with a fresh profile, and close it at the end.

    The page's console is recorded: ``driver.get_log("browser")``. Where no browser is found, the
    calling test is skipped.

    Args:
        width: Width of the window in pixels.
        height: Height of the window in pixels.
        offline: Whether every host is out of reach, so that only files open.
    """
    found = find_browser()
    if found is None:
        pytest.skip(
            "no browser found: install Chromium and its driver "
            "(apt-get install chromium chromium-driver)"
        )
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium drives the browser: pip install selenium"
    )
    browser, driver_path = found
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (
            *_ARGUMENTS,
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        if offline:
            options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The path keeps selenium from looking for a driver on the internet.
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
        try:
            driver.set_page_load_timeout(120)
            driver.set_script_timeout(60)
            yield driver
        finally:
            driver.quit()
