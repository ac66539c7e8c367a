"""Look at pages as a browser lays them out."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

_SCRIPT = """<script>const page = document.documentElement;
    const wide = [...document.querySelectorAll(".scroll"), page].filter(
        part => part.scrollWidth > part.clientWidth);
    document.body.setAttribute("data-wide", wide.map(part => part.querySelector(
        "thead, h1").textContent).join("; "));
    document.body.setAttribute("data-page", page.clientWidth)</script></body>"""


def too_wide(page: Path, chromium: Path | str, directory: Path) -> list[str]:
    """Return the headings of tables that are wider than a window of 1280 px, the page last.

    Args:
      page: a page, which is changed.
      chromium: the browser.
      directory: a place for its profile.
    """
    page.write_text(page.read_text("utf-8").replace("</body>", _SCRIPT), "utf-8")
    call = [str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    call += [f"--user-data-dir={directory / 'profile'}", "--window-size=1280,900", "--dump-dom"]
    done = subprocess.run(
        [*call, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'data-wide="([^"]*)" data-page="1280"', done.stdout)
    assert found is not None
    return html.unescape(found[1]).split("; ") if found[1] else []
