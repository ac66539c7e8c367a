"""The content of the model card; names in it are escaped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt

from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.models.bundle import open_bundle, read_card
from beam_fraud.models.card.figures import code, importance_of, plain, table
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.resampling import resampler

HOSTILE = "<img src=x>|`a`&_*b*[c](http:d)"
ROWS = 600


@pytest.fixture
def options(tmp_path: Path) -> TrainOptions:
    random = np.random.default_rng(0)
    price = random.lognormal(3, 1, ROWS).round(2)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    times = pa.array(start + np.arange(ROWS) * np.timedelta64(600, "s"))
    columns = {"t": times, "price": price, HOSTILE: random.choice(["<b>", "|"], ROWS)}
    columns["who"] = random.choice(["a", "b"], ROWS)
    columns["fraud"] = (price > 40).astype(np.int64)
    (tmp_path / "<i>data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "<i>data" / "`|<u>.parquet")
    (tmp_path / "shop.toml").write_text(
        f"""
name = "<s>shop"
[roles]
event_time = "t"
label = "fraud"
amount = "price"
account_id = "who"
[[feature]]
column = '{HOSTILE}'
kind = "categorical"
[[velocity]]
key = "account_id"
windows = ["1h"]
aggregates = ["count", "mean", "max", "min", "sum", "std", "ratio", "seconds_since_last"]
delay = "0d"
"""
    )
    return TrainOptions(
        files=(str(tmp_path / "<i>data" / "`|<u>.parquet"),),
        schema=str(tmp_path / "shop.toml"),
        model="logistic",
        out=str(tmp_path / "bundle"),
        name="<script>*mine*",
    )


def card_of(options: TrainOptions) -> str:
    train.run(options)
    return read_card(open_bundle(options.out))


def html_of(card: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(card))


def test_names_from_outside_are_no_markup(options: TrainOptions) -> None:
    html = html_of(card_of(options))
    for tag in ("<img", "<script", "<i>", "<u>", "<s>", "<b>", "<a ", "<em>", "<strong>"):
        assert tag not in html
    assert "&lt;script&gt;*mine*</h1>" in html
    # Every row of a table has as many cells as its head.
    for body in html.split("<table>")[1:]:
        rows = body.split("</table>")[0].split("<tr>")[1:]
        assert len({row.count("<td") + row.count("<th") for row in rows}) == 1


def test_it_has_all_sections_for_its_readers(options: TrainOptions) -> None:
    card = card_of(replace(options, decline="precision=0.9", resample="under=0.9"))
    for message in (
        "## Intended use",
        "fitted on 600 rows from 2024-01-01T00:00:00+00:00",
        "the first 480 rows",
        "mean amount of the account in the last 1h",
        "one of 2 known categories",
        "## Settings",
        "- `c`: 1.0",
        "On 120 validation rows",
        "alerts a day",
        "| review |",
        "| decline |",
        "Rows to fit on were resampled by `under=0.9`",
        "Dal Pozzolo",
        "the mean score is",
        "µs a row on one thread",
        "It misses most, as a share, among amounts",
        "- `scikit-learn`:",
    ):
        assert message in card


def test_random_rows_make_no_alerts_a_day(options: TrainOptions) -> None:
    card = card_of(replace(options, split="stratified"))
    assert "alerts of 10,000 transactions" in card
    assert "180 rows were held out" in card
    assert "easier than later days" in card


def test_folds_are_described(options: TrainOptions) -> None:
    card = card_of(replace(options, folds=2))
    assert "## Validation" in card
    assert "fitting on earlier rows" in card


@pytest.mark.parametrize("name", ["forest", "logistic"])
@pytest.mark.parametrize("way", [None, "under"])
def test_importance_ranks_the_predictive_feature_first(name: str, way: str | None) -> None:
    random = np.random.default_rng(0)
    matrix = np.column_stack([random.normal(size=(500, 2)), random.integers(0, 3, 500)])
    rows = LabelledRows(matrix, (matrix[:, 1] > 1.8).astype(np.int8), (2,))
    kind = model_kind(name)
    model = kind.fit(rows, 0) if way is None else resampler(way).fit(kind, rows, 0)
    importance = importance_of(model, 3)
    assert importance
    assert np.argmax(importance.values) == 1
    assert min(importance.values) >= 0


def test_a_model_without_importances_has_none() -> None:
    rows = LabelledRows(np.arange(100.0)[:, None], (np.arange(100) > 80).astype(np.int8))
    assert importance_of(model_kind("hist_gradient_boosting", ["trees=2"]).fit(rows, 0), 1) is None


@pytest.mark.parametrize("text", ["", "`", "a`b``c", " x ", "a|b", "<b>", "\x1b[31m", "*"])
def test_text_stays_text(text: str) -> None:
    shown = html_of(table(["a", "b"], [[code(text), plain(text)]]))
    assert shown.count("<td>") == 2
    assert "<b>" not in shown
    assert "<em>" not in shown
    assert "\x1b" not in shown
