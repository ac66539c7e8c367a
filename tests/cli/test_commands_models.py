"""`models list`, `show` and `compare` on bundles of `train`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import compare_models, train
from beam_fraud.cli.commands import models as command
from beam_fraud.cli.options import (
    CompareModelsOptions,
    ListModelsOptions,
    ShowModelOptions,
    TrainOptions,
)
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.candidate import agreement, rank_correlation
from beam_fraud.models.bundle import open_bundle
from tests.failing import fails

ROWS = 600
PLAIN = """
name = "shop"
[roles]
event_time = "t"
label = "fraud"
amount = "price"
account_id = "who"
"""
FAST = """
[[velocity]]
key = "account_id"
windows = ["1h"]
aggregates = ["count"]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of one data set, in a directory with the data."""
    place = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    price = random.lognormal(3, 1, ROWS).round(2)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    columns = {
        "t": pa.array(start + np.arange(ROWS) * np.timedelta64(600, "s")),
        "price": price,
        "who": random.choice(["a", "b"], ROWS),
        "fraud": ((price > 40) & (random.random(ROWS) < 0.8)).astype(np.int64),
    }
    pq.write_table(pa.table(columns), place / "data.parquet")
    (place / "plain.toml").write_text(PLAIN)
    (place / "fast.toml").write_text(PLAIN + FAST)
    first = TrainOptions(
        files=(str(place / "data.parquet"),),
        schema=str(place / "plain.toml"),
        model="logistic",
        out=str(place / "models" / "one"),
        until="2024-01-04",
    )
    train.run(first)
    other = replace(first, schema=str(place / "fast.toml"), settings=("c=0.01",))
    train.run(replace(other, out=str(place / "models" / "two"), threshold="recall=0.9"))
    return place


def copied(bundle: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for file in bundle.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def models_of(*directories: Path) -> list[dict[str, Any]]:
    result = command.run_list(ListModelsOptions(directories=tuple(map(str, directories))))
    json.dumps(result)
    return result["models"]  # type: ignore[return-value]


def test_bundles_are_found_in_directories_and_listed(shop: Path) -> None:
    models = models_of(shop)
    assert {model["name"] for model in models} == {"one", "two"}
    one = next(model for model in models if model["name"] == "one")
    bundle = open_bundle(str(shop / "models" / "one"))
    assert one["model_id"] == bundle.model_id
    assert one["threshold"] == bundle.thresholds.review
    assert one["average_precision"] == bundle.manifest.metrics["average_precision"]
    files = (shop / "models" / "one").iterdir()
    assert one["bytes"] == sum(file.stat().st_size for file in files)
    text = command.render_list({"models": models})
    assert len(text.splitlines()) == 3
    assert bundle.model_id in text
    assert "2024-01-01 to 2024-01-03" in text
    # A bundle may be named itself, and is listed once.
    assert len(models_of(shop / "models" / "one", shop / "models" / "one")) == 1


def test_a_damaged_bundle_is_one_line_of_the_list(shop: Path, tmp_path: Path) -> None:
    good = copied(shop / "models" / "one", tmp_path / "good")
    changed = copied(good, tmp_path / "changed")
    (changed / "card.md").write_text("better")
    broken = copied(good, tmp_path / "broken\x1b[31m")
    (broken / "manifest.json").write_text("{")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text("{}")
    copied(good, tmp_path / ".hidden" / "one")
    models = models_of(tmp_path)
    assert [Path(model["path"]) for model in models] == [good, broken, changed]
    text = command.render_list({"models": models})
    assert text.count("damaged: ") == 2
    assert "card.md is not the file that" in text
    assert "\x1b" not in text


def test_an_empty_list_is_reported(tmp_path: Path) -> None:
    assert models_of(tmp_path) == []
    assert command.render_list({"models": []}) == "There are no model bundles."
    with fails(Code.BUNDLE_MISSING, "absent: "):
        models_of(tmp_path / "absent")


def test_a_bundle_is_shown_with_its_card(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = command.run_show(ShowModelOptions(bundle=str(shop / "models" / "two")))
    json.dumps(result)
    text = command.render_show(result)
    for message in (str(result["model_id"]), "c=0.01", "account_count_1h", "## Intended use"):
        assert message in text
    assert main(["models", "show", str(shop / "models" / "two"), "--card"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# two\n")
    assert printed.rstrip() == str(result["card"]).rstrip()


def test_output_is_safe_on_a_terminal() -> None:
    shown = command.render_card({"card": "# a\x1b[2J\n\\_b\u202e\n"})
    assert shown == "# a\\x1b[2J\n\\_b\\u202e"


def compared(shop: Path, **changes: Any) -> dict[str, Any]:
    bundles = tuple(str(shop / "models" / name) for name in ("one", "two"))
    return compare_models.run(CompareModelsOptions(bundles=bundles, **changes))


def test_manifests_are_compared_without_any_rows(shop: Path) -> None:
    result = compared(shop)
    json.dumps(result)
    assert result["measured"] is None
    actual = result["differences"]
    assert actual["other_features"] == {"account_count_1h": (False, True)}
    assert actual["settings"] == {"c": (1.0, 0.01)}
    assert "amount" in actual["shared_features"]
    text = compare_models.render(result)
    for message in ("average precision", "account_count_1h", "no", "0.01", "threshold"):
        assert message in text


def test_models_are_measured_on_the_same_rows(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    on = (str(shop / "data.parquet"),)
    result = compared(shop, on=on, since="2024-01-04")
    json.dumps(result)
    measured = result["measured"]
    one, two = measured["models"]
    assert one["rows"] == two["rows"] == measured["rows"] == ROWS - 3 * 144
    assert one["threshold"] != two["threshold"]
    assert measured["warnings"] == []
    (pair,) = measured["pairs"]
    flagged = one["confusion"]["tp"] + one["confusion"]["fp"]
    assert pair["both"] + pair["only_first"] == flagged
    assert pair["frauds_both"] + pair["frauds_only_second"] == two["confusion"]["tp"]
    assert pair["rank_correlation"] > 0.9
    text = compare_models.render(result)
    assert "rank correlation" in text
    assert "frauds flagged" in text
    compared(shop, on=on)
    assert "was fitted on rows from" in caplog.text


def test_an_invalid_comparison_names_the_mistake(shop: Path) -> None:
    with fails(Code.OPTION_MISSING, "two bundles", kind=UsageError):
        compare_models.run(CompareModelsOptions(bundles=(str(shop / "models" / "one"),)))
    with fails(Code.OPTION_CONFLICT, "--from: .* --on", kind=UsageError):
        compared(shop, since="2024-01-01")
    with fails(Code.BUNDLE_MISSING):
        compare_models.run(CompareModelsOptions(bundles=(str(shop), str(shop))))


def test_models_agree_with_themselves() -> None:
    labels = np.array([1, 0, 1, 0], dtype=np.int8)
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    same = agreement(labels, scores, scores, (0.5, 0.5))
    assert (same.both, same.only_first, same.frauds_both, same.overlap) == (2, 0, 1, 1.0)
    assert same.rank_correlation == pytest.approx(1.0)
    turned = agreement(labels, scores, 1 - scores, (0.5, 0.5))
    assert (turned.both, turned.only_first, turned.only_second) == (0, 2, 2)
    assert turned.rank_correlation == pytest.approx(-1.0)
    assert agreement(labels, scores, scores, (1.0, 1.0)).overlap is None
    assert rank_correlation(scores, np.zeros(4)) is None
