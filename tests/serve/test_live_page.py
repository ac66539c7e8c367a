"""The live page of a server in Chromium: two sizes, light and dark, and how it renews itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from beam_fraud.monitoring.live_figures import LiveFigures
from beam_fraud.serve.http import live_page
from tests.live_sample import live_figures
from tests.requirements import need
from tests.review import browser
from tests.serve.stand_in import TOKEN, served


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    need("chromium")
    with browser.browser() as driver:
        yield driver


@pytest.mark.parametrize("figures", [None, live_figures()], ids=["before", "later"])
def test_the_page_fits_and_loads_itself_again(
    figures: LiveFigures | None, driver: WebDriver, tmp_path: Path
) -> None:
    directory = Path(os.environ.get("BEAM_FRAUD_SCREENSHOTS") or tmp_path)
    with served() as running:
        running.metrics.live = lambda: figures
        address = running.url.replace("://", f"://anyone:{TOKEN}@") + "/live"
        for width in (390, 1280):
            for dark in (False, True):
                browser.show_as(driver, width, dark=dark)
                driver.get(address)
                assert browser.one(driver, "h1").text == "Live"
                assert browser.faults(driver) == [], (width, dark)
                assert not browser.is_too_wide(driver), width
                assert browser.complaints(driver) == []
                shade = "-dark" if dark else ""
                browser.picture(driver, directory / f"serve-live-{width}{shade}.png")


def test_the_figures_are_renewed(driver: WebDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "REFRESH_SECONDS", 1)
    shown = [live_figures()]
    with served() as running:
        running.metrics.live = lambda: shown[0]
        driver.get(running.url.replace("://", f"://anyone:{TOKEN}@") + "/live")
        assert "751,204" in browser.one(driver, "#live").text
        shown[0] = msgspec.structs.replace(live_figures(), outcomes={"scored": 751_999})
        browser.wait(driver, lambda driver: "751,999" in browser.one(driver, "#live").text)
        assert browser.complaints(driver) == []
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get(driver.current_url)
        shown[0] = msgspec.structs.replace(live_figures(), outcomes={"scored": 752_000})
        browser.wait(driver, lambda driver: "752,000" in browser.one(driver, "#live").text)
