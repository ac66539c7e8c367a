"""Chromium, as a person's browser: windows of two sizes, in light and dark, and axe-core."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from beam_fraud.review.http.cookies import SESSION_COOKIE
from tests.requirements import need

#: Seconds that a page may take; none takes as long.
_PATIENCE = 30.0


@contextmanager
def browser() -> Iterator[WebDriver]:
    """Start a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(need("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    # What scripts and the policy of content refuse is written there.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(need("chromedriver")))
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()


def show_as(driver: WebDriver, width: int, *, dark: bool = False, height: int = 900) -> None:
    """Set the width of the window in pixels, and whether the person prefers dark pages."""
    scheme = "dark" if dark else "light"
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def log_in(driver: WebDriver, url: str, token: str) -> None:
    """Give the browser the cookie of a session."""
    driver.execute_cdp_cmd(
        "Network.setCookie",
        {
            "name": SESSION_COOKIE,
            "value": token,
            "url": url,
            "path": "/",
            "secure": True,
            "httpOnly": True,
            "sameSite": "Lax",
        },
    )


def press(driver: WebDriver, *keys: str) -> None:
    """Press keys, one after the other, wherever the focus is."""
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def wait(driver: WebDriver, condition: Callable[[WebDriver], Any]) -> Any:
    """Wait until a condition holds, and return what it says; the page may change meanwhile."""
    gone = (StaleElementReferenceException, NoSuchElementException)
    return WebDriverWait(driver, _PATIENCE, 0.05, gone).until(condition)


def one(driver: WebDriver, selector: str) -> WebElement:
    """Return the first element of a CSS selector, once the page has one.

    A click does not wait for the page that it asks for where scripts are off.
    """
    try:
        return cast(
            WebElement, wait(driver, lambda driver: driver.find_element(By.CSS_SELECTOR, selector))
        )
    except TimeoutException:
        text = driver.find_element(By.TAG_NAME, "body").text
        raise AssertionError(f"no {selector} at {driver.current_url}:\n{text}") from None


def faults(driver: WebDriver) -> list[str]:
    """Return what axe-core finds serious or critical on the page, a line each."""
    script = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    # By the protocol of the browser's tools, which the policy of content does not bind.
    found = driver.execute_cdp_cmd("Runtime.evaluate", {"expression": f"{script};0"})
    assert "exceptionDetails" not in found
    results = driver.execute_async_script(
        "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(done)"
    )
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:160]} {node['failureSummary'][:200]}"
        for fault in results["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


def complaints(driver: WebDriver) -> list[str]:
    """Return what the browser's console has: errors of scripts and of the policy of content."""
    return [str(entry["message"]) for entry in driver.get_log("browser")]


def is_too_wide(driver: WebDriver) -> bool:
    """Return whether the page has to be scrolled sideways."""
    return bool(
        driver.execute_script(
            "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
        )
    )


def broken_words(driver: WebDriver) -> list[str]:
    """Return cells of tables that scroll sideways whose single word is on several lines."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('.scroll td')].filter(cell => {"
            "const text = cell.textContent.trim(); const range = document.createRange();"
            "range.selectNodeContents(cell);"
            "const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));"
            "return text && text.length < 40 && !/\\s/.test(text) && lines.size > 1;"
            "}).map(cell => cell.textContent.trim())"
        )
    )


def picture(driver: WebDriver, file: Path, *, most: int = 1400) -> None:
    """Write a picture of the page, from its top on.

    Args:
      driver: the browser.
      file: a PNG file.
      most: maximum of its height in pixels.
    """
    size = driver.execute_script(
        "const page = document.documentElement; return [page.clientWidth, page.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], most), "scale": 1}
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
    )
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    # A page has few colours.
    image.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
