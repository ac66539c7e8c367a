"""What every source of a list does: the contract of files, tables and topics."""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.cli.commands import lists
from beam_fraud.cli.options import ListAddOptions, ListShowOptions
from beam_fraud.decisions.lists import topic_list
from beam_fraud.decisions.lists.changes import list_names
from beam_fraud.decisions.lists.file_list import FileList
from beam_fraud.decisions.lists.live_list import LiveList
from beam_fraud.decisions.lists.table_list import TableList
from beam_fraud.decisions.lists.topic_list import TopicList
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.event_time import micros_of
from tests.failing import fails

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIME = micros_of(NOW)
LATER = NOW + timedelta(days=1)
LOG = "beam_fraud.decisions.lists.live_list"


class Origin(ABC):
    """Where the list `blocked` of a directory comes from, and who changes it there."""

    #: Where to correct an entry: a list of a file is changed by commands.
    declared = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    @abstractmethod
    def add(self, *values: str, until: datetime | None = None) -> None:
        """Add values by ann because of a test, or give them another end."""

    @abstractmethod
    def remove(self, *values: str) -> None:
        """Remove values."""

    @abstractmethod
    def fill(self, values: list[str]) -> None:
        """Add many values fast."""

    @abstractmethod
    def break_down(self) -> None:
        """Make the list unreadable."""

    @abstractmethod
    def mend(self) -> None:
        """Make it readable again."""


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (FileList, TableList, TopicList):
        monkeypatch.setattr(kind, "look_seconds", 0.02)
    monkeypatch.setattr(topic_list, "_WAIT_SECONDS", 0.1)


def among(live: LiveList, *values: str | None, at: int = TIME) -> list[bool]:
    column = pa.array(values, pa.string())
    return live.of(column, np.full(len(values), at)).tolist()


def soon(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something holds; a list takes a change up in ten seconds."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "not within ten seconds"
        time.sleep(0.02)


def counted(log: str) -> tuple[int, int]:
    """Return how many entries came and went; messages of partitions may come one by one."""
    came_went = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) entries came, (\d+)", log)]
    came, went = zip(*came_went, strict=True) if came_went else ((), ())
    return sum(came), sum(went)


class ListContract:
    """The tests; a subclass has a fixture `origin`."""

    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        look_often(monkeypatch)

    def test_entries_are_there_before_the_first_row(self, origin: Origin) -> None:
        origin.add("4929-17", "b")
        origin.add("gone")
        origin.remove("gone")
        assert list_names(origin.directory) == ["blocked"]
        live = LiveList(origin.directory, "blocked")
        assert among(live, "4929-17", "b", "gone", "x", "", None) == [True] * 2 + [False] * 4

    def test_an_entry_ends_at_its_event_time(self, origin: Origin) -> None:
        origin.add("a", until=LATER)
        live = LiveList(origin.directory, "blocked")
        end = micros_of(LATER)
        assert [among(live, "a", at=time)[0] for time in (TIME, end - 1, end)] == [
            True,
            True,
            False,
        ]
        origin.add("a", until=LATER + timedelta(days=1))
        soon(lambda: among(live, "a", at=end) == [True])

    def test_changes_are_taken_up_and_counted_without_values(
        self, origin: Origin, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        origin.add("card-1", "card-2")
        live = LiveList(origin.directory, "blocked")
        origin.add("card-3", "card-4")
        soon(lambda: among(live, "card-3", "card-4") == [True, True])
        soon(lambda: counted(caplog.text) == (2, 0))
        origin.remove("card-1")
        soon(lambda: among(live, "card-1", "card-2") == [False, True])
        soon(lambda: counted(caplog.text) == (2, 1))
        origin.add("card-1")
        soon(lambda: among(live, "card-1", "card-3") == [True, True])
        assert "card-" not in caplog.text

    def test_all_rules_of_a_process_share_the_entries(self, origin: Origin) -> None:
        origin.add("a")
        one, other = LiveList(origin.directory, "blocked"), LiveList(origin.directory, "blocked")
        assert one._members is other._members

    def test_entries_are_shown_with_reason_and_author(self, origin: Origin) -> None:
        origin.add("a")
        origin.add("b", until=datetime(2100, 1, 1, tzinfo=UTC))
        origin.add("old", until=datetime(2020, 1, 1, tzinfo=UTC))
        where = str(origin.directory)
        shown = lists.run_show(ListShowOptions(lists=where, name="blocked"))
        assert shown["entries"] == 2
        entries = {one["value"]: one for one in shown["shown"]}  # type: ignore[attr-defined]
        assert entries.keys() == {"a", "b"}
        assert entries["b"]["until"] == "2100-01-01T00:00:00Z"
        assert {(one["reason"], one["who"]) for one in entries.values()} == {("a test", "ann")}
        assert lists.run_show(ListShowOptions(lists=where)) == {
            "lists": [{"list": "blocked", "entries": 2}]
        }
        assert "a test" in lists.render_show(shown)
        assert ("source" in shown) == origin.declared

    def test_only_the_list_of_a_file_is_changed_by_commands(self, origin: Origin) -> None:
        origin.add("a")
        options = ListAddOptions(lists=str(origin.directory), name="blocked", values=("b",))
        if origin.declared:
            with fails(Code.LIST_INVALID, "blocked.*change it there"):
                lists.run_add(options)
        else:
            assert lists.run_add(options)["entries"] == 2

    def test_the_last_known_entries_stay_while_the_source_is_away(
        self, origin: Origin, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        origin.add("a")
        live = LiveList(origin.directory, "blocked")
        origin.break_down()
        soon(lambda: "stays as it was" in caplog.text or "not reachable" in caplog.text)
        assert among(live, "a", "b") == [True, False]
        # Other rules that name it, meanwhile.
        assert among(LiveList(origin.directory, "blocked"), "a", "b") == [True, False]
        origin.mend()
        origin.add("b")
        soon(lambda: among(live, "a", "b") == [True, True], 30)
        told = [one for one in caplog.records if one.levelno >= logging.WARNING]
        assert len({one.getMessage() for one in told}) == 1, caplog.text

    def test_a_large_list_loads_fast_and_costs_little(self, origin: Origin) -> None:
        seconds, cost = loaded(origin, 20_000, 50_000)
        assert seconds < 5
        assert cost < 0.5

    @pytest.mark.soak
    def test_a_million_entries_load_in_five_seconds(self, origin: Origin) -> None:
        seconds, cost = loaded(origin, 1_000_000, 50_000)
        print(f"{type(origin).__name__}: {seconds:.2f} s, {cost:.3f} us a row")
        assert seconds < 5
        assert cost < 0.2


def loaded(origin: Origin, count: int, rows: int) -> tuple[float, float]:
    """Return the seconds to load a list, and the microseconds that a look-up takes per row."""
    origin.fill([f"account{n:09d}" for n in range(count)])
    begun = time.perf_counter()
    live = LiveList(origin.directory, "blocked")
    seconds = time.perf_counter() - begun
    random = np.random.default_rng(0).integers(0, 10 * count, rows)
    column = pa.array([f"account{n:09d}" for n in random])
    times = np.full(rows, TIME)
    expected = int(np.count_nonzero(random < count))
    best = np.inf
    for _ in range(5):
        begun = time.perf_counter()
        hits = live.of(column, times)
        best = min(best, time.perf_counter() - begun)
        assert np.count_nonzero(hits) == expected
    return seconds, best / rows * 1e6


def refused(directory: Path) -> FraudError:
    """Return the error with which a list cannot be opened."""
    with pytest.raises(FraudError) as raised:
        LiveList(directory, "blocked")
    return raised.value
