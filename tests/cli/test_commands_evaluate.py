"""`evaluate` for its user: comparisons, reports, unusual data."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.dummy import DummyClassifier

from beam_fraud.cli.commands import compare_models, evaluate, explore, import_model, train
from beam_fraud.cli.options import (
    CompareModelsOptions,
    EvaluateOptions,
    ExploreOptions,
    ImportModelOptions,
    TrainOptions,
)
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.charts import Plot
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.toml import load_schema
from tests.failing import fails
from tests.pages import too_wide
from tests.requirements import need
from tests.shop import SHOP

#: What a bank may have named a merchant: markup in HTML, in Markdown and to Matplotlib.
HOSTILE = '</td><script>alert("x")</script>|**b**$\\frac{$'
SCHEMA = (
    SHOP
    + """[[feature]]
column = "$h_1^{"
kind = "categorical"
missing = "allow"
"""
)
ROWS = 1500
#: The first moment of the later rows.
LATER = "2024-01-15"


def table() -> pa.Table:
    """A transaction every 20 minutes from 2024-01-01 on; large ones of kind x are frauds."""
    random = np.random.default_rng(0)
    kind = random.choice(["x", "y", HOSTILE], ROWS)
    price = random.lognormal(3, 1, ROWS).round(2)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    return pa.table(
        {
            "id": [f"t{i}" for i in range(ROWS)],
            "t": pa.array(start + np.arange(ROWS) * np.timedelta64(20, "m")),
            "card": random.integers(0, 50, ROWS),
            "shop": random.choice([HOSTILE, *(f"s{i}" for i in range(20))], ROWS),
            "price": price,
            "$h_1^{": kind,
            "fraud": ((kind == "x") & (price * random.lognormal(0, 0.3, ROWS) > 40)).astype(int),
            "scenario": random.integers(0, 3, ROWS),
            "ratio": random.random(ROWS),
        }
    )


class Shop:
    """Transactions and two models of the earlier ones."""

    def __init__(self, place: Path) -> None:
        self.data = str(place / "data.parquet")
        self.schema = str(place / "shop.toml")
        self.place = place
        pq.write_table(table(), self.data)
        Path(self.schema).write_text(SCHEMA)
        self.models = [self._trained("logistic", "a"), self._trained("forest", "b$<i>", "trees=5")]
        self.options = EvaluateOptions(
            files=(self.data,), models=(self.models[0],), since=LATER, resamples=50, cards=5
        )

    def _trained(self, kind: str, name: str, *settings: str) -> str:
        out = str(self.place / kind)
        options = TrainOptions(
            files=(self.data,),
            schema=self.schema,
            model=kind,
            out=out,
            until=LATER,
            name=name,
            settings=settings,
        )
        train.run(options)
        return out


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def reports(shop: Shop) -> dict[str, str]:
    """Reports of both models, by ending, and the result as `result`."""
    place = shop.place / "reports"
    place.mkdir()
    out = tuple(str(place / f"r{ending}") for ending in (".html", ".json", ".md"))
    options = replace(
        shop.options,
        models=(shop.options.models[0], shop.models[1]),
        out=out,
        png=str(place / "png"),
        segments=("scenario", "card", "$h_1^{"),
    )
    result = evaluate.run(options)
    actual = {Path(path).suffix: Path(path).read_text("utf-8") for path in out}
    return {**actual, "result": json.dumps(result)}


def test_one_model_has_the_keys_it_always_had_and_intervals(shop: Shop) -> None:
    result: dict[str, Any] = evaluate.run(shop.options)
    assert {"model_id", "rows", "average_precision", "confusion", "per_class"} <= result.keys()
    assert {"rows_in", "rows_dead", "rows_duplicate"} <= result.keys()
    interval = result["intervals"]["average_precision"]
    assert interval["low"] <= result["average_precision"] <= interval["high"]
    assert result["bootstrap"] == {"unit": "accounts", "resamples": 50, "seed": 0}
    assert result["warnings"] == []
    assert "resamples of the accounts (seed 0)" in evaluate.render(result)


def test_models_are_compared_on_the_same_rows(shop: Shop, reports: dict[str, str]) -> None:
    result = json.loads(reports["result"])
    first, second = result["models"]
    assert (first["rows"], first["frauds"]) == (second["rows"], second["frauds"])
    alone: dict[str, Any] = evaluate.run(replace(shop.options, models=(shop.models[1],)))
    assert second["average_precision"] == alone["average_precision"]
    [comparison] = result["comparisons"]
    assert (comparison["model_id"], comparison["against"]) == (
        second["model_id"],
        first["model_id"],
    )
    by_name = {d["figure"]: d["value"] for d in comparison["differences"]}
    assert by_name["recall"] == pytest.approx(second["recall"] - first["recall"])
    text = evaluate.render(result)
    assert f"{second['model_id']} against {first['model_id']}" in text
    assert f"{first['rows']:,} rows" in text
    assert f"{second['average_precision']:.4f}" in text


def test_the_page_holds_every_section_and_no_markup_of_the_data(reports: dict[str, str]) -> None:
    headings: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "i", "b", "link", "img", "iframe"}
            if tag == "section":
                headings.append(dict(attrs)["id"] or "")

    Reader().feed(reports[".html"])
    assert headings == [
        *("summary", "differences", "curves", "days", "costs", "scores", "calibration"),
        *("features", "segments", "weeks"),
    ]
    assert "http" not in reports[".html"].replace("https:", "")
    assert "&lt;script&gt;" in reports[".html"]


def test_markdown_has_the_same_tables_with_names_that_are_no_markup(
    reports: dict[str, str],
) -> None:
    lines = reports[".md"].splitlines()
    assert "## Calibration" in lines
    assert all("<script" not in line.replace("\\<", "") for line in lines)
    cells = [line.replace("\\|", "").count("|") for line in lines]
    tables = "".join("|" if count else "\n" for count in cells).split("\n")
    assert sum(bool(rows) for rows in tables) > 10
    starts = [i for i, line in enumerate(lines) if line.startswith(("|---", "|--"))]
    assert len(starts) > 10
    for start in starts:
        row = start - 1
        while row < len(lines) and lines[row].startswith("|"):
            assert cells[row] == cells[start]
            row += 1


def test_json_has_every_figure(reports: dict[str, str]) -> None:
    report = json.loads(reports[".json"])
    assert report["resamples"] == 50
    for model in report["models"]:
        assert len(model["curves"]["precision"]) == len(model["curves"]["thresholds"])
        assert model["card_precision"] is not None
        names = [t["name"] for t in model["segments"]]
        assert names == [
            *("amount", "hour", "weekday", "merchant_id", "$h_1^{", "scenario", "account_id")
        ]
        for segmented in model["segments"]:
            assert sum(s["rows"] for s in segmented["segments"]) == model["metrics"]["rows"]
            assert sum(s["frauds"] for s in segmented["segments"]) == model["metrics"]["frauds"]
        features = {f["feature"] for f in model["permutation_importance"]["features"]}
        assert features == {f for f, _ in model["native_importance"]["features"]}
        assert "scenario" not in features
        assert sum(d["rows"] for d in model["days"]) == model["metrics"]["rows"]
        assert sum(w["rows"] for w in model["stability"]["weeks"]) == model["metrics"]["rows"]
    scenarios = report["models"][0]["segments"][5]["segments"]
    assert [s["name"] for s in scenarios] == ["0", "1", "2"]


def test_plots_are_written_as_files(shop: Shop, reports: dict[str, str]) -> None:
    names = {path.stem for path in (shop.place / "reports" / "png").glob("*.png")}
    assert {"precision_recall", "roc", "cost", "reliability", "scores_1", "scores_2"} <= names
    written = json.loads(reports["result"])["reports"]
    assert len([path for path in written if path.endswith(".png")]) == len(names)


def test_the_same_call_gives_the_same_report(shop: Shop, tmp_path: Path) -> None:
    texts = []
    for name in ("one.json", "two.json"):
        evaluate.run(replace(shop.options, out=(str(tmp_path / name),)))
        report = json.loads((tmp_path / name).read_text())
        texts.append({key: value for key, value in report.items() if key != "created"})
    assert texts[0] == texts[1]


def test_training_rows_lead_to_a_warning(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = tmp_path / "r.md"
    with caplog.at_level(logging.WARNING):
        result = evaluate.run(replace(shop.options, since="2024-01-10", out=(str(page),)))
    [warning] = [r.getMessage() for r in caplog.records if "was fitted on" in r.getMessage()]
    assert "\n" not in warning
    assert result["warnings"] == [warning]
    assert "> **" in page.read_text()
    assert "promise too much" in page.read_text()


@pytest.mark.parametrize("frauds", [0, 1, 10])
def test_ten_rows_and_constant_scores_make_a_report(
    shop: Shop, tmp_path: Path, frauds: int
) -> None:
    rows = table().slice(0, 10)
    labels = pa.array([int(i < frauds) for i in range(10)])
    rows = rows.set_column(rows.column_names.index("fraud"), "fraud", labels)
    pq.write_table(rows, tmp_path / "ten.parquet")
    constant = DummyClassifier(strategy="prior").fit(np.zeros((4, 3)), [0, 0, 0, 1])
    joblib.dump(constant, tmp_path / "m.joblib")
    imported, plain = str(tmp_path / "constant"), tmp_path / "plain.toml"
    plain.write_text(SCHEMA.partition("[[feature]]")[0])
    import_model.run(
        ImportModelOptions(
            file=str(tmp_path / "m.joblib"),
            schema=str(plain),
            trust=True,
            out=imported,
            features=",".join(FeatureSet(load_schema(str(plain))).names),
        )
    )
    out = tuple(str(tmp_path / f"r{ending}") for ending in (".html", ".json", ".md"))
    options = replace(
        shop.options,
        files=(str(tmp_path / "ten.parquet"),),
        models=(imported, shop.models[0]),
        since=None,
        out=out,
    )
    result = evaluate.run(options)
    assert evaluate.render(result)
    report = json.loads(Path(out[1]).read_text())
    assert [m["metrics"]["frauds"] for m in report["models"]] == [frauds] * 2
    both = 0 < frauds < 10
    assert (report["models"][0]["intervals"]["roc_auc"] is not None) == both


@pytest.mark.parametrize(
    ("label", "rows", "figure", "message"),
    [
        (0, 1200, "recall", "none of the 1,200"),
        (1, 1200, "roc_auc", "each of the 1,200"),
        (0, 1, "recall", "none of the 1 rows"),
        (1, 1, "roc_auc", "each of the 1 rows"),
    ],
)
def test_rows_of_one_class_make_reports_with_undefined_figures(
    shop: Shop, tmp_path: Path, label: int, rows: int, figure: str, message: str
) -> None:
    """1,200 rows span three weeks, and each week has an undefined figure."""
    data = table().slice(0, rows)
    labels = pa.array([label] * rows)
    data = data.set_column(data.column_names.index("fraud"), "fraud", labels)
    pq.write_table(data, tmp_path / "one.parquet")
    out = tuple(str(tmp_path / f"r{ending}") for ending in (".html", ".json", ".md"))
    options = replace(
        shop.options,
        files=(str(tmp_path / "one.parquet"),),
        models=(shop.options.models[0], shop.models[1]),
        since=None,
        out=out,
    )
    result: dict[str, Any] = evaluate.run(options)
    assert any(message in warning for warning in result["warnings"])
    assert [model[figure] for model in result["models"]] == [None, None]
    assert json.loads(Path(out[1]).read_text())["models"][0]["metrics"][figure] is None
    why = "undefined: only frauds" if label else "undefined: no frauds"
    for page in (out[0], out[2]):
        text = Path(page).read_text("utf-8")
        assert why in text
        assert message in text
    assert why in evaluate.render(evaluate.run(replace(options, models=options.models[:1], out=())))
    on = (str(tmp_path / "one.parquet"),)
    compared = compare_models.run(CompareModelsOptions(bundles=tuple(shop.models), on=on))
    assert compare_models.render(compared)
    measured = cast(dict[str, Any], compared["measured"])
    assert any(message in warning for warning in measured["warnings"])
    assert measured["models"][0][figure] is None


def test_tables_of_five_models_fit_a_page(shop: Shop, tmp_path: Path) -> None:
    chromium = need("chromium")
    first, second = shop.models
    out = tmp_path / "five.html"
    options = replace(
        shop.options, models=(*shop.options.models, second, first, second, first), out=(str(out),)
    )
    evaluate.run(replace(options, resamples=5))
    assert too_wide(out, chromium, tmp_path) == []


class Text(HTMLParser):
    """The text of a page beside its plots."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += [tag] * (tag in ("style", "svg"))

    def handle_endtag(self, tag: str) -> None:
        self.inside = [name for name in self.inside if name != tag]

    def handle_data(self, data: str) -> None:
        self.text += "" if self.inside else data


