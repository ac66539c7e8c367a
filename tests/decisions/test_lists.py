from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.lists.changes import Change, append_changes, read_history, read_tail
from beam_fraud.decisions.lists.live_list import LiveList
from beam_fraud.decisions.lists.membership import Membership, Turnover
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.event_time import micros_of
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.storage.lock import lock
from tests.crash import run_and_die_at
from tests.decisions.list_contract import look_often, soon
from tests.failing import fails

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIME = micros_of(NOW)
NAMES = {"account_id": "text", "merchant_id": "text", "amount": "number"}


def add(value: str, until: datetime | None = None) -> Change:
    return Change(value, "add", NOW, "ann", until, "a test")


def remove(value: str) -> Change:
    return Change(value, "remove", NOW, "ann")


def among(members: Membership | LiveList, *values: str | None, at: int = TIME) -> list[bool]:
    column = pa.array(values, pa.string())
    return members.of(column, np.full(len(values), at)).tolist()


def test_the_last_change_of_a_value_counts(tmp_path: Path) -> None:
    changes = [add("a"), add("b"), remove("a"), add("c"), remove("c"), add("c"), remove("x")]
    append_changes(tmp_path, "blocked", changes)
    members = Membership()
    members.apply(read_tail(tmp_path, "blocked").changes)
    assert among(members, "a", "b", "c", "x", "", None) == [False, True, True, False, False, False]
    assert members.count(TIME) == 2
    assert read_history(tmp_path, "blocked") == changes


def test_an_entry_ends_at_its_event_time(tmp_path: Path) -> None:
    append_changes(tmp_path, "blocked", [add("a", NOW + timedelta(days=1))])
    live = LiveList(tmp_path, "blocked")
    assert among(live, "a", at=TIME) == [True]
    end = micros_of(NOW + timedelta(days=1))
    assert among(live, "a", at=end - 1) == [True]
    assert among(live, "a", at=end) == [False]


@pytest.mark.parametrize("seed", range(5))
def test_replaced_values_equal_a_new_list(seed: int) -> None:
    random = np.random.default_rng(seed)
    members, held = Membership(), set[str]()
    for _ in range(5):
        values = [f"v{number}" for number in random.integers(0, 900, random.integers(0, 400))]
        until = pa.nulls(len(values), pa.timestamp("us", "UTC"))
        columns = {"value": pa.array(values, pa.string()), "until": until}
        new = set(values)
        turnover = members.reload(
            pa.table({**columns, "action": pa.array(["add"] * len(values), pa.string())})
        )
        assert turnover == Turnover(len(new - held), len(held - new), 0)
        held = new
        asked = [f"v{number}" for number in range(1_000)]
        assert among(members, *asked) == [value in held for value in asked]
        assert len(members) == members.count(TIME) == len(held)


@pytest.mark.parametrize("seed", range(5))
def test_any_changes_in_any_pieces_equal_a_dictionary(seed: int) -> None:
    random = np.random.default_rng(seed)
    members, expected = Membership(), dict[str, bool]()
    for _ in range(20):
        values = [f"v{number}" for number in random.integers(0, 3_000, random.integers(1, 400))]
        actions = random.choice(["add", "remove"], len(values), p=[0.7, 0.3]).tolist()
        before = {value for value, there in expected.items() if there}
        expected |= {v: action == "add" for v, action in zip(values, actions, strict=True)}
        now = {value for value, there in expected.items() if there}
        until = pa.nulls(len(values), pa.timestamp("us", "UTC"))
        turnover = members.apply(pa.table({"value": values, "action": actions, "until": until}))
        assert turnover == Turnover(len(now - before), len(before - now), 0)
    asked = [f"v{number}" for number in range(4_000)]
    assert among(members, *asked) == [expected.get(value, False) for value in asked]
    assert [among(members, value)[0] for value in asked[:50]] == among(members, *asked[:50])


def test_a_list_follows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)
    append_changes(tmp_path, "blocked", [add("a")])
    live = LiveList(tmp_path, "blocked")
    assert among(live, "a", "b") == [True, False]
    append_changes(tmp_path, "blocked", [add("b"), remove("a")])
    soon(lambda: among(live, "a", "b") == [False, True])
    # Another file in its place is read as a whole.
    append_changes(tmp_path, "other", [add("c"), add("d"), add("e")])
    (tmp_path / "other.jsonl").replace(tmp_path / "blocked.jsonl")
    soon(lambda: among(live, "a", "b", "c") == [False, False, True])


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


def test_a_list_stays_as_it_was_while_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look_often(monkeypatch)
    append_changes(tmp_path, "blocked", [add("a")])
    live, file = LiveList(tmp_path, "blocked"), tmp_path / "blocked.jsonl"
    whole = file.read_bytes()
    with file.open("ab") as appended:
        appended.write(b'{"value": "b", "action": "destroy"}\n')
    with caplog.at_level(logging.ERROR):
        soon(lambda: errors(caplog))
        assert among(live, "a", "b") == [True, False]
    # Rules that are new in this process have the last known entries, another process has none.
    assert among(LiveList(tmp_path, "blocked"), "a", "b") == [True, False]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "blocked.jsonl").write_bytes(file.read_bytes())
    with fails(Code.LIST_INVALID, "blocked"):
        LiveList(tmp_path / "elsewhere", "blocked")
    file.unlink()
    soon(lambda: len(errors(caplog)) == 2)
    assert among(live, "a") == [True]
    file.write_bytes(whole)
    append_changes(tmp_path, "blocked", [add("b")])
    soon(lambda: among(live, "a", "b") == [True, True])
    assert len(errors(caplog)) == 2


