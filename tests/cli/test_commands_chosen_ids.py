"""Every command distinguishes ids that were chosen to collide, and a stream keeps its hash."""

from __future__ import annotations

import gzip
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import features, score, stream
from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import FeaturesOptions, ScoreOptions, StreamOptions, TrainOptions
from beam_fraud.errors import Code
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.state.identity import KEY
from tests.chosen_ids import COLLIDING, COLLIDING_ACCOUNTS
from tests.failing import fails

pytestmark = pytest.mark.slow

#: The state of a stream over `--watch inbox` with three shards, as the version before keys left it
#: after the first 300 of `rows`.
WITHOUT_KEY = Path(__file__).parent.parent / "data" / "stream-without-key.db.gz"
#: Three transactions of each account: together they would be six.
RULE = """
[[rule]]
name = "many"
when = "account_count_1d > 3"
decision = "review"
"""


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return simulate(Simulation(days=12, accounts=40, merchants=40, seed=3, fraud_rate=0.05))


@pytest.fixture(scope="module")
def bundle(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    pq.write_table(rows, directory / "rows.parquet")
    train(
        TrainOptions(
            files=(str(directory / "rows.parquet"),),
            schema="handbook",
            model="hist_gradient_boosting",
            out=str(directory / "model"),
        )
    )
    return directory / "model"


@pytest.fixture
def chosen(inbox: Path) -> Path:
    """Two transactions whose ids hash alike without a key, and two accounts."""
    lines = ["TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT"]
    lines += [f"{id},2024-05-01 10:00:00,c{n},t1,{9000 - n}.00" for n, id in enumerate(COLLIDING)]
    for hour in range(3):
        for account in COLLIDING_ACCOUNTS:
            lines.append(f"{account}-{hour},2024-05-01 1{hour}:30:00,{account},t2,5.00")
    (inbox / "chosen.csv").write_text("\n".join(lines) + "\n")
    return inbox / "chosen.csv"


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "rules.toml").write_text(RULE)
    return str(tmp_path / "rules.toml")


def scores(out: Path) -> pa.Table:
    return pq.read_table(out / "scores").sort_by("transaction_id")


@pytest.mark.parametrize("dedupe", ["file", "run"])
def test_score_drops_none_of_the_colliding_ids(
    chosen: Path, rules: str, bundle: Path, tmp_path: Path, dedupe: str
) -> None:
    out = tmp_path / "out"
    options = ScoreOptions(files=(str(chosen),), model=str(bundle), out=str(out), rules=rules)
    done = score.run(replace(options, dedupe=dedupe))
    assert (done["rows_scored"], done["rows_duplicate"]) == (8, 0)
    assert set(COLLIDING) < set(scores(out)["transaction_id"].to_pylist())
    assert scores(out)["rules"].to_pylist() == [[]] * 8


def test_features_gives_each_account_its_own_windows(chosen: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    features.run(FeaturesOptions(files=(str(chosen),), schema="handbook", out=str(out)))
    table = pq.read_table(out / "features")
    counts = dict(
        zip(
            *(table[name].to_pylist() for name in ("transaction_id", "account_count_1d")),
            strict=True,
        )
    )
    assert counts == {
        **dict.fromkeys(COLLIDING, 1),
        **{f"{account}-{hour}": hour + 1 for account in COLLIDING_ACCOUNTS for hour in range(3)},
    }


def test_a_stream_drops_none_of_the_colliding_ids(
    chosen: Path, rules: str, bundle: Path, tmp_path: Path, beam_args: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    options = StreamOptions(
        watch=str(chosen.parent), model=str(bundle), out=str(out), rules=rules, until_idle=1.0
    )
    done = stream.run(replace(options, shards=3, beam_args=beam_args))
    assert (done["rows_scored"], done["rows_duplicate"]) == (8, 0)
    assert scores(out)["rules"].to_pylist() == [[]] * 8


def watching(bundle: Path, out: Path) -> StreamOptions:
    return StreamOptions(watch="inbox", model=str(bundle), out=str(out), until_idle=0.5, shards=3)


def key_of(out: Path) -> str | None:
    with closing(sqlite3.connect(out / "stream" / "state.db")) as state:
        row = state.execute("SELECT value FROM about WHERE name = ?", (KEY,)).fetchone()
    return row and row[0]


@pytest.fixture
def begun(
    rows: pa.Table, bundle: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The `--out` of a stream that has scored the first 300 rows of `inbox`."""
    monkeypatch.chdir(inbox.parent)
    pq.write_table(rows.slice(0, 300), inbox / "first.parquet")
    out = tmp_path / "out"
    assert stream.run(watching(bundle, out))["rows_scored"] == 300
    return out


def test_a_stream_keeps_its_key_and_no_two_share_one(
    begun: Path,
    rows: pa.Table,
    bundle: Path,
    inbox: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream.run(watching(bundle, tmp_path / "other"))
    key = key_of(begun)
    assert key is not None
    assert len(bytes.fromhex(key)) == 16
    assert key_of(tmp_path / "other") not in (None, key)
    pq.write_table(rows.slice(250, 200), inbox / "second.parquet")
    again = stream.run(watching(bundle, begun))
    assert (again["rows_scored"], again["rows_duplicate"]) == (150, 50)
    assert key_of(begun) == key
    assert key not in caplog.text
    with fails(Code.STREAM_CHANGED, "number of shards"):
        stream.run(replace(watching(bundle, begun), shards=4))


def test_a_stream_that_has_lost_its_key_is_refused(
    begun: Path, rows: pa.Table, bundle: Path, inbox: Path
) -> None:
    with closing(sqlite3.connect(begun / "stream" / "state.db")) as state, state:
        state.execute("UPDATE about SET value = ? WHERE name = ?", ("00" * 16, KEY))
    pq.write_table(rows.slice(300, 10), inbox / "second.parquet")
    with fails(Code.STREAM_CHANGED, "key"):
        stream.run(watching(bundle, begun))


def test_a_stream_of_an_earlier_version_continues_unchanged(
    rows: pa.Table,
    bundle: Path,
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(inbox.parent)
    for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID"):
        # That version's ids began at 0, whatever the seed.
        ids = pa.compute.subtract(rows[name], 3_000_000_000)
        rows = rows.set_column(rows.column_names.index(name), rows.field(name), ids)
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "stream").mkdir(parents=True)
    (old / "stream" / "state.db").write_bytes(gzip.decompress(WITHOUT_KEY.read_bytes()))
    pq.write_table(rows.slice(0, 300), inbox / "first.parquet")
    stream.run(watching(bundle, new))
    (inbox / "first.parquet").unlink()
    for first in (250, 500):
        pq.write_table(rows.slice(first, 300), inbox / f"{first}.parquet")
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            done = stream.run(watching(bundle, old))
        (warning,) = [text for text in caplog.messages if "without a key" in text]
        assert warning.startswith(f"{old}: this stream of an earlier version")
        assert (done["rows_scored"], done["rows_duplicate"]) == (250, 50)
        caplog.clear()
        stream.run(watching(bundle, new))
        assert "without a key" not in caplog.text
    assert key_of(old) == ""
    expected = scores(new)
    expected = expected.filter(
        pa.compute.is_in(expected["transaction_id"], scores(old)["transaction_id"].combine_chunks())
    )
    assert len(expected) == 500
    assert scores(old).equals(expected)
