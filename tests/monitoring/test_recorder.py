"""Workers write and the command reads: in one process, in several, at the same time."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from beam_fraud.monitoring.recorder import (
    close_recorder,
    count_everywhere,
    new_board,
    read_board,
    recorder,
)
from tests.stream_process import wait_until


def test_counts_of_all_steps_of_a_process_are_read_together(tmp_path: Path) -> None:
    board = tmp_path / "live"
    with new_board(board) as read:
        recorder(board).count("rows_in", 5)
        recorder(str(board)).count("rows_in", 6)
        recorder(board).position("tx:3", 40, 50)
        recorder(board).scored(7, appended_ms=1_000_000, now=1_000.25, model_id="m@1")
        recorder(board).flush()
        seen = read()
        assert seen.counters == {"rows_in": 11}
        assert seen.lag == 10
        assert seen.latency.rows == 7
        assert seen.latency.seconds == 7 * 0.25
        assert len(list(board.iterdir())) == 1


def test_every_recorder_has_a_counter_of_the_graph(tmp_path: Path) -> None:
    boards = [tmp_path / "a", tmp_path / "b"]
    with new_board(boards[0]), new_board(boards[1]):
        for board in boards:
            recorder(board)
        count_everywhere("rows_dead", 2)
    assert [read_board(board).counters for board in boards] == [{"rows_dead": 2}] * 2
    count_everywhere("rows_dead", 2)
    assert read_board(boards[0]).counters == {"rows_dead": 2}, "its run is over"


def test_writes_are_rare_but_the_last_is_not_lost(tmp_path: Path) -> None:
    with new_board(tmp_path) as read:
        writer = recorder(tmp_path)
        writer.count("rows_in", 1)
        writer.flush()
        writer.count("rows_in", 1)
        writer.flush()
        assert read().count("rows_in") == 1
        writer.flush(force=True)
        assert read().count("rows_in") == 2
        writer.count("rows_in", 1)
    assert read_board(tmp_path).count("rows_in") == 3


def test_a_postponed_write_happens_without_further_counts(tmp_path: Path) -> None:
    with new_board(tmp_path / "live") as read:
        writer = recorder(tmp_path / "live")
        for _ in range(2):
            writer.count("rows_in", 1)
            writer.flush()
        assert dict(read().counters) == {"rows_in": 1}
        assert wait_until(lambda: dict(read().counters) == {"rows_in": 2})


def test_a_new_run_removes_the_files_of_another(tmp_path: Path) -> None:
    with new_board(tmp_path):
        old = recorder(tmp_path)
        old.count("rows_in", 5)
    (tmp_path / "killed.unfinished").write_bytes(b"{")
    with new_board(tmp_path) as read:
        # A step of the run before may be torn down late.
        old.flush(force=True)
        assert read().counters == {}
        assert list(tmp_path.iterdir()) == []
        recorder(tmp_path).count("rows_in", 1)
    assert read_board(tmp_path).count("rows_in") == 1


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    recorder(tmp_path).count("rows_in", 5)
    close_recorder(tmp_path)
    (tmp_path / "1-other.json").write_text(json.dumps({"latency": {"counts": [1]}}))
    (tmp_path / "2-not-json.json").write_bytes(b"\xff")
    assert read_board(tmp_path).counters == {"rows_in": 5}
    assert read_board(tmp_path / "absent").counters == {}


def test_a_place_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FraudError, match=r"file/live: cannot be made and emptied \(Not a dir"),
        new_board(tmp_path / "file" / "live"),
    ):
        pass


def test_a_disk_that_refuses_does_not_stop_the_worker(tmp_path: Path) -> None:
    writer = recorder(tmp_path / "absent")
    writer.count("rows_in", 1)
    writer.flush(force=True)
    close_recorder(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_threads_of_a_worker_lose_no_row(tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(2_000):
            count_everywhere("rows_in", 1)
            writer.flush()

    with new_board(tmp_path):
        writer = recorder(tmp_path)
        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert read_board(tmp_path).count("rows_in") == 8_000


WRITER = """
import sys
from beam_fraud.monitoring.recorder import recorder
told = recorder(sys.argv[1])
for number in range(2_000):
    told.count("rows_in", 1)
    told.position(f"tx:{sys.argv[2]}", number + 1, 2_000)
    told.flush(force=True)
"""


def test_a_reader_sees_whole_files_only_while_processes_write(tmp_path: Path) -> None:
    with new_board(tmp_path) as read:
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)])
            for number in range(2)
        ]
        seen = []
        while any(writer.poll() is None for writer in writers):
            seen.append(read())
        assert [writer.returncode for writer in writers] == [0, 0]
        counts = [snapshot.count("rows_in") for snapshot in seen]
        # A file that could not be read would be missing from one sum.
        assert counts == sorted(counts)
        last = read()
        assert (last.count("rows_in"), last.lag) == (4_000, 0)
