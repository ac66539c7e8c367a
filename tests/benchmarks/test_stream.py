"""The benchmarks of streams run and measure the documented figures."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from benchmarks import commands
from benchmarks.hostile import hostile_messages
from benchmarks.latency import Latency, Moments, delays, latency, quantile
from benchmarks.measure import ROOT, Case, run
from benchmarks.pace import Pace
from benchmarks.stream_memory import growth, state_of
from benchmarks.stream_monitor import Reading, Round, ratios_of
from benchmarks.stream_monitor_run import Moment
from benchmarks.table import render


def moments(*pairs: tuple[int, int]) -> Moments:
    ids, at = zip(*pairs, strict=True) if pairs else ((), ())
    return Moments(np.array(ids, np.int64), np.array(at, np.int64))


@given(
    rate=st.floats(0.5, 100_000),
    messages=st.integers(1, 10_000),
    looks=st.lists(st.floats(0, 60), min_size=1),
)
def test_a_message_is_never_sent_before_it_is_due_and_never_forgotten(
    rate: float, messages: int, looks: list[float]
) -> None:
    pace, sent = Pace(rate, messages), 0
    for elapsed in sorted(looks):
        due = pace.due(elapsed)
        assert sent <= due <= messages
        assert pace.moment(due - 1) <= elapsed + 1e-6, "sent too early"
        assert due == messages or pace.moment(due) >= elapsed - 1e-6, "left behind"
        sent = due
    assert pace.due((messages + 1) / rate) == messages


def test_a_delay_is_made_up_for_and_reported() -> None:
    pace = Pace(rate=1000, messages=10_000)
    assert pace.due(1.0) == 1001
    assert pace.late(sent=1001, elapsed=1.0005) == 0
    assert pace.late(sent=1001, elapsed=1.501) == 0.5
    assert pace.due(1.501) == 1502, "all that should have been sent meanwhile"
    assert pace.late(sent=10_000, elapsed=99.0) == 0, "nothing is left to be late"


def test_delays_are_joined_by_id_from_the_first_time_to_the_first_time() -> None:
    start = moments((7, 100), (3, 110), (7, 150), (9, 120), (5, 130))
    end = moments((3, 115), (7, 190), (7, 140), (4, 111), (9, 121))
    assert delays(start, end).tolist() == [5.0, 40.0, 1.0]
    summed = latency("x", start, end)
    assert (summed.rows, summed.missing, summed.longest) == (3, 1, 40.0)
    assert latency("x", start, end, expected=3).missing == 0


def test_a_lost_message_is_missing_and_has_no_latency() -> None:
    none = latency("x", moments((1, 5), (2, 6)), moments())
    assert (none.rows, none.missing) == (0, 2)
    assert np.isnan([none.p50, none.p99, none.p99_9, none.longest]).all()
    assert latency("x", moments(), moments((1, 5))).missing == 0


def test_only_messages_after_the_warm_up_count() -> None:
    start = moments((1, 100), (2, 200), (3, 300)).since(200)
    assert delays(start, moments((1, 900), (2, 210), (3, 330))).tolist() == [10.0, 30.0]


@given(st.lists(st.integers(0, 1000), min_size=1), st.sampled_from((0.5, 0.99, 0.999)))
def test_a_quantile_is_the_least_value_that_covers_its_share(
    values: list[int], share: float
) -> None:
    result = quantile(np.array(values, float), share)
    assert result in values
    assert sum(v <= result for v in values) >= share * len(values) - 1e-9
    assert sum(v < result for v in values) < share * len(values) + 1e-9


def test_quantiles_of_many() -> None:
    start = moments(*((i, 0) for i in range(10_000)))
    end = moments(*((i, i + 1) for i in range(10_000)))
    summed = latency("x", start, end)
    assert (summed.p50, summed.p99, summed.p99_9) == (5_000, 9_900, 9_990)
    assert summed.longest == 10_000


def test_latencies_are_lines_of_the_table() -> None:
    lines = render({}, [], [], [Latency("at 1,000/s, score", 45_000, 2, 12.4, 80, 1234, 2000)])
    heading, line = lines.splitlines()[-2:]
    assert heading.split() == ["milliseconds", "rows", "missing", "p50", "p99", "p99.9", "max"]
    assert line.split()[-6:] == ["45,000", "2", "12", "80", "1,234", "2,000"]


def test_memory_is_sampled_over_time_and_its_growth_reported() -> None:
    hold = "held = [b'1' * 20_000_000 + bytes(i) for i in range(9) if not time.sleep(0.15)]"
    measured = run(Case("grows", None, ((sys.executable, "-c", f"import time; {hold}"),)))
    moments_, sizes = zip(*measured.held, strict=True)
    assert list(moments_) == sorted(moments_)
    # The last look may find it ending.
    assert max(sizes[len(sizes) // 2 :]) - sizes[0] > 80e6
    assert growth([(float(i), 1000) for i in range(50)]) == 1
    assert growth([(float(i), 1000 + 10 * i) for i in range(100)]) == pytest.approx(1.556, 0.01)


def test_the_state_of_each_step_is_counted(tmp_path: Path) -> None:
    from beam_fraud.storage.checkpoint import LocalCheckpoint

    checkpoint = LocalCheckpoint(tmp_path / "state.db")
    checkpoint.keep("velocity", 0, [(b"12345", 7), (b"678", 8)])
    checkpoint.keep("ids", 0, [(b"1", 7)])
    checkpoint.commit({})
    checkpoint.close()
    assert state_of(tmp_path / "state.db") == {"ids": (1, 1), "velocity": (2, 8)}


def test_every_hostile_message_is_a_dead_letter_for_the_right_reason() -> None:
    sent = list(hostile_messages(3_000, seed=3, largest=100_000))
    assert sent == list(hostile_messages(3_000, seed=3, largest=100_000))
    assert sum(len(message.payload) > 100_000 for message in sent) == 1
    schema = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary())])
    raw = pa.RecordBatch.from_arrays(
        [pa.array(range(len(sent))), pa.array([m.payload for m in sent], pa.binary())],
        schema=with_origin(schema, Origin("t:0", "jsonl")),
    )
    good, dead = validate(parse(raw, HANDBOOK, labels="ignored"), HANDBOOK, labels="ignored")
    assert len(good) == 0
    for letter in dead.to_pylist():
        message = sent[letter["position"]]
        assert letter["reason"] in message.reasons, (message.kind, letter["detail"])
    kinds = Counter(message.kind for message in sent)
    assert len(kinds) > 20
    assert min(count for kind, count in kinds.items() if not kind.startswith("large")) > 50


def test_rows_and_alerts_are_timed_at_arrival(tmp_path: Path) -> None:
    database, alerts, seen = (tmp_path / name for name in ("f.db", "alerts.jsonl", "seen.npz"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watcher = subprocess.Popen(
        commands.stream_watch(database, alerts, seen), cwd=ROOT, env=environment
    )
    try:
        # It looks before anything is there; rows come in one by one, lines in pieces.
        connection = sqlite3.connect(database, isolation_level=None, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE flagged_transactions (transaction_id TEXT, model_id TEXT, "
            "PRIMARY KEY (transaction_id, model_id))"
        )
        written = {}
        for number in range(5):
            written[number] = time.time_ns() // 1_000_000
            connection.execute("INSERT INTO flagged_transactions VALUES (?, 'm')", (str(number),))
            line = msgspec.json.encode({"transaction_id": str(number), "score": 1.0}) + b"\n"
            with alerts.open("ab", buffering=0) as file:
                file.write(line[:9])
                file.write(line[9:])
            time.sleep(0.05)
        connection.close()
        # Started late, it still notes all when it is asked to end.
        wait_for_handler(watcher.pid)
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(30) == 0
    finally:
        watcher.kill()
        watcher.wait()
    noted = np.load(seen)
    for kind in ("flagged", "alert"):
        assert noted[f"{kind}_ids"].tolist() == [0, 1, 2, 3, 4]
        assert all(noted[f"{kind}_at"] >= list(written.values()))
        assert (np.diff(noted[f"{kind}_at"]) >= 0).all()


def wait_for_handler(pid: int) -> None:
    """Wait until a process catches SIGTERM."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("no /proc")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (caught,) = (s for s in status.read_text().splitlines() if s.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)
    raise AssertionError("it never began to watch")


