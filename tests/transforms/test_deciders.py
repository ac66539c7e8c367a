"""What decides in a graph may change; what decides on a block may not."""

from __future__ import annotations

import gc
import pickle
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.decider import Decider, OpenDecider
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.registry import champion_watch
from beam_fraud.models.registry.champion_watch import Conditions, Windows
from beam_fraud.models.registry.choice import Choice
from beam_fraud.models.registry.registry import RULES_FILE, add_model, add_rules, open_registry
from beam_fraud.storage.database.connection import prepare_database
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.deciders import Deciders, DecidersShare, Following, InForce
from beam_fraud.transforms.infer import DecidersHandler
from beam_fraud.transforms.join import join
from tests.cli.test_registry_option import RULES, bundle, put
from tests.models.registering import ANN
from tests.stream_process import wait_until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry of models that give every row the score 0.2 or 0.8; the first decides."""
    place = Place.at(tmp_path / "registry")
    for frauds in (2, 8):
        add_model(place, open_bundle(bundle(tmp_path / f"m{frauds}", frauds)), ANN)
    add_rules(place, "night", {RULES_FILE: RULES % b"night"}, ANN)
    put(place, "m2")
    return place


def deciders_of(place: Place, database: str | None = None, limit: float | None = None) -> Deciders:
    champion = open_registry(place).champion()
    first = Decider(champion, champion.features)
    windows = Windows(first.features, "stream", "another")
    channels = () if database is None else ("console",)
    following = Following(Choice(place), windows, limit, database, channels)
    return Deciders(first, following=following)


def transactions(rows: int) -> pa.RecordBatch:
    columns = {
        "transaction_id": [f"x{n}" for n in range(rows)],
        "event_time": pa.array([n * 1_000_000 for n in range(rows)], pa.timestamp("us", "UTC")),
        "account_id": pa.nulls(rows, pa.string()),
        "merchant_id": pa.nulls(rows, pa.string()),
        "amount": [float(n) for n in range(rows)],
    }
    return pa.record_batch(columns)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion_watch, "LOOK_SECONDS", 0.02)


def taken_up(in_force: InForce, member: str) -> bool:
    return wait_until(lambda: member in in_force.renew().decider.pair)


def test_a_block_is_decided_by_what_was_in_force_when_it_began(place: Place, fast: None) -> None:
    deciders = deciders_of(place)
    in_force = deciders.in_force()
    first = in_force.renew()
    before = in_force.marked(transactions(5), first)
    taken_up(in_force, put(place, "m8"))
    taken_up(in_force, put(place, "night"))
    after = in_force.marked(transactions(5), in_force.current)
    blocks = [(batch, np.arange(5.0).reshape(5, 1)) for batch in (before, after, before)]
    # One call of RunInference with blocks of two models.
    inferred = list(DecidersHandler(deciders, 3).run_inference(blocks, in_force))
    assert [result.inference.tolist() for _, result in inferred] == [
        [0.2] * 5,
        [0.8] * 5,
        [0.2] * 5,
    ]
    decided = [
        in_force.of(batch).decide(batch, result.example, result.inference)[0]
        for batch, result in inferred
    ]
    assert [rows["flagged"].to_pylist() for rows in decided] == [
        [False] * 5,
        [True] * 5,
        [False] * 5,
    ]
    assert [rows["rules"].to_pylist()[4] for rows in decided] == [[], ["night"], []]
    assert len({rows["model_id"][0].as_py() for rows in decided[:2]}) == 2
    # Steps after a shuffle join pieces, and never those of two models.
    assert [len(rows) for rows in join(decided)] == [10, 5]
    assert in_force.of(decided[0]).context != in_force.of(decided[1]).context


def test_a_process_that_never_saw_a_model_opens_it_from_the_registry(place: Place) -> None:
    quick, slow = deciders_of(place), deciders_of(place)
    put(place, "m8")
    put(place, "night")
    chosen = Choice(place).look(quick.first)
    other = quick.in_force()
    ahead = other.marked(transactions(3), OpenDecider(chosen.decider(quick.first), 0))
    here = slow.in_force()
    assert here.of(ahead).decider.pair == chosen.pair
    assert here.current.decider.pair == quick.first.pair
    shares = DecidersShare(0, slow, limit=0.5, remembered=0)
    (rows,) = shares.take(here.of(ahead).decide(ahead, np.zeros((3, 1)), np.ones(3))[0]).rows
    assert rows["decision"].to_pylist() == ["review"] * 3


def test_all_steps_of_a_process_share_what_is_in_force(place: Place) -> None:
    deciders = deciders_of(place)
    in_force = deciders.in_force()
    assert pickle.loads(pickle.dumps(deciders)).in_force() is in_force
    watches = [thread for thread in threading.enumerate() if thread.name == "watch"]
    in_force.close()
    del in_force
    gc.collect()
    assert watches
    assert wait_until(lambda: not any(thread.is_alive() for thread in watches))


def test_a_fault_of_the_program_refuses_a_promotion_and_says_where(
    place: Place, fast: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force = deciders_of(place).in_force()

    def broken(*_: object) -> None:
        raise IndexError("index 3 is out of bounds")

    monkeypatch.setattr(Conditions, "checked", broken)
    put(place, "m8")
    assert wait_until(in_force.refusals)
    in_force.close()
    assert "IndexError: index 3 is out of bounds (IndexError in " in caplog.text
    assert f"{__file__}:" in caplog.text
    assert "(broken)). " in caplog.text


def test_workers_that_refuse_the_same_promotion_notify_once(
    place: Place, fast: None, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'outbox.db'}"
    prepare_database(database)
    workers = [deciders_of(place, database, limit=0.0).in_force() for _ in range(2)]
    member = put(place, "m8")
    counts = [0, 0]

    def counted() -> bool:
        for number, worker in enumerate(workers):
            counts[number] += worker.refusals()
        return all(counts)

    assert wait_until(counted)
    assert counted()
    assert counts == [1, 1]
    assert all(worker.renew().decider.pair != (member, None) for worker in workers)
    assert wait_until(lambda: bool(texts(tmp_path / "outbox.db")))
    for worker in workers:
        worker.close()
    (text,) = texts(tmp_path / "outbox.db")
    assert f"{member} cannot be taken up" in text
    assert "BF435" in text


def texts(database: Path) -> list[str]:
    """Return the notices in an outbox."""
    with closing(sqlite3.connect(database)) as connection:
        return [str(text) for (text,) in connection.execute("SELECT text FROM deliveries")]
