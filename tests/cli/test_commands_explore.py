"""`explore` writes one self-contained page for any transactions."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.explore import render, run
from beam_fraud.cli.commands.simulate import run as simulate
from beam_fraud.cli.options import ExploreOptions, SimulateOptions
from beam_fraud.errors import Code, FraudError, UsageError
from tests.failing import fails

HOSTILE = "<script>alert('$1$')</script>"
DAY = 86_400


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explored") / "rows.parquet"
    simulate(SimulateOptions(out=str(path), days=20, accounts=100, merchants=50))
    return path


@pytest.fixture(scope="session")
def explored(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("report")
    options = ExploreOptions(
        files=(str(simulated),),
        schema="handbook",
        out=str(out / "new" / "report.html"),
        png=str(out / "png"),
    )
    return dict(run(options))


def schema(directory: Path, features: list[tuple[str, str]], roles: str = "") -> str:
    """Write a schema with any names to a file."""
    lines = [
        'name = "bank"',
        "[roles]",
        'event_time = "t"',
        'amount = "a"',
        'label = "y"',
        roles,
        "[time]",
        'unit = "s"',
    ]
    for column, kind in features:
        lines += ["[[feature]]", f"column = {json.dumps(column)}", f'kind = "{kind}"']
        lines.append('missing = "allow"')
    (directory / "bank.toml").write_text("\n".join(lines), "utf-8")
    return str(directory / "bank.toml")


def written(directory: Path, rows: int, columns: dict[str, Any]) -> str:
    value = {"t": [DAY * i // 5 for i in range(rows)], "a": [float(i) for i in range(rows)]}
    value["y"] = [int(i % 4 == 0) for i in range(rows)]
    pq.write_table(pa.table(value | columns), directory / "rows.parquet")
    return str(directory / "rows.parquet")


class Page(HTMLParser):
    """The elements and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.sections: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v or "" for k, v in attrs if k.endswith(("href", "src"))]
        if tag == "section":
            self.sections.append(dict(attrs)["id"] or "")


def page_of(result: dict[str, Any]) -> tuple[str, Page]:
    text = Path(result["out"]).read_text("utf-8")
    return text, Page(text)


def test_the_page_is_self_contained(explored: dict[str, Any]) -> None:
    text, page = page_of(explored)
    assert all(address.startswith("#") for address in page.addresses)
    assert "http" not in text
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert len(text) < 3_000_000


def test_the_page_has_every_section(explored: dict[str, Any]) -> None:
    text, page = page_of(explored)
    assert page.sections == [
        *("advice", "overview", "classes", "time-and-amount", "missing-values", "duplicates"),
        *("features", "separation", "correlation", "leakage-suspects"),
    ]
    for feature in explored["features"]:
        assert feature in text


def test_the_result_is_json_and_counts_every_row(explored: dict[str, Any], simulated: Path) -> None:
    decoded = json.loads(json.dumps(explored, allow_nan=False))
    table = pq.read_table(simulated)
    frauds = sum(table["TX_FRAUD"].to_pylist())
    assert decoded["rows_in"] == decoded["balance"]["rows"] == table.num_rows
    assert decoded["balance"]["frauds"] == frauds > 0
    for groups in (decoded["amounts"], *(decoded["over_time"][k] for k in ("hours", "weekdays"))):
        assert sum(group["rows"] for group in groups) == table.num_rows
        assert sum(group["frauds"] for group in groups) == frauds
    assert len(decoded["correlation"]["names"]) == len(decoded["features"]) + 2


def test_every_plot_becomes_a_file(explored: dict[str, Any]) -> None:
    names = {Path(path).stem for path in explored["png"]}
    assert {"class_balance", "by_day", "by_hour", "by_amount", "correlation"} <= names
    assert {"distributions", "separation"} <= names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in explored["png"])


def test_a_terminal_gets_a_summary(explored: dict[str, Any]) -> None:
    text = render(explored)
    assert f"{explored['balance']['frauds']:,}" in text
    assert "average precision" in text
    assert explored["out"] in text


