"""Pages are self-contained, and no data becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.evaluation.charts import (
    Notice,
    Plot,
    Section,
    Table,
    cell_text,
    legend_below,
    plot,
    render_page,
    save_plots,
)
from tests.requirements import need
from tests.review import browser

HOSTILE = '<script>alert("x")</script>'


def line(name: str = "line", caption: str = "A line.") -> Plot:
    return plot(name, caption, lambda axes: axes.plot([1, 2, 3], label=HOSTILE))


def sections() -> list[Section]:
    table = Table((HOSTILE, "n"), ((HOSTILE, 1), (None, 0.5)), HOSTILE)
    return [Section(HOSTILE, (HOSTILE, line(caption=HOSTILE), table, Notice(HOSTILE, True)))]


def test_a_page_is_self_contained() -> None:
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


def test_a_long_name_in_the_title_fits_a_phone(tmp_path: Path) -> None:
    need("chromium")
    page = tmp_path / "page.html"
    title = "hist_gradient_boosting@0123456789ab would have flagged 10 more a month"
    page.write_text(render_page(title, "s", sections()), "utf-8")
    with browser.browser() as driver:
        browser.show_as(driver, 390)
        driver.get(page.as_uri())
        assert not browser.is_too_wide(driver)


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


def test_fractions_of_a_column_have_as_many_decimals() -> None:
    rows = ((0.0990099, 0.25, 3), (1.0, 165.51, 4), (0.0, 1.0, 5), (0.0001, None, None))
    shown = Table(("precision", "most", "rows"), rows).texts()
    assert [row[0] for row in shown] == ["0.099", "1.000", "0.000", "0.0001"]
    assert [row[1] for row in shown] == ["0.250", "165.510", "1", "\N{EN DASH}"]
    assert [row[2] for row in shown] == ["3", "4", "5", "\N{EN DASH}"]


def test_columns_of_numbers_are_right_aligned_and_short_words_unbroken() -> None:
    rows = (("2024-01-27", "0.537 %", "a_long_name@97cf9d807f95"), ("b", None, "1"))
    page = render_page("t", "s", [Section("a", (Table(("day", "share", "model"), rows),))])
    assert '<th scope="col" class="number">share</th>' in page
    assert '<td class="short">2024-01-27</td><td class="number">0.537 %</td>' in page
    assert "<td>a_<wbr>long_<wbr>name@<wbr>97cf9d807f95</td>" in page


def test_a_legend_stands_under_the_axes() -> None:
    def draw(axes: Any) -> None:
        axes.plot([1, 2], [2, 1], label="a model of a very long name indeed")
        axes.plot([1, 2], [1, 2], label="another")
        legend_below(axes)

    drawing = plot("p", "c", draw).drawing
    drawing.draw_without_rendering()
    [legend] = drawing.legends
    assert legend.get_window_extent().y1 <= drawing.axes[0].get_tightbbox().y0


def test_text_between_backticks_is_code_and_never_markup() -> None:
    message = "give `--until X` or `<b>`"
    page = render_page("t", "s", [Section("a", (message, Notice(message)))])
    assert page.count("give <code>--until X</code> or <code>&lt;b&gt;</code></p>") == 2
    assert "`" not in page
