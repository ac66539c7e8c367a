"""Rules beside a model in `score`, `stream` and `rules check`."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import check_rules, score, stream
from beam_fraud.cli.options import CheckRulesOptions, ScoreOptions, StreamOptions
from beam_fraud.errors import UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.models.bundle import open_bundle
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.stages import SCORED
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place
from tests.stream_process import Stream

#: The model's transactions, with windows that it knows nothing of.
SCHEMA = """
name = "own"
[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
label = "TX_FRAUD"
[[velocity]]
key = "account_id"
windows = ["2h", "7d", "3d"]
aggregates = ["count", "max", "seconds_since_last"]
"""
#: Forty merchants of the month, whose ids begin with its seed.
TRUSTED = {str(7_000_000_000 + number) for number in range(40)}
RULES = """
[[list]]
name = "trusted"
file = "trusted.txt"

[[rule]]
name = "trusted"
when = "merchant_id in trusted and score < 0.9"
decision = "approve"
priority = 1

[[rule]]
name = "fast"
when = "account_count_2h >= 9 and account_max_3d > 90"
decision = "decline"

[[rule]]
name = "hasty"
when = "account_seconds_since_last < 90"
decision = "review"
priority = 2

[[rule]]
name = "wide"
when = "amount > 0.01 and account_count_7d >= 0"
decision = "review"
priority = -1
"""


@pytest.fixture
def day(month: pa.Table, tmp_path: Path) -> Path:
    """The month compressed to twenty hours, for many rows an hour."""
    first = month["TX_DATETIME"][0].as_py().replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = np.linspace(0, timedelta(hours=20).total_seconds(), month.num_rows, endpoint=False)
    times = np.datetime64(first, "us") + (seconds * 1e6).astype("timedelta64[us]")
    place = month.schema.get_field_index("TX_DATETIME")
    field = month.schema.field(place)
    path = tmp_path / "day.parquet"
    pq.write_table(month.set_column(place, field, pa.array(times).cast(field.type)), path)
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "trusted.txt").write_text("".join(f"{merchant}\n" for merchant in TRUSTED))
    (tmp_path / "own.toml").write_text(SCHEMA)
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def scored(out: Path) -> pa.Table:
    return pq.read_table(out / "scores").sort_by("transaction_id")


def run_score(day: Path, bundle: Path, rules: Path, out: Path, **options: Any) -> dict[str, Any]:
    arguments = ScoreOptions(
        files=(str(day),),
        model=str(bundle),
        schema=str(rules.with_name("own.toml")),
        rules=str(rules),
        out=str(out),
        **options,
    )
    return score.run(arguments)


def run_stream(inbox: Path, bundle: Path, rules: Path, out: Path, **options: Any) -> dict[str, Any]:
    arguments = StreamOptions(
        watch=str(inbox),
        model=str(bundle),
        schema=str(rules.with_name("own.toml")),
        rules=str(rules),
        out=str(out),
        until_idle=0.5,
        **options,
    )
    return stream.run(arguments)


def as_decided(
    day: Path, scores: pa.Table, rules: Path, review: float
) -> list[tuple[str, list[str]]]:
    """Return the rules' decision of each row by id, from features without a pipeline."""
    table = load_dataset(
        [Place.of(day)], load_schema(str(rules.with_name("own.toml")))
    ).transactions
    table = table.sort_by("transaction_id")
    result = []
    for row, score_ in zip(table.to_pylist(), scores["score"].to_pylist(), strict=True):
        fires = {
            "hasty": row["account_seconds_since_last"] < 90,
            "trusted": row["merchant_id"] in TRUSTED and score_ < 0.9,
            "fast": row["account_count_2h"] >= 9 and row["account_max_3d"] > 90,
            "wide": row["amount"] > 0.01,
        }
        raised = score_ >= review or fires["wide"] or fires["hasty"]
        decision = "review" if raised else "approve"
        decision = "decline" if fires["fast"] else decision
        if fires["trusted"]:
            decision = "review" if fires["hasty"] else "approve"
        result.append((decision, [name for name, fired in fires.items() if fired]))
    return result


def decisions(table: pa.Table) -> list[tuple[str, list[str]]]:
    return list(zip(table["decision"].to_pylist(), table["rules"].to_pylist(), strict=True))


def test_score_applies_rules_on_features_outside_the_model(
    day: Path, bundle: Path, rules: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = score.run(ScoreOptions(files=(str(day),), model=str(bundle), out=str(tmp_path / "p")))
    with caplog.at_level(logging.WARNING):
        summary = run_score(day, bundle, rules, tmp_path / "out")
    table = scored(tmp_path / "out")
    assert pq.read_schema(next((tmp_path / "out/scores").iterdir())).equals(SCORED)
    assert table["score"].equals(scored(tmp_path / "p")["score"])
    threshold = open_bundle(str(bundle)).thresholds.review
    expected = as_decided(day, table, rules, threshold)
    assert decisions(table) == expected
    assert {decision for decision, _ in expected} == {"approve", "review", "decline"}
    assert summary["rows_flagged"] == sum(decision != "approve" for decision, _ in expected)
    assert summary["rows_flagged"] > plain["rows_flagged"]
    report = {name: figures["fired"] for name, figures in summary["rules"].items()}
    assert list(report) == ["hasty", "trusted", "fast", "wide"]
    assert report == {name: sum(name in names for _, names in expected) for name in report}
    assert all(report.values())
    share = summary["rules"]["wide"]["share"]
    assert share == pytest.approx(report["wide"] / table.num_rows, abs=1e-6)
    warned = [record.getMessage() for record in caplog.records if "rule" in record.getMessage()]
    assert any(message.startswith("rule wide fired on") for message in warned)
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
    assert "wide " in score.render(summary)
    assert "rules" not in plain
    run_score(day, bundle, rules, tmp_path / "small", block_rows=700)
    assert scored(tmp_path / "small").equals(table)


def test_a_wrong_rule_stops_a_run_before_anything_is_read(
    day: Path, bundle: Path, rules: Path, tmp_path: Path
) -> None:
    rules.write_text(RULES.replace("account_max_3d", "account_max_4d"))
    with pytest.raises(UsageError, match=r"rule fast \(line 12\): when, column 27: unknown name"):
        run_score(day, bundle, rules, tmp_path / "out")
    with pytest.raises(UsageError, match="did you mean 'account_max_7d'"):
        run_stream(tmp_path, bundle, rules, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_stream_without_a_limit_decides_as_score_does(
    day: Path, bundle: Path, rules: Path, tmp_path: Path, inbox: Path
) -> None:
    run_score(day, bundle, rules, tmp_path / "batch")
    (inbox / "day.parquet").symlink_to(day)
    summary = run_stream(inbox, bundle, rules, tmp_path / "stream", rule_limit=1.0, lateness="30d")
    assert scored(tmp_path / "stream").equals(scored(tmp_path / "batch"))
    assert summary["rules"]["fast"]["fired"] > 0
    assert summary["rules_muted"] == 0


def hours_of(table: pa.Table) -> list[pa.Table]:
    hours = pc.floor_temporal(table["event_time"], unit="hour")
    return [table.filter(pc.equal(hours, hour)).sort_by("event_time") for hour in pc.unique(hours)]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_a_stream_mutes_a_rule_that_fires_on_everything_and_sends_a_notice(
    day: Path, bundle: Path, rules: Path, tmp_path: Path, inbox: Path, shards: int
) -> None:
    run_score(day, bundle, rules, tmp_path / "batch")
    (inbox / "day.parquet").symlink_to(day)
    out = tmp_path / "stream"
    summary = run_stream(
        inbox, bundle, rules, out, shards=shards, alerts=(f"file:{tmp_path}/a.jsonl",)
    )
    table, batch = scored(out), scored(tmp_path / "batch")
    assert table.schema.equals(SCORED)
    decided = ["decision", "flagged", "rules", "reasons"]
    assert table.drop_columns(decided).equals(batch.drop_columns(decided))
    hours = hours_of(table)
    wide = [["wide" in names for names in hour["rules"].to_pylist()] for hour in hours]
    if shards == 1:
        # The first hundred rows tell nothing, and nothing stays after them.
        assert all(any(fires[:99]) and not any(fires[100:]) for fires in wide)
    for here, before in zip(decisions(table), decisions(batch), strict=True):
        assert [name for name in before[1] if name in here[1]] == here[1]
    with closing(sqlite3.connect(out / "outbox.db")) as connection:
        message = connection.execute(
            "SELECT text, channel, kind FROM deliveries WHERE text LIKE 'Rule%'"
        ).fetchall()
    assert len({text for text, _, _ in message}) == len(message) == summary["rules_muted"]
    assert sum("'wide'" in text for text, _, _ in message) == len(hours) * shards
    assert not any("'trusted'" in text for text, _, _ in message)
    assert {kind for _, _, kind in message} == {"notice"}
    assert summary["rows_flagged"] < sum(batch["flagged"].to_pylist())


# `test_stream_chaos.py` kills a stream, whose shards share one state, in every run of the tests.
@pytest.mark.soak
def test_a_stream_that_is_killed_mutes_the_same_rows(
    day: Path, bundle: Path, rules: Path, tmp_path: Path, inbox: Path
) -> None:
    whole = pq.read_table(day)
    size = -(-whole.num_rows // 40)
    for number in range(40):
        pq.write_table(whole.slice(number * size, size), inbox / f"part-{number:02}.parquet")
    run_stream(inbox, bundle, rules, tmp_path / "undisturbed")
    out = tmp_path / "killed"
    command = ["stream", "--watch", str(inbox)]
    command += ["--model", str(bundle), "--schema", str(rules.with_name("own.toml"))]
    command += ["--rules", str(rules), "--out", str(out), "--alert", f"file:{tmp_path}/a.jsonl"]
    process = Stream(command, out)
    try:
        for _ in range(2):
            before = process.positions()
            process.start()
            assert process.wait_for_progress(before), process.said()
            process.kill()
        process.start("--until-idle", "1")
        process.wait_for_end()
    finally:
        process.kill()
    assert scored(out).equals(scored(tmp_path / "undisturbed"))
    with closing(sqlite3.connect(out / "outbox.db")) as connection:
        message = connection.execute(
            "SELECT text FROM deliveries WHERE text LIKE 'Rule%'"
        ).fetchall()
    assert sum("'wide'" in text for (text,) in message) == 20
    assert len(set(message)) == len(message)


def checked(day: Path, rules: Path, **options: Any) -> dict[str, Any]:
    return check_rules.run(CheckRulesOptions(file=str(rules), on=(str(day),), **options))


def test_rules_check_reports_the_catch_of_rules_and_of_the_model(
    day: Path, bundle: Path, rules: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_score(day, bundle, rules, tmp_path / "out")
    table = scored(tmp_path / "out")
    labelled = load_dataset([Place.of(day)], HANDBOOK).transactions.sort_by("transaction_id")
    fraud = labelled["label"].to_numpy() == 1
    amounts = table["amount"].to_numpy()
    by_model = table["score"].to_numpy() >= open_bundle(str(bundle)).thresholds.review
    schema = str(rules.with_name("own.toml"))
    with caplog.at_level(logging.WARNING):
        result = checked(day, rules, schema=schema, model=str(bundle))
    assert (result["rows"], result["frauds"]) == (len(fraud), int(fraud.sum()))
    for name, figures in result["rules"].items():
        fired = np.array([name in names for names in table["rules"].to_pylist()])
        assert figures["fired"] == fired.sum() > 0
        assert figures["frauds"] == (fired & fraud).sum()
        assert figures["precision"] == (fired & fraud).sum() / fired.sum()
        assert figures["recall"] == (fired & fraud).sum() / fraud.sum()
        caught = amounts[fired & fraud].sum() / amounts[fraud].sum()
        assert figures["fraud_amount_share"] == pytest.approx(caught)
        if figures["decision"] != "approve":
            assert figures["frauds_beyond_model"] == (fired & fraud & ~by_model).sum()
            assert figures["genuine_beyond_model"] == (fired & ~fraud & ~by_model).sum()
    passed = table.filter(pc.equal(table["decision"], "approve"))
    assert result["together"]["fired"] == table.num_rows - passed.num_rows
    assert result["model"]["fired"] == by_model.sum()
    assert "rule wide fires on" in caplog.text
    # The day is one of those that the model was fitted on.
    assert "promise too much; give later ones (--from)" in caplog.text
    shown = check_rules.render(result)
    assert "precision" in shown
    assert "(model and rules)" in shown


def test_rules_check_needs_neither_labels_nor_a_model(
    day: Path, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules.write_text(RULES.replace("and score < 0.9", "").replace("< 90", "< -1"))
    schema = str(rules.with_name("own.toml"))
    known = checked(day, rules, schema=schema)
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(day).drop_columns(["TX_FRAUD"]), bare)
    unknown = checked(bare, rules, schema=schema)
    for name, figures in unknown["rules"].items():
        assert figures["fired"] == known["rules"][name]["fired"]
        assert (figures["frauds"], figures["precision"], figures["recall"]) == (0, None, None)
    assert "without labels" in check_rules.render(unknown)
    assert "(all rules)" in check_rules.render(known)
    args = ["rules", "check", str(rules), "--on", str(bare), "--schema", schema, "--json"]
    assert main(args) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == unknown
    assert "rule hasty never fires on these rows" in printed.err


def test_rules_check_refuses_in_one_line(
    day: Path, rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["rules", "check", str(rules), "--on", str(day)]
    for more, message in (
        ([], "--schema: say what the transactions look like, or give --model BUNDLE"),
        (["--schema", "handbook"], "'score' needs a model; give --model BUNDLE"),
        (["--schema", "handbook", "--model", str(day)], "not a model bundle"),
    ):
        assert main([*args, *more]) in (1, 2)
        printed = capsys.readouterr()
        assert message in printed.err
        assert len(printed.err.strip().splitlines()) == 1