def test_names_and_values_are_never_markup(tmp_path: Path) -> None:
    names = [
        (HOSTILE, "numeric"),
        ("$frac{", "numeric"),
        ("a&b;", "categorical"),
        ("号", "numeric"),
    ]
    columns: dict[str, Any] = {name: list(np.arange(40.0)) for name, kind in names}
    columns["a&b;"] = [HOSTILE, "\x1b[31m\u202e", "$$", None] * 10
    options = ExploreOptions(
        files=(written(tmp_path, 40, columns),),
        schema=schema(tmp_path, names),
        out=str(tmp_path / "report.html"),
    )
    text, page = page_of(dict(run(options)))
    assert "script" not in page.tags
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "$frac{" in text


def test_hundreds_of_features_make_a_small_page(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [f"feature number {i}" for i in range(300)]
    columns = {name: random.normal(size=200) for name in names}
    options = ExploreOptions(
        files=(written(tmp_path, 200, columns),),
        schema=schema(tmp_path, [(name, "numeric") for name in names]),
        out=str(tmp_path / "report.html"),
    )
    text, _ = page_of(dict(run(options)))
    assert len(text) < 3_000_000
    assert all(f"<td>{name}</td>" in text for name in names)


@pytest.mark.parametrize("label", [0, None])
def test_one_class_or_no_label_is_no_obstacle(tmp_path: Path, label: int | None) -> None:
    columns = {"y": pa.array([label] * 3, pa.int64()), "x": pa.nulls(3, pa.float64())}
    options = ExploreOptions(
        files=(written(tmp_path, 3, columns),),
        schema=schema(tmp_path, [("x", "numeric")]),
        out=str(tmp_path / "report.html"),
    )
    result = dict(run(options))
    _, page = page_of(result)
    assert "separation" not in page.sections
    assert {"overview", "features", "missing-values"} <= set(page.sections)
    render(result)


def test_times_limit_the_rows(tmp_path: Path) -> None:
    options = ExploreOptions(
        files=(written(tmp_path, 40, {}),),
        schema=schema(tmp_path, []),
        out=str(tmp_path / "report.html"),
        since="1970-01-03",
        until="1970-01-05",
    )
    message: Any = run(options)
    assert [day["group"] for day in message["over_time"]["calendar"]] == [
        "1970-01-03",
        "1970-01-04",
    ]


class TestRefusals:
    def options(self, tmp_path: Path, **columns: Any) -> ExploreOptions:
        return ExploreOptions(
            files=(written(tmp_path, 3, columns),),
            schema=schema(tmp_path, []),
            out=str(tmp_path / "report.html"),
        )

    def test_rows_that_are_all_dead_are_counted(self, tmp_path: Path) -> None:
        options = self.options(tmp_path, a=pa.nulls(3, pa.float64()))
        with fails(Code.ROWS_INVALID, r"of 3 records .* \(3 missing_amount\)"):
            run(options)
        assert not Path(options.out).exists()

    def test_a_page_under_the_name_of_something_else(self, tmp_path: Path) -> None:
        options = replace(self.options(tmp_path), out=str(tmp_path / "report.pdf"))
        with fails(Code.OUTPUT_NAME, r"report\.pdf: must end in \.html$", UsageError):
            run(options)

    def test_a_page_over_its_own_input(self, tmp_path: Path) -> None:
        options = self.options(tmp_path)
        with fails(Code.PLACE_SHARED, "--out", kind=UsageError):
            run(replace(options, out=options.files[0]))

    def test_a_directory_for_a_page(self, tmp_path: Path) -> None:
        with fails(Code.OUTPUT_NAME, "--out", kind=UsageError):
            run(replace(self.options(tmp_path), out=str(tmp_path)))

    @pytest.mark.parametrize("option", ["out", "png"])
    def test_an_invalid_place(self, tmp_path: Path, option: str) -> None:
        place = str(tmp_path / "rows.parquet" / "x")
        with pytest.raises(
            FraudError, match=rf"^--{option} .*: cannot be made \(Not a directory\); "
        ):
            run(replace(self.options(tmp_path), **{option: place + "/y.html"}))
