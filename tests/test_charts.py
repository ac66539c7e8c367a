"""Pages hold all they show, and nothing in the data becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from beam_fraud.charts.figure import Plot, plot
from beam_fraud.charts.page import Notice, Section, Table, cell_text, render_page, save_plots

HOSTILE = '<script>alert("x")</script>'


def line(name: str = "line", caption: str = "A line.") -> Plot:
    return plot(name, caption, lambda axes: axes.plot([1, 2, 3], label=HOSTILE))


def sections() -> list[Section]:
    table = Table((HOSTILE, "n"), ((HOSTILE, 1), (None, 0.5)), HOSTILE)
    return [Section(HOSTILE, (HOSTILE, line(caption=HOSTILE), table, Notice(HOSTILE, True)))]


def test_a_page_needs_no_other_place() -> None:
    addresses: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "link", "img", "iframe"}
            addresses.extend(v or "" for k, v in attrs if k.endswith(("href", "src")))

    text = render_page(HOSTILE, HOSTILE, sections())
    Reader().feed(text)
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert "http" not in text


def test_the_same_data_give_the_same_page() -> None:
    assert render_page("t", "s", sections()) == render_page("t", "s", sections())


def test_plots_become_files(tmp_path: Path) -> None:
    [path] = save_plots(sections(), tmp_path / "new")
    assert path.name == "line.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (1234567, "1,234,567"),
        (0.123456, "0.123"),
        (0.00012345, "0.0001234"),
        (12.0, "12"),
        ("a", "a"),
    ],
)
def test_cells(cell: str | float | None, text: str) -> None:
    assert cell_text(cell) == text


def test_what_stands_between_backticks_is_code_and_never_markup() -> None:
    said = "give `--until X` or `<b>`"
    page = render_page("t", "s", [Section("a", (said, Notice(said)))])
    assert page.count("give <code>--until X</code> or <code>&lt;b&gt;</code></p>") == 2
    assert "`" not in page
