"""Dead letters are shown, exported, repaired and replayed: none is lost or scored twice."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands import replay, score
from beam_fraud.cli.commands.dead_letters import run_export, run_list
from beam_fraud.cli.options import (
    ExportDeadLettersOptions,
    ListDeadLettersOptions,
    ReplayOptions,
    ScoreOptions,
)
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations.dead_letters.database import DeadLetterTable
from beam_fraud.operations.dead_letters.store import Choice
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, RunOutputs
from beam_fraud.storage.database.connection import (
    prepare_database,
    sqlite_url,
    transaction,
    writing,
)
from beam_fraud.storage.database.tables import DEAD_LETTERS as TABLE
from beam_fraud.storage.database.upsert import upsert
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from tests.cli.test_commands_score import bundle
from tests.failing import fails

DAY = "id,t,a\nx1,2024-01-01,1\nx2,2024-01-02,ten\nx3,yesterday,3\nx1,2024-01-01,1\n"


def scored(tmp_path: Path, name: str = "day.csv", text: str | bytes = DAY, **roles: str) -> Path:
    """Score a file; return the directory of the results."""
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    options = bundle(tmp_path / "model", roles) if roles else bundle(tmp_path / "model")
    score.run(ScoreOptions(files=(str(file),), model=options, out=str(tmp_path / "out")))
    file.unlink()
    return tmp_path / "out"


def again(
    tmp_path: Path, out: str = "again", beam_args: tuple[str, ...] = (), **options: Any
) -> ReplayOptions:
    """Options that replay the dead letters of `tmp_path / "out"` with the same model."""
    arguments = {"out": str(tmp_path / "out"), "model": str(tmp_path / "model")} | options
    return ReplayOptions(results=str(tmp_path / out), beam_args=beam_args, **arguments)


def export(tmp_path: Path, **changed: str) -> Path:
    """Export the dead letters with changed payloads; a key is a part of a payload."""
    file = tmp_path / "repaired.jsonl"
    run_export(ExportDeadLettersOptions(out=str(tmp_path / "out"), to=str(file)))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        for old, new in changed.items():
            row["payload"] = row["payload"].replace(old, new)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def listed(tmp_path: Path, **options: Any) -> dict[str, Any]:
    return run_list(ListDeadLettersOptions(out=str(tmp_path / "out"), **options))


def ids(directory: Path) -> list[str]:
    return sorted(pq.read_table(directory / "scores")["transaction_id"].to_pylist())


def test_repaired_lines_of_csv_are_scored_without_their_file(
    tmp_path: Path, beam_args: tuple[str, ...]
) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10", yesterday="2024-01-03")
    assert file.stat().st_mode & 0o777 == 0o600
    result = replay.run(again(tmp_path, beam_args=beam_args, repaired=str(file)))
    assert (result["offered"], result["rows_in"], result["rows_scored"]) == (2, 2, 2)
    assert ids(tmp_path / "again") == ["x2", "x3"]
    left = listed(tmp_path)
    assert (left["dead_letters"], left["replayed"]) == (0, 2)
    assert [row["position"] for row in listed(tmp_path, all=True)["rows"]] == [1, 2]


def test_a_record_that_fails_again_keeps_its_position_and_can_be_replayed(tmp_path: Path) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10")
    result = replay.run(again(tmp_path, repaired=str(file)))
    assert (result["rows_in"], result["rows_scored"], result["rows_dead"]) == (2, 1, 1)
    (dead,) = pq.read_table(tmp_path / "again" / DEAD_LETTERS).to_pylist()
    assert (dead["source"], dead["position"]) == ("day.csv", 2)
    assert dead["payload"] == b"x3,yesterday,3"
    # By either directory: that of the first run, and that of the replay.
    assert [row["position"] for row in listed(tmp_path)["rows"]] == [2]
    second = replace(again(tmp_path, "third"), out=str(tmp_path / "again"))
    with fails(Code.ROWS_INVALID, r"of 1 records .*day\.csv:2: t: "):
        replay.run(second)
    assert not (tmp_path / "third").exists()
    file.write_text(file.read_text().replace("yesterday", "2024-01-03"))
    third = replay.run(again(tmp_path, "fourth", repaired=str(file)))
    assert (third["offered"], third["already_replayed"], third["rows_scored"]) == (1, 1, 1)


def test_a_second_replay_has_nothing_to_do(tmp_path: Path) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10", yesterday="2024-01-03")
    replay.run(again(tmp_path, repaired=str(file)))
    result = replay.run(again(tmp_path, "other", repaired=str(file)))
    assert result == {"offered": 0, "already_replayed": 2, "incomplete": 0}
    assert not (tmp_path / "other").exists()
    assert "offered" in replay.render(result)


def test_json_lines_and_rows_of_parquet_are_replayed_as_json(tmp_path: Path) -> None:
    rows = [{"id": "x1", "t": "2024-01-01", "a": "ten"}, {"id": "x2", "t": None, "a": 2.5}]
    rows.append({"id": "x3", "t": "2024-01-01", "a": 1})
    lines = "".join(json.dumps(row) + "\n" for row in rows) + "not json\n"
    scored(tmp_path, "day.jsonl", lines)
    file = export(
        tmp_path, **{'"ten"': "10", "null": '"2024-01-02T00:00:00Z"', "not json": "still not"}
    )
    result = replay.run(again(tmp_path, repaired=str(file)))
    assert (result["rows_scored"], result["dead_reasons"]) == (2, {"malformed": 1})

    parquet = tmp_path / "parquet"
    parquet.mkdir()
    when = datetime(2024, 1, 1, 12, 30, 0, 5, tzinfo=UTC)
    table = pa.table({"id": ["p1", "p2"], "t": [when, when], "a": [None, 2.5]})
    pq.write_table(table, parquet / "day.parquet")
    scored(parquet, "day.parquet", (parquet / "day.parquet").read_bytes())
    file = export(parquet, null="7")
    assert replay.run(again(parquet, repaired=str(file)))["rows_scored"] == 1
    (row,) = pq.read_table(parquet / "again" / "scores").to_pylist()
    assert (row["transaction_id"], row["amount"], row["event_time"]) == ("p1", 7.0, when)


def dead_letters(out: Path, *rows: dict[str, Any]) -> None:
    """Write dead letters in the layout of a stream."""
    (out / DEAD_LETTERS).mkdir(parents=True)
    writer = ParquetBlockWriter(out / DEAD_LETTERS / "part-000-1.parquet", DEAD_LETTER)
    full = [{"reason": "malformed", "detail": None} | row for row in rows]
    writer.write(pa.RecordBatch.from_pylist(full, schema=DEAD_LETTER))
    writer.close()


def test_messages_of_a_topic_keep_the_ids_of_their_positions(tmp_path: Path) -> None:
    bundle(tmp_path / "model", {"event_time": "t", "amount": "a"})
    payload = b'{"t": "2024-01-01", "a": "ten"}'
    dead_letters(
        tmp_path / "out",
        {"source": "cards:3", "position": 41, "payload": payload},
        {"source": "cards.csv:1", "position": 7, "payload": payload},
    )
    file = export(tmp_path, **{'"ten"': "10"})
    assert replay.run(again(tmp_path, repaired=str(file)))["rows_scored"] == 2
    assert ids(tmp_path / "again") == ["cards.csv:1:7", "cards:3:41"]


def test_unchanged_records_are_replayed_with_another_schema(tmp_path: Path) -> None:
    scored(tmp_path, "day.csv", "id,t,a\nx1,2024-01-01,-5\nx2,2024-01-02,1\n")
    assert [row["reason"] for row in listed(tmp_path)["rows"]] == ["negative_amount"]
    schema = tmp_path / "refunds.toml"
    schema.write_text(
        'name = "plain"\ncalendar = false\n[roles]\ntransaction_id = "id"\nevent_time = "t"\n'
        'amount = "a"\n[amount]\nallow_negative = true\n'
    )
    options = again(tmp_path)
    options = replace(options, schema=str(schema))
    assert replay.run(options)["rows_scored"] == 1
    assert ids(tmp_path / "again") == ["x1"]


def test_incomplete_records_need_a_repair(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    cut = "record too long; its beginning is kept"
    good = b'{"id": "x", "t": "2024-01-01", "a": 1}'
    dead_letters(
        tmp_path / "out",
        {"source": "a.jsonl", "position": 0, "payload": b"", "reason": "unreadable_file"},
        {"source": "b.jsonl", "position": 1, "payload": good, "reason": "too_long", "detail": cut},
        {"source": "c.jsonl", "position": 2, "payload": None},
    )
    result = replay.run(again(tmp_path))
    assert (result["offered"], result["incomplete"]) == (0, 3)
    file = tmp_path / "repaired.jsonl"
    row = {"source": "b.jsonl", "position": 1, "payload_base64": base64.b64encode(good).decode()}
    file.write_text(json.dumps(row) + "\n\n")
    assert replay.run(again(tmp_path, repaired=str(file)))["rows_scored"] == 1


def test_lines_of_csv_need_a_header(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    dead_letters(tmp_path / "out", {"source": "d.csv", "position": 3, "payload": b"x,2024-01-01,1"})
    with fails(Code.CSV_COLUMNS_UNKNOWN, r"^d\.csv: .*--header", kind=UsageError):
        replay.run(again(tmp_path))
    with fails(Code.COLUMN_MISSING, r"^d\.csv: column 't' of schema plain"):
        replay.run(again(tmp_path, header="id,when,a"))
    assert not (tmp_path / "again").exists()
    (tmp_path / "d.csv").write_text("\ufeffid,t,a\r\n")
    assert replay.run(again(tmp_path, header=str(tmp_path / "d.csv")))["rows_scored"] == 1
    assert replay.run(again(tmp_path, "other", header="id,t,a"))["offered"] == 0


def test_a_repair_with_a_line_end_or_a_quote_costs_no_other_record(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    rows = [
        {"source": "d.csv", "position": place, "payload": payload}
        for place, payload in enumerate(
            [b'"x1,2024-01-01,1', b"x2,2024-01-01,2\nx9,2024-01-01,2", b"x3,2024-01-01,3", b"\xff"]
        )
    ]
    dead_letters(tmp_path / "out", *rows)
    result = replay.run(again(tmp_path, header="id,t,a"))
    assert (result["rows_in"], result["rows_scored"], result["rows_dead"]) == (4, 1, 3)
    again_dead = pq.read_table(tmp_path / "again" / DEAD_LETTERS).to_pylist()
    assert [row["payload"] for row in again_dead] == [rows[i]["payload"] for i in (0, 1, 3)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not a JSON object"),
        pytest.param('{"x": ' + "[" * 10_000, "line 2: is not a JSON object", id="deep"),
        ("[]", "line 2: Expected `object`, got `array`"),
        ('{"source": "day.csv", "position": 1}', "line 2: give either `payload` or"),
        (
            '{"source": "day.csv", "position": -1, "payload": ""}',
            r"line 2: Expected `int` >= 0 - at `\$.position`",
        ),
        ('{"source": "day.csv", "position": 1, "payload_base64": "!"}', "line 2: payload_base64"),
        ('{"source": "day.csv", "position": 7, "payload": "x"}', "line 2: no dead letter in"),
        ('{"source": "day.csv", "position": 1, "payload": "x"}', "line 2: an earlier line has"),
    ],
)
def test_an_invalid_repaired_file_is_refused_with_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    scored(tmp_path)
    file = tmp_path / "repaired.jsonl"
    first = json.dumps({"source": "day.csv", "position": 1, "payload": "x2,2024-01-02,1"})
    file.write_text(f"{first}\n{line}\n")
    with pytest.raises(FraudError, match=f"^--from {file}: {message}"):
        replay.run(again(tmp_path, repaired=str(file)))
    assert listed(tmp_path)["replayed"] == 0
    assert not (tmp_path / "again").exists()


def test_results_of_a_run_are_not_replaced(tmp_path: Path) -> None:
    scored(tmp_path)
    with fails(Code.OUTPUT_OCCUPIED, "scores", kind=UsageError):
        replay.run(again(tmp_path, "out"))
    flagged = tmp_path / "flagged"
    flagged.mkdir()
    (flagged / "part-1.parquet").touch()
    options = again(tmp_path)
    with fails(Code.OUTPUT_OCCUPIED, r"^--sink parquet:", kind=UsageError):
        replay.run(replace(options, sink=f"parquet:{flagged}"))


def test_the_same_directory_can_be_scored_into_after_a_replay(tmp_path: Path) -> None:
    out = scored(tmp_path)
    file = export(tmp_path, ten="10", yesterday="2024-01-03")
    replay.run(again(tmp_path, repaired=str(file)))
    scored(tmp_path)
    # The run has replaced the dead letters, and with them what was known of them.
    assert listed(tmp_path)["dead_letters"] == 2
    assert [path.name for path in out.glob(".*")] == []


def test_alerts_and_flagged_rows_go_where_those_of_score_go(tmp_path: Path) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10")
    url = f"sqlite:///{tmp_path}/flagged.db"
    sent = tmp_path / "alerts.jsonl"
    options = again(tmp_path, repaired=str(file))
    replay.run(replace(options, sink=url, alerts=(f"file:{sent}",)))
    assert [json.loads(line)["transaction_id"] for line in sent.read_text().splitlines()] == ["x2"]
    counts = Outbox(sqlite_url(tmp_path / "flagged.db")).counts()
    assert [count.sent for count in counts.values()] == [1]


def test_records_with_unsent_alerts_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10")

    def send(*given: object, **options: object) -> None:
        raise FraudError("nobody listens", Code.BROKER_SILENT)

    monkeypatch.setattr(score, "send_pending", send)
    given = again(tmp_path, repaired=str(file))
    with fails(Code.BROKER_SILENT, r"^nobody listens$"):
        replay.run(replace(given, alerts=("console:",)))
    assert [row["position"] for row in listed(tmp_path)["rows"]] == [2]
    assert ids(tmp_path / "again") == ["x2"]


def test_a_failed_replay_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(tmp_path)
    file = export(tmp_path, ten="10")
    options = again(tmp_path, repaired=str(file))

    def publish(self: RunOutputs) -> None:
        raise FraudError("the disk is full", Code.OUTPUT_UNWRITABLE)

    with monkeypatch.context() as patched:
        patched.setattr(RunOutputs, "publish", publish)
        with fails(Code.OUTPUT_UNWRITABLE, r"^the disk is full$"):
            replay.run(options)
    assert listed(tmp_path)["dead_letters"] == 2
    # Nothing of the records is left where they were brought together.
    assert not (tmp_path / "again").exists()
    assert replay.run(options)["rows_scored"] == 1


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    scored(tmp_path)
    options = again(tmp_path)
    result = replay.run(replace(options, dry_run=True))
    assert (result["offered"], result["rows"]) == (2, 2)
    assert not (tmp_path / "again").exists()
    assert listed(tmp_path)["replayed"] == 0


def letters_of(rows: int) -> list[dict[str, Any]]:
    """Return dead letters whose records are valid transactions by now."""
    return [
        {
            "source": f"day-{place % 3}.jsonl",
            "position": place,
            "reason": "wrong_type",
            "detail": "a: not",
            "payload": json.dumps({"id": f"x{place}", "t": "2024-01-01", "a": place}).encode(),
            "dead_at": datetime.now(UTC),
        }
        for place in range(rows)
    ]


def test_dead_letters_of_a_database_are_replayed_and_marked_there(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    url = sqlite_url(tmp_path / "letters.db")
    prepare_database(url)
    with writing(url) as connection:
        upsert(connection, TABLE, letters_of(2_345))
    assert run_list(ListDeadLettersOptions(out=None, sink=url))["dead_letters"] == 2_345
    read = DeadLetterTable(url).read(Choice())
    assert sum(map(len, read)) == 2_345
    result = replay.run(replace(again(tmp_path), out=None, from_sink=url))
    assert (result["offered"], result["rows_scored"]) == (2_345, 2_345)
    left = run_list(ListDeadLettersOptions(out=None, sink=url))
    assert (left["dead_letters"], left["replayed"]) == (0, 2_345)
    with transaction(url) as connection:
        assert (
            len(connection.execute(TABLE.select().where(TABLE.c.replayed_at.is_(None))).all()) == 0
        )


def test_a_replay_of_files_is_marked_in_their_database(tmp_path: Path) -> None:
    scored(tmp_path)
    url = sqlite_url(tmp_path / "letters.db")
    prepare_database(url)
    letters = pq.read_table(tmp_path / "out" / DEAD_LETTERS).to_pylist()
    with writing(url) as connection:
        upsert(connection, TABLE, [row | {"dead_at": datetime.now(UTC)} for row in letters])
    file = export(tmp_path, ten="10")
    options = again(tmp_path, repaired=str(file))
    replay.run(replace(options, sink=url))
    marked = run_list(ListDeadLettersOptions(out=None, sink=url, all=True))["rows"]
    assert {row["position"]: row["replayed"] for row in marked} == {1: True, 2: False}