def test_a_line_is_read_once_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(monkeypatch)
    append_changes(tmp_path, "blocked", [add("a")])
    live, file = LiveList(tmp_path, "blocked"), tmp_path / "blocked.jsonl"
    with file.open("ab") as appended:
        appended.write(b'{"value": "b", "act')
    assert among(live, "a", "b") == [True, False]
    # A killed process left it: the next one cuts it off.
    append_changes(tmp_path, "blocked", [add("c")])
    soon(lambda: among(live, "a", "b", "c") == [True, False, True])
    assert [change.value for change in read_history(tmp_path, "blocked")] == ["a", "c"]


def test_a_change_killed_at_any_step_is_whole_or_absent(tmp_path: Path) -> None:
    append_changes(tmp_path, "blocked", [add("a")])
    step = 0
    while run_and_die_at(step, lambda: append_changes(tmp_path, "blocked", [add("b"), add("c")])):
        assert len(read_history(tmp_path, "blocked")) % 2 == 1
        step += 1
    assert step


def test_what_cannot_be_an_entry_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in ("", " ", "x" * 1_001):
        with fails(Code.LIST_INVALID, "blocked", UsageError):
            append_changes(tmp_path, "blocked", [add("a"), add(value)])
    for name in ("", "two words", "../up", "1st"):
        with fails(Code.LIST_INVALID, "name", UsageError):
            append_changes(tmp_path, name, [add("a")])
    assert list(tmp_path.iterdir()) == []
    with fails(Code.LIST_MISSING, "blocked"):
        LiveList(tmp_path, "blocked")


def test_two_writers_take_turns(tmp_path: Path) -> None:
    append_changes(tmp_path, "blocked", [add("a")])
    held = lock(tmp_path / "blocked.jsonl")
    second = Thread(target=append_changes, args=(tmp_path, "blocked", [add("b")]))
    second.start()
    assert len(read_history(tmp_path, "blocked")) == 1
    held.release()
    second.join()
    assert len(read_history(tmp_path, "blocked")) == 2


def fired(when: str, directory: Path) -> list[bool]:
    text = f'[[rule]]\nname = \'r\'\nwhen = """{when}"""\ndecision = \'review\''
    rules = rules_from_toml(text, NAMES, live=directory)  # type: ignore[arg-type]
    rows = pa.record_batch(
        {
            "account_id": pa.array(["a", "b", None], pa.string()),
            "merchant_id": pa.array(["m@1", "a", "b"], pa.string()),
            "amount": [1.0, 2.0, 3.0],
            "event_time": pa.array([TIME] * 3, pa.timestamp("us", "UTC")),
        }
    )
    program = Program(rules, FeatureSet(HANDBOOK, order=("amount",)))
    block, scores = np.array([[1.0], [2.0], [3.0]]), np.zeros(3)
    holds = program.fired(rows, block, scores).holds
    # A server has few rows as values.
    values = [{**row, "event_time": TIME} for row in rows.to_pylist()]
    few = program.fired_of_rows(values, [{}] * 3, block, scores).holds
    assert few.tolist() == holds.tolist()
    return holds[0].tolist()  # type: ignore[no-any-return]


def test_rules_name_lists(tmp_path: Path) -> None:
    append_changes(tmp_path, "blocked", [add("a"), add("m@1")])
    assert fired("account_id in @blocked", tmp_path) == [True, False, False]
    # Of a missing value neither is true.
    assert fired("account_id not in @blocked", tmp_path) == [False, True, False]
    assert fired("amount > 1 and merchant_id in @blocked", tmp_path) == [False, True, False]
    assert fired("merchant_id == 'm@1' or account_id in @blocked", tmp_path) == [True, False, False]


@pytest.mark.parametrize(
    ("when", "named"),
    [
        ("account_id in @bloked", "unknown list @bloked .did you mean 'blocked'"),
        ("amount in @blocked", "amount is no column of text"),
        ("'a' in @blocked", "is no column of text"),
        ("@blocked", "@blocked is a list"),
        ("account_id == @blocked", "@blocked is a list"),
        ("account_id in @ blocked", "cannot be read"),
        ("account_id in [@blocked]", "a list holds"),
    ],
)
def test_an_invalid_use_of_a_list_is_refused(tmp_path: Path, when: str, named: str) -> None:
    append_changes(tmp_path, "blocked", [add("a")])
    with fails(Code.RULE_CONDITION, named, UsageError):
        fired(when, tmp_path)


def test_without_a_directory_no_rule_names_a_list() -> None:
    text = "[[rule]]\nname = 'r'\nwhen = 'account_id in @blocked'\ndecision = 'review'"
    with fails(Code.RULE_CONDITION, "column 15: .*--lists DIR", UsageError):
        rules_from_toml(text, NAMES)  # type: ignore[arg-type]