def nameless_axes(plot: Plot) -> list[str]:
    """The axes with words or numbers of which neither a label nor a title says what they are."""
    plot.drawing.draw_without_rendering()
    found = []
    for axes in plot.drawing.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [label for label in axis.get_ticklabels() if label.get_visible()]
            named = axis.get_label_text() or (axis is axes.xaxis and axes.get_title("left"))
            if axes.axison and any(label.get_text() for label in ticks) and not named:
                found.append(f"{plot.name}: {axis.axis_name}")
    return found


def test_axes_say_what_they_show_and_numbers_are_written_one_way(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Plot] = []
    svg = Plot.svg
    monkeypatch.setattr(Plot, "svg", lambda plot: drawn.append(plot) or svg(plot))
    pages = [tmp_path / "evaluated.html", tmp_path / "explored.html"]
    models = (shop.models[0], shop.models[1])
    # Some weeks, for which figures are drawn as well.
    given = replace(shop.options, models=models, since="2024-01-02", cost="100:1")
    evaluate.run(replace(given, resamples=5, segments=("scenario",), out=(str(pages[0]),)))
    explore.run(ExploreOptions(files=(shop.data,), schema=shop.schema, out=str(pages[1])))
    names = {plot.name.rstrip("_0123456789") for plot in drawn}
    assert {"precision_recall", "cost", "weeks", "days", "by_hour", "separation"} <= names
    assert {"distributions", "correlation", "class_balance"} <= names
    assert [axes for plot in drawn for axes in nameless_axes(plot)] == []
    for page in pages:
        text = Text(page.read_text("utf-8")).text
        assert re.search(r"\d %", text)
        assert re.findall(r"[\d.,]+%", text) == []


