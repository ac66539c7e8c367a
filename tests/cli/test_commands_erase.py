"""`erase` deletes every trace, leaves all other rows, and records the deletion."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.alerts.pseudonym import KEY_VARIABLE, Pseudonyms
from beam_fraud.cli import main
from beam_fraud.cli.commands import erase, score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import Code
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.storage.batch_outputs import RunOutputs
from beam_fraud.storage.database.connection import (
    prepare_database,
    sqlite_url,
    transaction,
    writing,
)
from beam_fraud.storage.database.tables import (
    ALERTS,
    DEAD_LETTERS,
    DELIVERIES,
    ERASURES,
    LABELS,
    SNOOZES,
)
from beam_fraud.storage.database.upsert import upsert
from beam_fraud.storage.parquet_writer import ParquetBlockWriter, is_ours
from beam_fraud.storage.stream_outputs import ServerOutputs, StreamOutputs
from tests.cli.test_commands_score import bundle
from tests.crash import run_and_die_at
from tests.earlier import make_earlier
from tests.erasing import GONE, NOW, STAYS, filled, run, traces
from tests.failing import fails
from tests.flagged import flagged_batch

ROLES = {"transaction_id": "id", "event_time": "t", "account_id": "acc", "amount": "a"}


def scored(tmp_path: Path, rows: int = 200) -> Path:
    """A run with scores, dead letters, alerts in a file, an outbox and rows of two accounts."""
    file = tmp_path / "day.jsonl"
    lines = []
    for row in range(rows):
        account = (GONE, STAYS)[row % 2]
        amount = "ten" if row % 10 < 2 else row
        entry = {"id": f"x{row}", "t": "2024-01-01", "acc": account, "a": amount}
        lines.append(json.dumps(entry))
    file.write_text("\n".join(lines))
    out = tmp_path / "out"
    score.run(
        ScoreOptions(
            files=(str(file),),
            model=bundle(tmp_path / "model", ROLES),
            out=str(out),
            sink=f"parquet:{tmp_path / 'flagged'}",
            alerts=(f"file:{out / 'alerts.jsonl'}",),
        )
    )
    file.unlink()
    return out


def test_no_trace_of_an_account_remains_under_a_directory(tmp_path: Path) -> None:
    out = scored(tmp_path)
    assert len(traces(tmp_path)) >= 4
    before = pq.read_table(out / "scores")
    counted = run(outs=(str(out),), dry_run=True)
    assert len(traces(tmp_path)) >= 4
    result = run(outs=(str(out),), sinks=(f"parquet:{tmp_path / 'flagged'}",))
    assert traces(tmp_path) == []
    rows = result["rows"][str(out)]
    assert rows == counted["rows"][str(out)]
    assert (rows["scores"], rows["dead_letters"], rows["alerts.jsonl"]) == (80, 20, 80)
    assert rows["outbox.alerts"] == 80
    assert result["rows"][f"parquet:{tmp_path / 'flagged'}"] == {"flagged": 80}
    stored = before.filter(pc.equal(before["account_id"], STAYS))
    assert pq.read_table(out / "scores").equals(stored)
    assert pq.read_table(out / "dead_letters").num_rows == 20
    assert len((out / "alerts.jsonl").read_text().splitlines()) == 80
    assert all(map(is_ours, (out / "scores").glob("*.parquet")))


def test_files_of_an_earlier_version_are_erased_from(tmp_path: Path) -> None:
    out = scored(tmp_path)
    assert make_earlier(out / "scores") == 1
    assert run(outs=(str(out),))["rows"][str(out)]["scores"] == 80
    assert set(pq.read_table(out / "scores")["account_id"].to_pylist()) == {STAYS}


def test_a_run_can_write_to_a_directory_that_was_erased_from(tmp_path: Path) -> None:
    out = scored(tmp_path)
    run(outs=(str(out),), sinks=(f"parquet:{tmp_path / 'flagged'}",))
    assert scored(tmp_path, rows=20) == out
    assert pq.read_table(out / "scores").num_rows == 16


def test_an_unknown_account_changes_no_byte_of_the_files(tmp_path: Path) -> None:
    out = scored(tmp_path)

    def files() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in out.rglob("*")
            if path.suffix in {".parquet", ".jsonl"} and path.name != "erasures.jsonl"
        }

    before = files()
    assert run(accounts=("nobody",), outs=(str(out),))["total"] == 0
    assert files() == before
    assert len((out / "erasures.jsonl").read_text().splitlines()) == 1


def test_an_unknown_account_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["erase", "--out", str(scored(tmp_path)), "--account"]
    for account, code in (("nobody", 1), (GONE, 0)):
        for how in ("--dry-run", "--yes"):
            capsys.readouterr()
            assert main([*call, account, how]) == code
            message = capsys.readouterr().out
            assert ("these places have no data of the account" in message) == bool(code)
            assert account not in message


@pytest.mark.parametrize("how", ["--dry-run", "--yes"])
def test_unknown_accounts_are_reported_beside_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    out, url = scored(tmp_path, rows=20), sqlite_url(tmp_path / "cases.db")
    prepare_database(url)
    # Each of these is in one kind of place alone.
    known = [GONE, "of-label", "of-snooze", "of-letter", "of-line", "of-text"]
    label = {"transaction_id": "t", "label": 1, "event_time": NOW, "labelled_at": NOW}
    snooze = {"kind": "account", "value": "of-snooze", "until": NOW, "created_at": NOW}
    letter = {"source": "s", "position": 1, "reason": "malformed", "dead_at": NOW}
    with writing(url) as connection:
        upsert(connection, LABELS, [label | {"account_id": "of-label", "labelled_by": ""}])
        upsert(connection, SNOOZES, [snooze])
        upsert(
            connection, DEAD_LETTERS, [letter | {"payload": b'{"a": "of-letter"}', "detail": None}]
        )
    (tmp_path / "more.jsonl").write_text('{"account_id": "of-line"}\n{"text": "is of-text"}\n')
    call = ["erase", "--out", str(out), "--sink", url, "--file", str(tmp_path / "more.jsonl")]
    call += [word for id in (*known, "nobody", "no\x1bone") for word in ("--account", id)]
    assert main([*call, "--json", "--dry-run"]) == 0
    decoded = json.loads(capsys.readouterr().out)
    assert (decoded["accounts"], decoded["accounts_unknown"]) == (8, ["nobody", "no\x1bone"])
    assert main([*call, how]) == 0
    message = capsys.readouterr()
    assert "--account nobody no\\x1bone: these places have no data of it" in message.err
    assert "these places have no data of 2 of the 8 accounts" in message.out
    assert not any(id in message.out + message.err for id in known)


def test_old_rows_are_erased_and_younger_ones_stay(tmp_path: Path) -> None:
    out = scored(tmp_path, rows=20)
    url = sqlite_url(tmp_path / "cases.db")
    filled(url)
    young = {"source": "s", "position": 1, "reason": "malformed", "dead_at": NOW}
    with writing(url) as connection:
        upsert(connection, DEAD_LETTERS, [young | {"position": 9_999}])
        connection.execute(
            DEAD_LETTERS.update()
            .where(DEAD_LETTERS.c.position < 600)
            .values(dead_at=NOW - timedelta(days=11))
        )
        old = ALERTS.c.transaction_id.like("t01%")
        connection.execute(ALERTS.update().where(~old).values(event_time=NOW))
        connection.execute(DELIVERIES.update().values(created_at=NOW - timedelta(days=11)))
    part = next((out / "dead_letters").glob("*.parquet"))
    rows = len(pq.read_table(part))
    result = run(accounts=(), older_than="10d", sinks=(url,), outs=(str(out),))
    assert result["rows"][url] == {
        "labels": 0,
        # `d0` alone has no younger alert.
        "deliveries": 1,
        "alerts": 11,
        "snoozes": 0,
        "flagged_transactions": 100,
        "audited_transactions": 0,
        "dead_letters": 600,
        "runs": 0,
        "cases": 0,
        "case_transactions": 100,
        "case_facets": 0,
        "case_notes": 0,
        "linked_values": 0,
        "list_requests": 0,
    }
    assert result["rows"][str(out)]["scores"] == 16
    assert result["rows"][str(out)]["alerts.jsonl"] == 16
    assert (result["rows"][str(out)]["dead_letters"], rows) == (0, 4)
    eleven = time.time() - 11 * 86_400
    os.utime(part, (eleven, eleven))
    assert run(accounts=("x",), outs=(str(out),))["total"] == 0
    again = run(accounts=(), older_than="10d", outs=(str(out),))
    assert again["rows"][str(out)]["dead_letters"] == 4
    assert pq.read_table(out / "dead_letters").num_rows == 0


def test_the_record_names_an_account_by_its_keyed_hash_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = scored(tmp_path, rows=10)
    url = sqlite_url(tmp_path / "cases.db")
    filled(url)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert run(outs=(str(out),))["subject"] is None
    key = "0123456789abcdef"
    monkeypatch.setenv(KEY_VARIABLE, key)
    hashed = Pseudonyms(key.encode()).of("account", GONE)
    lines = f'{{"alert_id": "1", "account_id": "{hashed}"}}\n{{"alert_id": "2"}}\n'
    (out / "hashed.jsonl").write_text(lines)
    result = run(outs=(str(out),), sinks=(url,))
    assert result["rows"][str(out)]["hashed.jsonl"] == 1
    assert result["subject"] == hashed
    last = json.loads((out / "erasures.jsonl").read_text().splitlines()[-1])
    assert last["erasure_id"] == result["erasure_id"]
    assert (last["kind"], last["subject"]) == ("account", hashed)
    with transaction(url) as connection:
        (row,) = connection.execute(ERASURES.select()).all()
    assert (row.erasure_id, row.subject) == (last["erasure_id"], hashed)
    assert json.loads(row.rows)["flagged_transactions"] == 50
    assert GONE not in erase.render(result)


def test_undelivered_rows_keep_the_metadata_of_their_files(tmp_path: Path) -> None:
    place = tmp_path / "out" / "undelivered"
    place.mkdir(parents=True)
    message = SCORED.with_metadata({b"sink": b"postgresql://db"})
    writer = ParquetBlockWriter(place / "part-1.parquet", message)
    for account in (GONE, STAYS, None):
        writer.write(flagged_batch([f"of {account}"], account=account))
    writer.close()
    assert run(outs=(str(tmp_path / "out"),))["rows"][str(tmp_path / "out")]["undelivered"] == 1
    left = pq.read_table(place / "part-1.parquet")
    assert left["account_id"].to_pylist() == [STAYS, None]
    assert left.schema.metadata[b"sink"] == b"postgresql://db"


def test_a_directory_at_work_is_refused(tmp_path: Path) -> None:
    out = scored(tmp_path, rows=10)
    other = RunOutputs(out, "other")
    other.begin()
    with fails(Code.OUTPUT_IN_USE, r"^--out .*: a run is writing there; wait for its end$"):
        run(outs=(str(out),))
    other.abandon()
    run(outs=(str(out),))


@pytest.mark.parametrize("outputs", [StreamOutputs, ServerOutputs])
def test_a_running_stream_or_server_is_refused_and_its_state_is_mentioned(
    outputs: type[StreamOutputs], tmp_path: Path
) -> None:
    stream = outputs(tmp_path / "out")
    stream.begin()
    stream.checkpoint.touch()
    with fails(Code.OUTPUT_IN_USE, r"a stream is running there; stop it"):
        run(outs=(str(tmp_path / "out"),))
    stream.release()
    (note,) = run(outs=(str(tmp_path / "out"),))["notes"]
    assert "keeps accounts until its windows have passed them" in note
    stream.begin()
    stream.release()


def test_leftovers_of_a_killed_run_are_removed_first(tmp_path: Path) -> None:
    out = scored(tmp_path, rows=10)
    left = out / ".incoming-20240101T000000-abcdef"
    (left / "spill").mkdir(parents=True)
    (left / "spill" / "rows").write_text(GONE)
    (left / "lock").touch()
    run(outs=(str(out),), sinks=(f"parquet:{tmp_path / 'flagged'}",))
    assert traces(tmp_path) == []


def test_an_erasure_killed_at_any_step_bars_neither_the_next_one_nor_a_run(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    scored(tmp_path / "before", rows=10)
    for step in itertools.count():
        place = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", place)
        out, flagged = place / "out", ParquetSink(place / "flagged")
        erase = partial(run, outs=(str(out),), sinks=(flagged.describe(),))
        killed = run_and_die_at(step, erase)
        RunOutputs(out, "r").check()
        flagged.check()
        erase()
        assert traces(place) == []
        left = [path.name for path in place.rglob("*") if path.name.startswith(".")]
        assert [name for name in left if name != ".headers.json"] == []
        if not killed:
            break
    assert step > 8


def test_parts_that_a_savepoint_names_are_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("scores", "stream"):
        (out / name).mkdir(parents=True)
    part = out / "scores/.part-000-0123456789ab.unfinished"
    with part.open("wb") as file:
        ParquetBlockWriter(file, SCORED).close()
    with fails(Code.OUTPUT_IN_USE, "files in scores"):
        run(outs=(str(out),))
    assert part.exists()


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"accounts": ()}, Code.OPTION_MISSING, "--account or --older-than"),
        ({"older_than": "1d"}, Code.OPTION_CONFLICT, "--account or --older-than"),
        ({}, Code.OPTION_MISSING, "--out DIR, --sink URL or --file FILE"),
        ({"accounts": (), "older_than": "0d", "outs": ("x",)}, Code.CONSENT_MISSING, "0: would"),
        (
            {"accounts": (), "older_than": "1y", "outs": ("x",)},
            Code.TIME_INVALID,
            "^--older.* '1y'",
        ),
        ({"outs": ("/nowhere",)}, Code.PLACE_EMPTY, "^--out /nowhere: "),
        ({"files": ("/nowhere",)}, Code.INPUT_MISSING, "^--file /nowhere: "),
        ({"accounts": ("\udcff",), "outs": ("x",)}, Code.OPTION_VALUE, "^--account: .* UTF-8"),
        ({"sinks": ("parquet:/nowhere",)}, Code.PLACE_EMPTY, "^--sink parquet:/nowhere: "),
        (
            {"sinks": ("sqlite:////nowhere.db",)},
            Code.PLACE_EMPTY,
            "^--sink sqlite:////nowhere.db",
        ),
    ],
)
def test_an_invalid_call_is_refused(options: dict[str, Any], code: Code, named: str) -> None:
    with fails(code, named):
        run(**options)


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, True), ("y", 0, False)])
def test_a_terminal_asks_for_confirmation(
    tmp_path: Path, answer: str, code: int, left: bool
) -> None:
    out = scored(tmp_path, rows=10)
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    call = [sys.executable, "-m", "beam_fraud", "erase", "--account", GONE, "--out", str(out)]
    done = subprocess.run(call, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code
    assert done.stderr.startswith("Delete 13 rows permanently? [y/N] ")
    assert ("nothing was deleted" in done.stderr) == left
    assert any(path.startswith("out/") for path in traces(tmp_path)) == left
    assert GONE not in done.stdout + done.stderr


def test_nothing_is_erased_without_confirmation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scored(tmp_path, rows=10)
    call = [sys.executable, "-m", "beam_fraud", "erase", "--account", GONE, "--out", str(out)]
    done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "beam-fraud: erase: deletes permanently; add --yes, or --dry-run to count first [BF108]\n"
    )
    assert traces(tmp_path)
    flagged = f"parquet:{tmp_path / 'flagged'}"
    assert main([*call[3:], "--yes", "--sink", flagged]) == 0
    message = capsys.readouterr()
    assert "rows deleted" in message.out
    assert GONE not in message.out + message.err
    assert traces(tmp_path) == []
