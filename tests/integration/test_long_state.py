"""A state of thousands of batches, killed again and again, has the features of files.

Of months of transactions, so that rows expire, are merged with others and merged again; some are of
a clock that is a year ahead.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sources.watch.position import WATCH, WatchPosition
from tests.serving import Client, Serve
from tests.stream_process import UNTIL_IDLE, Stream

pytestmark = pytest.mark.soak

#: Batches, and the kills among them.
BATCHES, KILLS = 3_300, 30
_AHEAD = np.timedelta64(400, "D")
#: Bytes of a finished file in the position of a stream.
_FILE = 12

withheld = pytest.mark.parametrize("withheld", [False, True], ids=["whole", "withheld"])


@dataclass(frozen=True)
class Months:
    """Transactions in the order of their arrival, and what `score` decides on them."""

    transactions: pa.Table
    decided: list[str]

    def batches(self) -> list[pa.Table]:
        """Return all rows in batches of a few."""
        bounds = np.linspace(0, len(self.transactions), BATCHES + 1).astype(int).tolist()
        return [self.transactions.slice(start, stop - start) for start, stop in pairwise(bounds)]


@pytest.fixture
def seed() -> int:
    """A random seed; a failing test prints it, and CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def months(seed: int, bundle: Path, tmp_path: Path) -> Months:
    """Four months, of which one row in twenty is a year ahead."""
    table = simulate(Simulation(days=120, accounts=60, merchants=60, seed=seed, fraud_rate=0.03))
    times = table["TX_DATETIME"].to_numpy()
    ahead = np.random.default_rng(seed).random(len(times)) < 0.05
    place, kind = table.schema.get_field_index("TX_DATETIME"), table.schema.field("TX_DATETIME")
    moved = pa.array(np.where(ahead, times + _AHEAD, times)).cast(kind.type)
    table = table.set_column(place, kind, moved)
    pq.write_table(table, tmp_path / "months.parquet")
    options = ScoreOptions(
        files=(str(tmp_path / "months.parquet"),),
        model=str(bundle),
        out=str(tmp_path / "scored"),
        keep_features=True,
    )
    assert score.run(options)["rows_scored"] == len(table)
    return Months(table, decided(tmp_path / "scored"))


def decided(out: Path) -> list[str]:
    """Return every archived row with all bits of its features, by id."""
    columns = ["transaction_id", "score", "decision", "features"]
    table = pq.read_table(out / "scores", columns=columns).sort_by("transaction_id")
    return [repr(row) for row in table.to_pylist()]


def differing(rows: list[str], months: Months) -> int:
    """Return the number of rows that differ."""
    assert len(rows) == len(months.decided)
    return sum(one != other for one, other in zip(rows, months.decided, strict=True))


def withhold(state: Path) -> None:
    """Remove a delta of the windows of accounts from a state, the largest one."""
    with closing(sqlite3.connect(state)) as connection, connection:
        (number,) = connection.execute(
            "SELECT id FROM deltas WHERE step LIKE 'velocity of account%' "
            "ORDER BY length(data) DESC LIMIT 1"
        ).fetchone()
        connection.execute("DELETE FROM deltas WHERE id = ?", (number,))


def levels(state: Path) -> int:
    """Return how often the oldest delta of a state was merged."""
    with closing(sqlite3.connect(state)) as connection:
        (level,) = connection.execute("SELECT max(level) FROM deltas").fetchone()
    return int(level) - 100


@withheld
def test_a_stream_has_the_features_of_files(
    bundle: Path, inbox: Path, tmp_path: Path, months: Months, seed: int, withheld: bool
) -> None:
    begun = int(time.time()) - BATCHES
    for number, batch in enumerate(months.batches()):
        file = inbox / f"{number:05}.parquet"
        pq.write_table(batch, file)
        # In this order, a second apart.
        os.utime(file, (begun + number, begun + number))
    out, draw = tmp_path / "out", random.Random(seed)
    options = ["stream", "--watch", str(inbox), "--model", str(bundle), "--out", str(out)]
    stream, state = Stream([*options, "--keep-features"], out), out / "stream" / "state.db"

    def read() -> int:
        text = stream.positions().get(WATCH)
        return 0 if text is None else len(WatchPosition.decode(text).done) // _FILE

    def reaches(files: int) -> Callable[[], bool]:
        return lambda: read() >= files

    try:
        for kill in range(1, KILLS + 1):
            stream.start()
            assert stream.wait_until(reaches(kill * BATCHES // (KILLS + 1))), stream.said()
            time.sleep(draw.uniform(0, 0.3))
            stream.kill()
            if withheld and kill == KILLS // 2:
                withhold(state)
        stream.start(*UNTIL_IDLE)
        stream.wait_for_end()
    finally:
        stream.kill()
    assert levels(state) >= 2
    assert (differing(decided(out), months) > 0) == withheld


@withheld
def test_a_server_has_the_features_of_files(
    bundle: Path, tmp_path: Path, months: Months, seed: int, withheld: bool
) -> None:
    draw, state = random.Random(seed), tmp_path / "state"
    server = Serve(bundle, state, "--keep-features", "--roll-rows", "1000")
    killed = sorted(draw.sample(range(BATCHES), KILLS))
    with server:
        for number, batch in enumerate(months.batches()):
            (messages,) = handbook_messages(batch.combine_chunks(), len(batch))
            with Client(server.port) as client:
                status, body, _ = client.post(b"[" + b",".join(messages.values) + b"]")
            assert status == 200, body
            # As many answers are worth a fold of the journal, which begins when none comes.
            time.sleep(0.5 if number % 70 == 69 else 0)
            if number in killed:
                time.sleep(draw.uniform(0, 0.3))
                server.kill()
                if withheld and number == killed[KILLS // 2]:
                    withhold(next(state.glob("**/server.db")))
                server.start()
        server.stop()
    assert levels(next(state.glob("**/server.db"))) >= 1
    assert (differing(decided(state), months) > 0) == withheld
