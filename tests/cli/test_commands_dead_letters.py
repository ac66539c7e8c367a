"""Dead letters are counted, shown without their records, and exported for repair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import replay, score
from beam_fraud.cli.commands.dead_letters import render_list, run_export, run_list, wrong_value
from beam_fraud.cli.options import ExportDeadLettersOptions, ListDeadLettersOptions, ScoreOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.records.faults import REASONS
from beam_fraud.storage.database.connection import sqlite_url
from tests.cli.test_commands_replay import DAY, again, dead_letters, export, listed, scored
from tests.cli.test_commands_score import bundle
from tests.failing import fails


def test_a_list_counts_and_shows_records_only_on_request(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    dead_letters(
        tmp_path / "out",
        {"source": "a\x1b[31m.jsonl", "position": 0, "payload": b"card \x1b]0;x\x07 \xff\n"},
        {"source": "b.jsonl", "position": 1, "payload": b"y", "reason": "too_long"},
        {"source": "b.jsonl", "position": 2, "payload": b"z", "detail": "no\nJSON"},
    )
    result = listed(tmp_path, limit=2)
    assert result["by_reason"] == {"malformed": 2, "too_long": 1}
    assert result["by_source"] == {"b.jsonl": 2, "a\x1b[31m.jsonl": 1}
    assert all("payload" not in row for row in result["rows"])
    text = render_list(result)
    assert "card" not in text
    assert text.endswith("... and 1 more; --limit shows more of them")
    text = render_list(listed(tmp_path, payload=True))
    assert "card" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 1 + 2 + 2 + 3
    assert listed(tmp_path, reason="too_long")["dead_letters"] == 1
    assert listed(tmp_path, source="b.jsonl")["dead_letters"] == 2


def test_an_export_never_overwrites_a_file(tmp_path: Path) -> None:
    scored(tmp_path)
    file = export(tmp_path)
    with fails(Code.OUTPUT_OCCUPIED, "--to "):
        run_export(ExportDeadLettersOptions(out=str(tmp_path / "out"), to=str(file)))


def test_one_place_is_required(tmp_path: Path) -> None:
    for options in ({"out": None}, {"out": "x", "sink": "sqlite:///x.db"}):
        with fails(Code.OPTION_MISSING, "--out .* --sink", kind=UsageError):
            run_list(ListDeadLettersOptions(**options))
    with fails(Code.PLACE_EMPTY, "dead_letters; give the --out"):
        listed(tmp_path)
    with fails(Code.SINK_UNSUITED, "--sink: .* --out", kind=UsageError):
        run_list(ListDeadLettersOptions(out=None, sink=f"parquet:{tmp_path}"))


def test_dead_letters_of_score_in_a_database_are_replayed_with_rules(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "cases.db")
    (tmp_path / "day.csv").write_text(DAY)
    (tmp_path / "rules.toml").write_text(
        '[[rule]]\nname = "small"\nwhen = "amount < 100"\ndecision = "decline"\npriority = 1\n'
    )
    options = ScoreOptions(
        files=(str(tmp_path / "day.csv"),),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "out"),
        sink=url,
        rules=str(tmp_path / "rules.toml"),
    )
    score.run(options)
    file = tmp_path / "repaired.jsonl"
    run_export(ExportDeadLettersOptions(out=None, sink=url, to=str(file), reason="wrong_type"))
    file.write_text(file.read_text().replace("ten", "10"))
    arguments = replace(
        again(tmp_path),
        out=None,
        from_sink=url,
        header="id,t,a",
        sink=url,
        rules=options.rules,
    )
    assert replay.run(replace(arguments, repaired=str(file)))["rows_scored"] == 1
    (row,) = pq.read_table(tmp_path / "again" / "scores").to_pylist()
    assert (row["transaction_id"], row["decision"], row["rules"]) == ("x2", "decline", ["small"])
    # Becomes a dead letter again, in the database as well, and can be repaired again.
    with fails(Code.ROWS_INVALID, "of 1 records"):
        replay.run(replace(arguments, results=str(tmp_path / "third")))
    left = run_list(ListDeadLettersOptions(out=None, sink=url, all=True))["rows"]
    assert {row["position"]: row["replayed"] for row in left} == {1: True, 2: False}


def test_a_filter_without_dead_letters_is_an_error(tmp_path: Path) -> None:
    scored(tmp_path)
    out = str(tmp_path / "out")
    with pytest.raises(
        UsageError, match=r"--reason wrong_typ: no such reason; did you mean wrong_"
    ):
        listed(tmp_path, reason="wrong_typ")
    for run in (
        lambda **chosen: listed(tmp_path, **chosen),
        lambda **chosen: run_export(
            ExportDeadLettersOptions(out=out, to=str(tmp_path / "x"), **chosen)
        ),
        lambda **chosen: replay.run(again(tmp_path, **chosen)),
    ):
        with fails(Code.PLACE_EMPTY, r"--source dya.csv: .*day.csv\)"):
            run(source="dya.csv")
    # No dead letter of a reason is good news for whoever looks, and nothing to go on with.
    result = listed(tmp_path, reason="too_long")
    assert render_list(result).endswith(f"no dead letter of this reason in {result['place']}")
    with fails(Code.PLACE_EMPTY, "--reason too_long: "):
        run_export(ExportDeadLettersOptions(out=out, to=str(tmp_path / "x"), reason="too_long"))
    assert not (tmp_path / "x").exists()


#: With an empty line and a field over two lines before what is wrong.
LINES = (
    'id;t;a\n1;2024-01-01;5\n\n"2\n0";2024-01-01;5\n3;2024-01-01;ten euros\n4;yesterday\x1b[2J;5\n'
)


def test_a_list_names_the_line_and_the_wrong_value(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text(LINES)
    records = [{"id": "5", "t": "2024-01-01", "a": 1}, {"id": "6", "t": "2024-01-01", "a": [7]}]
    (tmp_path / "day.jsonl").write_text("\n\n".join(json.dumps(record) for record in records))
    options = ScoreOptions(
        files=(str(tmp_path / "day.csv"), str(tmp_path / "day.jsonl")),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "out"),
    )
    score.run(options)
    dead = pq.read_table(tmp_path / "out/dead_letters").to_pylist()
    # The column `position` is the row's number, as before.
    assert sorted((row["source"], row["position"]) for row in dead) == [
        *(("day.csv", 2), ("day.csv", 3), ("day.jsonl", 1))
    ]
    result = listed(tmp_path)
    shown = sorted(render_list(result).splitlines()[-3:])
    wrong = "wrong_type a: not of the type it should be: 'ten euros'"
    assert shown[0] == f"day.csv line 6, {wrong}"
    assert shown[1] == r"day.csv line 7, unparseable_time t: not a time: 'yesterday\x1b[2J'"
    assert shown[2].startswith("day.jsonl line 3, wrong_type a: Expected ")
    assert shown[2].endswith(": [7]")
    assert all(row["line"] for row in result["rows"])


@pytest.mark.parametrize(
    ("record", "header", "value"),
    [
        (b'{"a": "' + b"x" * 99 + b'"}', None, f"'{'x' * 60}'…"),
        (b'{"a": null}', None, None),
        (b'{"b": 1}', None, None),
        (b"{", None, None),
        (b"[" * 5_000, None, None),
        (b"\xff", None, None),
        (None, None, None),
        (b"1\tb \xff", "n\ta", r"'b \\xff'"),
        (b"1,2,3", "n,a", None),
        (b"1,2", "n,other", None),
    ],
)
def test_a_wrong_value_is_shown_if_it_can_be_found(
    record: bytes | None, header: str | None, value: str | None
) -> None:
    assert wrong_value("wrong_type", f"a: {REASONS['wrong_type']}", record, header) == value
