"""The stored state of a stream on this machine is consistent after any kill."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from beam_fraud.storage import checkpoint as local_checkpoint
from beam_fraud.storage.checkpoint import FOREVER, LocalCheckpoint
from tests.stream_process import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state.db"
    yield path
    if path in local_checkpoint._open:
        local_checkpoint._open[path].close()


def test_all_users_in_a_process_share_one_checkpoint(path: Path) -> None:
    assert LocalCheckpoint.at(path) is LocalCheckpoint.at(path)


def test_deltas_and_positions_are_restored_together(path: Path) -> None:
    first = LocalCheckpoint.at(path)
    first.keep("once", 0, [(b"one", 1), (b"two", 2)])
    first.keep("once", 1, [(b"other", 1)])
    first.commit({"t:0": "10"})
    first.keep("once", 0, [(b"never committed", 3)])
    first.close()
    second = LocalCheckpoint.at(path)
    assert second.deltas("once", 0) == [b"one", b"two"]
    assert second.deltas("once", 1) == [b"other"]
    assert second.shards("once") == [0, 1]
    assert second.positions() == {"t:0": "10"}


def test_a_position_moves_on(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    checkpoint.commit({"t:0": "10", "t:1": "5"})
    checkpoint.commit({"t:0": "12"})
    assert checkpoint.positions() == {"t:0": "12", "t:1": "5"}


def test_a_killed_process_leaves_its_last_commit(path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from beam_fraud.storage.checkpoint import LocalCheckpoint\n"
        "checkpoint = LocalCheckpoint.at(Path(sys.argv[1]))\n"
        "checkpoint.keep('a', 0, [(b'x' * 100_000, 1)])\n"
        "checkpoint.commit({'t:0': '1'})\n"
        "for number in range(1000):\n"
        "    checkpoint.keep('a', 0, [(b'y' * 100_000, 1)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, timeout=60)
    assert done.returncode == -9
    checkpoint = LocalCheckpoint.at(path)
    assert checkpoint.deltas("a", 0) == [b"x" * 100_000]
    assert checkpoint.positions() == {"t:0": "1"}


def test_one_delta_may_replace_all(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    checkpoint.keep("a", 0, [(b"one", 1), (b"two", 1)])
    checkpoint.keep("a", 0, [(b"both", 1)], replaces=True)
    assert checkpoint.deltas("a", 0) == [b"both"]


def test_small_deltas_are_merged_level_by_level_and_keep_their_order(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    for number in range(32 * 32 + 5):
        checkpoint.keep("a", 0, [(f"{number},".encode(), number)])
        for last, stored in checkpoint.to_merge("a", 0):
            checkpoint.merge("a", 0, last, b"".join(stored))
    stored = checkpoint.deltas("a", 0)
    assert len(stored) == 6
    assert b"".join(stored).decode() == "".join(f"{number}," for number in range(32 * 32 + 5))


@pytest.mark.parametrize("every", [5, 32, 50])
def test_levels_that_are_merged_together_lose_nothing(path: Path, every: int) -> None:
    checkpoint = LocalCheckpoint.at(path)
    for number in range(32 * 32 * 3):
        checkpoint.keep("a", 0, [(f"{number},".encode(), number)])
        if number % every == every - 1:
            for last, stored in checkpoint.to_merge("a", 0):
                checkpoint.merge("a", 0, last, b"".join(stored))
    stored = checkpoint.deltas("a", 0)
    assert b"".join(stored).decode() == "".join(f"{number}," for number in range(32 * 32 * 3))


@pytest.mark.parametrize("every", [1, 7, 50])
def test_small_deltas_stay_in_their_order_among_large_ones(
    path: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_checkpoint, "_MERGED", 3)
    monkeypatch.setattr(local_checkpoint, "_LARGE", 60)
    checkpoint, kept = LocalCheckpoint.at(path), list[str]()
    for number in range(1_000):
        # A merge of some small ones is a large one, too.
        kept.append(f"{number}," * (20 if number % 40 == 7 else number % 90 // 30 + 1))
        checkpoint.keep("a", 0, [(kept[-1].encode(), number)])
        if number % every == every - 1:
            while runs := checkpoint.to_merge("a", 0):
                for last, stored in runs:
                    checkpoint.merge("a", 0, last, b"".join(stored))
    stored = checkpoint.deltas("a", 0)
    assert b"".join(stored).decode() == "".join(kept)
    assert len(stored) < 400


def test_deltas_of_an_earlier_version_come_first_in_their_order(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    checkpoint.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = '1' WHERE name = 'version'")
        for level, data in ((0, b"5,"), (2, b"1,2,"), (1, b"3,"), (1, b"4,"), (0, b"6,")):
            connection.execute(
                "INSERT INTO deltas (step, shard, level, newest, data) VALUES ('a', 0, ?, 1, ?)",
                (level, data),
            )
    checkpoint = LocalCheckpoint.at(path)
    for number in range(7, 100):
        checkpoint.keep("a", 0, [(f"{number},".encode(), number)])
        for last, stored in checkpoint.to_merge("a", 0):
            checkpoint.merge("a", 0, last, b"".join(stored))
    expected = "".join(f"{number}," for number in range(1, 100))
    assert b"".join(checkpoint.deltas("a", 0)).decode() == expected
    # A program of then refuses what it would order otherwise.
    assert checkpoint.about("version") == "2"


@pytest.mark.parametrize("every", [1, 50])
def test_rows_wait_for_no_large_merge(path: Path, every: int) -> None:
    checkpoint = LocalCheckpoint.at(path)
    sizes = []
    for number in range(32 * 32):
        checkpoint.keep("a", 0, [(b"x" * 100_000, number)])
        if number % every == every - 1:
            while runs := checkpoint.to_merge("a", 0):
                for last, stored in runs:
                    sizes.append(sum(len(one) for one in stored))
                    checkpoint.merge("a", 0, last, b"".join(stored))
    assert max(sizes) <= 4 << 20
    assert len(checkpoint.deltas("a", 0)) <= 120


def test_the_log_is_written_back_and_stays_short(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    log = path.with_name(f"{path.name}-wal")
    longest = 0
    for number in range(100):
        checkpoint.keep("a", 0, [(os.urandom(1 << 20), number)])
        checkpoint.commit({"t:0": str(number)})
        # The file takes up all but the last changes.
        wait_until(lambda kept=number: path.stat().st_size > (kept - 12) << 20)
        longest = max(longest, log.stat().st_size)
    assert longest < 30 << 20


def test_deltas_without_an_age_are_neither_merged_nor_dropped(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    checkpoint.keep("a", 0, [(b"x", FOREVER)] * 100)
    checkpoint.drop("a", 0, FOREVER)
    assert checkpoint.to_merge("a", 0) == []
    assert len(checkpoint.deltas("a", 0)) == 100


def test_expired_deltas_are_dropped_with_their_sources(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    for number in range(32):
        checkpoint.keep("a", 0, [(b"old", number)])
    ((last, stored),) = checkpoint.to_merge("a", 0)
    checkpoint.merge("a", 0, last, b"".join(stored))
    checkpoint.keep("a", 0, [(b"new", 50)])
    checkpoint.drop("a", 0, 31)
    assert checkpoint.deltas("a", 0) == [b"old" * 32, b"new"]
    checkpoint.drop("a", 0, 32)
    assert checkpoint.deltas("a", 0) == [b"new"]


def test_a_change_is_visible_to_decoded_shards(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    before = checkpoint.version("a", 0)
    checkpoint.keep("a", 0, [(b"x", 1)])
    assert checkpoint.version("a", 0) != before


def test_another_stream_is_refused(path: Path) -> None:
    checkpoint = LocalCheckpoint.at(path)
    assert not checkpoint.claim({"source": "topic a", "number of shards": "1"})
    checkpoint.commit({"a:0": "1"})
    assert checkpoint.claim({"source": "topic a", "number of shards": "1"})
    with pytest.raises(FraudError, match=r"another source \(topic a, now topic b\)"):
        checkpoint.claim({"source": "topic b", "number of shards": "1"})


def test_a_foreign_file_is_refused_in_one_line(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(FraudError, match="state is damaged") as raised:
        LocalCheckpoint.at(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", ["0", "3"])
def test_a_file_of_another_version_is_refused(path: Path, version: str) -> None:
    LocalCheckpoint.at(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = ? WHERE name = 'version'", (version,))
    with pytest.raises(FraudError, match="another version"):
        LocalCheckpoint.at(path)


def test_a_failed_commit_is_reported_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = LocalCheckpoint.at(path)

    def fails(statement: str, values: object = ()) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_execute", fails)
        with pytest.raises(FraudError, match="disk I/O error"):
            checkpoint.commit({"a:0": "1"})
    with pytest.raises(FraudError, match="disk I/O error"):
        checkpoint.refuse_failed()