def test_a_segment_column_must_exist_and_be_text_or_whole_numbers(shop: Shop) -> None:
    with fails(Code.COLUMN_MISSING, "--segment scnario: "):
        evaluate.run(replace(shop.options, segments=("scnario",)))
    with fails(Code.OPTION_VALUE, "--segment fraud: ", kind=UsageError):
        evaluate.run(replace(shop.options, segments=("fraud",)))
    with fails(Code.ROWS_INVALID, "ratio: not of the type"):
        evaluate.run(replace(shop.options, segments=("ratio",)))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (("report.pdf",), "must end in .html, .json or .md"),
        (("nowhere/r.html",), "in a directory that is there"),
        (("r.html", "./r.html"), "is given twice"),
        (("gs://bucket/r.html",), "in a directory that is there"),
    ],
)
def test_report_paths_are_checked_first(out: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate.run(EvaluateOptions(files=("none.csv",), models=("none",), out=out))


def test_plots_are_not_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with fails(Code.OUTPUT_NAME, "--png", kind=UsageError):
        evaluate.run(
            EvaluateOptions(files=("none.csv",), models=("none",), png=str(tmp_path / "file"))
        )


def test_the_protocol_tests_models_of_the_same_days_only(shop: Shop, tmp_path: Path) -> None:
    early = str(tmp_path / "early")
    train.run(
        TrainOptions(
            files=(shop.data,), schema=shop.schema, model="logistic", out=early, until="2024-01-08"
        )
    )
    options = EvaluateOptions(
        files=(shop.data,), models=(early,), protocol="handbook", cards=3, resamples=20
    )
    result = evaluate.run(options)
    assert "card_precision_at_3" in result
    assert "card precision@3" in evaluate.render(result)
    with fails(Code.BUNDLES_APART):
        evaluate.run(replace(options, models=(*options.models, shop.models[0])))
