"""`--shadow`: challengers score beside the champion and touch nothing of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import erase, score, stream
from beam_fraud.cli.options import EraseOptions, ScoreOptions, StreamOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry import champion_watch
from beam_fraud.models.registry.registry import (
    RULES_FILE,
    add_model,
    add_rules,
    open_registry,
    promote,
    retire,
)
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.schema.stages import SHADOWED
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN
from tests.shadowing import Failing, Second, Share, Slow, shadow_bundle
from tests.stream_process import wait_until

RULES = b'[[rule]]\nname = "%s"\nwhen = "amount > %d"\ndecision = "decline"\n'
WINDOW = Velocity(("account_id",), ("1d",), ("count",))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry whose champion flags amounts from 50, with two challengers and a rule set."""
    place = Place.at(tmp_path / "registry")
    for name, share in (("first", 0.01), ("second", 0.02), ("third", 0.005)):
        bundle = shadow_bundle(tmp_path / name, Share(share))
        add_model(place, load_bundle(bundle), ANN)
    add_rules(place, "large", {RULES_FILE: RULES % (b"large", 40)}, ANN)
    registry = open_registry(place)
    promote(registry, registry.find("first").id, ANN)
    return place


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A file of a hundred amounts from 0 to 99."""
    (tmp_path / "days").mkdir()
    return written(tmp_path / "days" / "day.csv", range(100))


def written(file: Path, rows: Sequence[int]) -> Path:
    lines = [f"x{n},2024-01-01T00:{n % 60:02}:00Z,c{n % 5},{n % 100}\n" for n in rows]
    hidden = file.with_name(f".{file.name}")
    hidden.write_text("id,t,who,a\n" + "".join(lines))
    hidden.replace(file)
    return file


def options_of(day: Path, place: Place, out: Path, *shadow: str) -> ScoreOptions:
    return ScoreOptions(files=(str(day),), registry=str(place), out=str(out), shadow=shadow)


def run(options: ScoreOptions) -> dict[str, Any]:
    return score.run(options)


def rows_of(out: Path, branch: str = "scores") -> pa.Table:
    keys = ["transaction_id", *(["model_id", "rules_id"] if branch == "shadow" else [])]
    return pq.read_table(out / branch).sort_by([(key, "ascending") for key in keys])


def test_challengers_score_beside_a_champion_whose_rows_stay_the_same(
    day: Path, place: Place, tmp_path: Path
) -> None:
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    assert "shadows" not in run(options_of(day, place, alone))
    assert not (alone / "shadow").exists()
    summary = run(options_of(day, place, beside, "challengers"))
    assert rows_of(alone).equals(rows_of(beside))
    ids = {member.split("@")[0]: member for member in open_registry(place).standing.members}
    rows = rows_of(beside, "shadow")
    assert rows.schema.equals(SHADOWED)
    assert len(rows) == 300
    second = rows.filter(pc.equal(rows["model_id"], ids["second"]))
    assert len(set(second["transaction_id"].to_pylist())) == 100
    assert second["score"].to_pylist() == [min(int(n[1:]) * 0.02, 1) for n in ids_of(second)]
    assert second["rules_id"].null_count == 100
    large = rows.filter(pc.equal(rows["rules_id"], ids["large"]))
    assert set(large["model_id"].to_pylist()) == {ids["first"]}
    assert large["rules"].to_pylist() == [
        ["large"] if int(n[1:]) > 40 else [] for n in ids_of(large)
    ]
    figures = summary["shadows"]
    assert set(figures) == {ids["second"], ids["third"], ids["large"]}
    assert figures[ids["second"]]["agreement"] == 0.75  # it also flags 25 to 49
    assert figures[ids["second"]]["flagged_agreement"] == 0.666667
    assert figures[ids["third"]]["flagged_agreement"] == 0.0
    # Declined by the rule, reviewed by the champion: no equal decision, but both flag it.
    assert figures[ids["large"]]["agreement"] == 0.41
    assert figures[ids["large"]]["flagged_agreement"] == round(50 / 59, 6)
    assert all(one["microseconds_per_row"] > 0 for one in figures.values())
    assert summary["outputs"]["shadow"] == str(beside / "shadow")
    text = score.render(summary)
    assert "in shadow" in text
    assert "agrees in 75.00%" in text
    # The next run without any leaves none of this one.
    run(options_of(day, place, beside))
    assert not (beside / "shadow").exists()
    assert rows_of(alone).equals(rows_of(beside))


def ids_of(rows: pa.Table) -> list[str]:
    return rows["transaction_id"].to_pylist()


def test_a_failing_challenger_is_dropped_and_said_and_the_others_go_on(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "days").mkdir()
    # Amounts below 50 first.
    rows = [n for hundreds in range(10) for n in range(100 * hundreds, 100 * hundreds + 40)]
    day = written(tmp_path / "days" / "day.csv", [*rows, *range(2_000, 2_100)])
    failing = shadow_bundle(tmp_path / "failing", Failing(0.01))
    alerts = tmp_path / "alerts.jsonl"
    options = replace(
        options_of(day, place, tmp_path / "out", failing, "second"),
        alerts=(f"file:{alerts}",),
        block_rows=100,
    )
    alone = replace(options, shadow=(), out=str(tmp_path / "alone"))
    run(alone)
    with caplog.at_level(logging.ERROR):
        summary = run(options)
    assert rows_of(tmp_path / "alone").equals(rows_of(tmp_path / "out"))
    model = load_bundle(failing).model_id
    figures = summary["shadows"][model]
    assert figures["rows"] == 400
    assert figures["dropped"]["reason"] == "failed with ValueError"
    assert figures["dropped"]["since"].startswith("20")
    shadow = rows_of(tmp_path / "out", "shadow")
    counted = {
        one["values"]: one["counts"] for one in shadow["model_id"].value_counts().to_pylist()
    }
    assert counted == {model: 400, open_registry(place).find("second").id: 500}
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if model in text and "no longer in shadow" in text]
    assert not [text for text in said if "secret" in text]
    notices = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert [one for one in notices if "no longer in shadow" in json.dumps(one)]
    assert "dropped at" in score.render(summary)


def test_a_slow_challenger_is_dropped_by_the_cost_of_many_rows(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "days").mkdir()
    day = written(tmp_path / "days" / "day.csv", range(16_000))
    slow = shadow_bundle(tmp_path / "slow", Slow(0.01))
    options = replace(
        options_of(day, place, tmp_path / "out", slow, "second"),
        max_microseconds=20.0,
        block_rows=4_000,
    )
    summary = run(options)
    figures = summary["shadows"][load_bundle(slow).model_id]
    # Not after the first block, but not all rows either.
    assert figures["rows"] == 12_000
    assert "more than 20" in figures["dropped"]["reason"]
    assert summary["shadows"][open_registry(place).find("second").id]["rows"] == 16_000
    assert summary["rows_scored"] == 16_000


def test_columns_and_windows_of_challengers_are_added_and_change_no_row_of_the_champion(
    place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "day.csv"
    values = ["1", "", "word", "inf", "2"]
    lines = [f"x{n},2024-01-01T00:0{n}:00Z,c,{n},{value}\n" for n, value in enumerate(values)]
    file.write_text("id,t,who,a,extra\n" + "".join(lines))
    wide = shadow_bundle(tmp_path / "wide", Second(0.1), features=[FeatureColumn("extra")])
    windows = shadow_bundle(tmp_path / "windows", Second(0.1), velocity=[WINDOW])
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    run(options_of(file, place, alone))
    summary = run(options_of(file, place, beside, wide, windows))
    assert rows_of(alone).equals(rows_of(beside))
    assert summary["rows_dead"] == 0
    rows = rows_of(beside, "shadow")
    of_wide = rows.filter(pc.equal(rows["model_id"], load_bundle(wide).model_id))
    assert of_wide["score"].to_pylist() == [0.1, 0.9, 0.9, 0.9, 0.2]
    counts = rows.filter(pc.equal(rows["model_id"], load_bundle(windows).model_id))
    assert counts["score"].to_pylist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_what_decides_is_no_shadow_and_what_is_unknown_is_refused(
    day: Path, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = options_of(day, place, tmp_path / "out", "first")
    assert "shadows" not in run(options)
    assert "decides, so it is no shadow" in caplog.text
    with fails(Code.REGISTRY_UNKNOWN, "secnod"):
        run(replace(options, shadow=("secnod",)))
    with fails(Code.OPTION_CONFLICT, "--registry", UsageError):
        run(replace(options, registry=None, model=str(tmp_path / "first"), shadow=("challengers",)))
    with fails(Code.OPTION_CONFLICT, "--max-microseconds", UsageError):
        run(replace(options, shadow=(), max_microseconds=5.0))
    (tmp_path / "second" / "model.joblib").write_bytes(b"evil")
    with fails(Code.BUNDLE_DAMAGED, "--shadow"):
        run(replace(options, shadow=(str(tmp_path / "second"),)))
    rules = tmp_path / "rules.toml"
    rules.write_bytes(RULES.replace(b"amount", b"amuont") % (b"typo", 5))
    with fails(Code.RULE_CONDITION, "amuont", UsageError):
        run(replace(options, shadow=(str(rules),)))


def test_erase_takes_the_rows_of_shadows_too(day: Path, place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(options_of(day, place, out, "second"))
    erased = erase.run(EraseOptions(accounts=("c1",), outs=(str(out),), yes=True))
    assert "c1" not in set(rows_of(out, "shadow")["account_id"].to_pylist())
    assert len(rows_of(out, "shadow")) == 80
    assert "shadow" in json.dumps(erased)


def test_a_stream_archives_shadows_and_refuses_other_windows(
    day: Path, place: Place, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = StreamOptions(
        watch=str(day.parent),
        registry=str(place),
        out=str(out),
        until_idle=0.3,
        shadow=("challengers",),
    )
    windows = shadow_bundle(tmp_path / "windows", Second(0.1), velocity=[WINDOW])
    with fails(Code.STREAM_CHANGED, "account_count_1d"):
        stream.run(replace(options, shadow=(windows,)))
    assert not out.exists()
    summary = stream.run(options)
    batch = tmp_path / "batch"
    figures = run(options_of(day, place, batch, "challengers"))["shadows"]
    columns = ["transaction_id", "score", "flagged", "decision", "rules", "model_id"]
    assert rows_of(out).select(columns).equals(rows_of(batch).select(columns))
    assert rows_of(out, "shadow").equals(rows_of(batch, "shadow"))
    for key, one in summary["shadows"].items():
        assert one["agreement"] == figures[key]["agreement"]
    assert summary["outputs"]["shadow"] == str(out / "shadow")
    # Without shadows it goes on, and leaves the rows of the earlier run.
    written(day.with_name("next.csv"), range(100, 110))
    assert "shadows" not in stream.run(replace(options, shadow=()))
    assert (len(rows_of(out)), len(rows_of(out, "shadow"))) == (110, 300)


def test_challengers_join_and_leave_a_running_stream(
    day: Path,
    place: Place,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(champion_watch, "LOOK_SECONDS", 0.05)
    registry = open_registry(place)
    for name in ("second", "large"):
        retire(open_registry(place), registry.find(name).id, ANN)
    third, out = registry.find("third").id, tmp_path / "out"
    fourth = load_bundle(shadow_bundle(tmp_path / "fourth", Share(0.04)))

    def change() -> None:
        """Between files, whose rows are scored by what is in shadow then."""
        shadow = out / "shadow"
        assert wait_until(lambda: shadow.is_dir() and any(shadow.glob("part-*.parquet")))
        add_model(place, fourth, ANN)
        assert wait_until(lambda: f"{fourth.model_id} scores in shadow" in caplog.text)
        written(day.with_name("next.csv"), range(100, 200))
        assert wait_until(lambda: len(list(shadow.glob("part-*.parquet"))) == 2)
        retire(open_registry(place), third, ANN)
        assert wait_until(lambda: f"{third} scores no longer in shadow" in caplog.text)
        written(day.with_name("third.csv"), range(200, 300))

    changing = threading.Thread(target=change)
    changing.start()
    with caplog.at_level(logging.INFO):
        summary = stream.run(
            StreamOptions(
                watch=str(day.parent),
                registry=str(place),
                out=str(out),
                until_idle=2.0,
                roll_seconds=0.1,
                shadow=("challengers",),
            )
        )
    changing.join()
    rows = rows_of(out, "shadow")
    of_model = {
        model: sorted(
            int(name[1:])
            for name in rows.filter(pc.equal(rows["model_id"], model))["transaction_id"].to_pylist()
        )
        for model in (third, fourth.model_id)
    }
    assert of_model == {third: list(range(200)), fourth.model_id: list(range(100, 300))}
    assert {key: one["rows"] for key, one in summary["shadows"].items()} == {
        third: 200,
        fourth.model_id: 200,
    }
    assert set(rows_of(out)["model_id"].to_pylist()) == {registry.find("first").id}