def reading(
    slower: float, begin: float = 0.0, own_micros: float = 0.0, tail: float = 1.0
) -> Reading:
    """Return a stream of a million rows in twenty commits, `tail` times as fast at its end."""
    moments = [Moment(0, begin, 0.0)]
    for _ in range(20):
        rows, clock, processor = moments[-1]
        factor = slower / (tail if rows >= 900_000 else 1.0)
        moments.append(Moment(rows + 50_000, clock + factor, processor + factor))
    return Reading(1_000_000, tuple(moments), own_micros, moments[-1].processor + 0.1)


def test_a_slower_process_and_a_slower_round_do_not_move_the_cost_of_a_monitor() -> None:
    """Each process has the monitor in every second round."""
    rounds = [
        Round(reading(load * of_plain), reading(1.02 * load * of_watched))
        for load in (1.0, 1.3, 2.0, 1.1, 0.9, 1.5)
        for of_plain, of_watched in ((1.0, 1.08), (1.08, 1.0))
    ]
    found = {ratio.name: ratio for ratio in ratios_of(rounds, bounded=True)}
    more = found["stream, % of processor time that a monitor adds, centre of 6 pairs"]
    less = found["stream, % of throughput that a monitor takes, centre of 6 pairs"]
    assert more.value == pytest.approx(2)
    assert less.value == pytest.approx(100 - 100 / 1.02)
    assert more.holds is less.holds is True


def test_streams_are_compared_while_both_run() -> None:
    """The one that began later has the processors for itself at its end."""
    plain, watched = Round(reading(1.0), reading(1.02, begin=3.0, tail=5.0)).together
    assert plain.micros == pytest.approx(20)
    assert watched.micros == pytest.approx(1.02 * 20)
    assert plain.rate == pytest.approx(1.02 * watched.rate)


def test_streams_of_one_commit_are_compared_from_their_start() -> None:
    short = [
        Reading(10, (Moment(0, begin, 0.0), Moment(10, begin + 1, seconds)), 0.0, 1.0)
        for begin, seconds in ((0.0, 0.5), (0.2, 0.6))
    ]
    plain, watched = Round(*short).together
    assert (plain.rate, watched.rate) == pytest.approx((10.0, 10.0))
    assert (plain.micros, watched.micros) == pytest.approx((50_000, 60_000))
