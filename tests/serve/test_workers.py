"""Several servers beside each other, each with the state of some accounts."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

import beam_fraud as bf
from beam_fraud.cli.commands import serve
from beam_fraud.cli.options import ServeOptions
from beam_fraud.errors import Code
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.drift import counts_of, letters_in, letters_of
from beam_fraud.models.registry.registry import add_model, open_registry, promote
from beam_fraud.monitoring.live_figures import LIVE, LiveFigures
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN, other
from tests.serve.conftest import Served, record_of
from tests.serving import Client, Serve
from tests.stream_process import wait_until

#: The handbook's windows of accounts.
ACCOUNTS = replace(HANDBOOK, name="accounts", velocity=HANDBOOK.velocity[:1])
#: Transactions that are sent.
SENT = 60


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A model whose windows are of accounts alone."""
    directory = tmp_path_factory.mktemp("accounts")
    rows = simulate(Simulation(days=40, accounts=40, merchants=40))
    cut = len(rows) - SENT
    history, later = str(directory / "history.parquet"), str(directory / "later.parquet")
    pq.write_table(rows.slice(0, cut), history)
    pq.write_table(rows.slice(cut), later)
    model = bf.train(rows.slice(0, cut), schema=ACCOUNTS, settings={"trees": 10})
    model.save(str(directory / "model"))
    records = tuple(record_of(row) for row in rows.slice(cut).to_pylist())
    return Served(str(directory / "model"), history, later, records, "")


def server_at(state: Path) -> int:
    """Return the process that holds a state."""
    (line,) = [
        line
        for line in Path("/proc/locks").read_text().splitlines()
        if line.split()[5].endswith(f":{(state / 'stream/lock').stat().st_ino}")
    ]
    return int(line.split()[4])


def in_force(port: int) -> str:
    """Return the model that a server answers by."""
    with Client(port) as client:
        return str(json.loads(client.get("/model")[1])["model_id"])


def shadowed(port: int) -> int:
    """Return the rows of the challenger that a server tells of."""
    with Client(port) as client:
        shadows = json.loads(client.get("/model")[1])["shadows"]
    [figures] = shadows.values()
    return int(figures["rows"])


def test_accounts_that_are_spread_get_the_scores_of_one_server(
    accounts: Served, tmp_path: Path
) -> None:
    """Also where one server is killed, and where both take up another threshold of the model.

    Their challengers, live figures and counts of drift are those of one server, too.
    """
    expected = bf.score(pq.read_table(accounts.later), accounts.bundle, history=accounts.history)
    assert isinstance(expected, pa.Table)
    state = tmp_path / "state"
    database = f"sqlite:///{tmp_path / 'flagged.db'}"
    options = ("--workers", "2", "--history", accounts.history, "--sink", database)
    options = (*options, "--review", database, "--review-port", "0")
    tried = other(Path(accounts.bundle), tmp_path / "tried", 0.5)
    options = (*options, "--monitor", "--shadow", str(tried))
    place = Place.at(tmp_path / "registry")
    models = [
        load_bundle(accounts.bundle),
        load_bundle(other(Path(accounts.bundle), tmp_path / "other", 0.9)),
    ]
    for model in models:
        add_model(place, model, ANN)
    promote(open_registry(place), models[0].model_id, ANN)
    scores = []
    with Serve(Path(str(place)), state, *options, by="--registry") as server:
        ports = (server.port, server.port + 1)
        wait_until(lambda: "2 servers answer" in server.said() or not server.runs)
        # All share the analysts' pages.
        (pages,) = re.findall(r"the pages are at (\S+)", server.said())
        assert "Log in" in requests.get(f"{pages}/login", timeout=30).text
        for number, record in enumerate(accounts.records):
            if number == SENT // 2:
                # All tell of what all have done; the killed one has told of all its rows.
                wait_until(lambda: {shadowed(port) for port in ports} == {SENT // 2})
                promote(open_registry(place), models[1].model_id, ANN)
                promoted = time.monotonic()
                os.kill(server_at(state / "1"), signal.SIGKILL)
                wait_until(lambda: "answers again" in server.said() or not server.runs)
            account = str(json.loads(record)["CUSTOMER_ID"]).encode()
            with Client(ports[zlib.crc32(account) % 2]) as client:
                status, answer, _ = client.post(record)
            assert status == 200, answer
            scores.append(json.loads(answer)["score"])
        for port in ports:
            wait_until(lambda port=port: in_force(port) == models[1].model_id)
        assert time.monotonic() - promoted < 30
        # A database has the dead letters of both.
        for port in ports:
            with Client(port) as client:
                assert client.post(b"{}")[0] == 422
        summary = server.stop()
    with closing(sqlite3.connect(tmp_path / "flagged.db")) as flagged:
        assert flagged.execute("SELECT count(*) FROM dead_letters").fetchone() == (2,)
    assert scores == expected.column("score").to_pylist()
    assert summary["workers"] == 2
    assert summary["restarts"] == 1
    assert summary["review"] == pages
    assert summary["model_id"] == models[1].model_id
    [figures] = summary["shadows"].values()
    assert figures["rows"] == SENT
    live = msgspec.json.decode((state / "monitor" / LIVE).read_bytes(), type=LiveFigures)
    assert live.monitors
    assert live.outcomes == {"scored": SENT, "dead": 2}
    archived = [pq.read_table(state / number / "scores") for number in ("0", "1")]
    of_models = pa.concat_tables(archived).column("model_id").value_counts()
    counted = read_counts(Place.at(state / "monitor"))
    assert counted is not None
    assert letters_in(letters_of(counted)) == {"missing_id": 2}
    for model_id, rows in ((one["values"], one["counts"]) for one in of_models.to_pylist()):
        [summary], by_score = counts_of(counted, model_id)
        assert int(summary.of("decision").sum()) == int(by_score.of("score").sum()) == rows
    # Their parent alone judges.
    assert not any((state / number / "monitor").exists() for number in ("0", "1"))
    assert all(len(table) for table in archived)
    names = pa.concat_tables(archived).column("transaction_id").to_pylist()
    assert sorted(names) == sorted(expected.column("transaction_id").to_pylist())


def options_of(served: Served, state: Path, **changed: object) -> ServeOptions:
    options = ServeOptions(model=served.bundle, state=str(state), workers=2)
    return replace(options, **changed)  # type: ignore[arg-type]


def test_what_several_servers_cannot_do_is_refused(
    served: Served, accounts: Served, tmp_path: Path
) -> None:
    with fails(Code.OPTION_CONFLICT, "merchant_id .*--kafka"):
        serve.run(options_of(served, tmp_path / "merchants"))
    with fails(Code.OPTION_CONFLICT, "--port 0"):
        serve.run(options_of(accounts, tmp_path / "ports", port=0))
    with fails(Code.OPTION_CONFLICT, "--port 65535"):
        serve.run(options_of(accounts, tmp_path / "ports", port=65_535))
    sink = f"parquet:{tmp_path / 'flagged'}"
    with fails(Code.OPTION_CONFLICT, "--sink"):
        serve.run(options_of(accounts, tmp_path / "sink", sink=sink))
    with fails(Code.OUTPUT_NAME, "--state s3://bucket/state"):
        serve.run(replace(options_of(accounts, tmp_path), state="s3://bucket/state/"))
    assert not any(tmp_path.glob("*/*"))


def test_another_number_of_servers_is_refused(accounts: Served, tmp_path: Path) -> None:
    """Accounts would go to servers without their windows."""
    split = tmp_path / "split"
    split.mkdir()
    (split / "workers.json").write_text('{"workers": 3}')
    with fails(Code.STREAM_CHANGED, "--workers 3"):
        serve.run(options_of(accounts, split))
    with fails(Code.STREAM_CHANGED, "--workers 3"):
        serve.run(options_of(accounts, split, workers=1))
    single = tmp_path / "single"
    (single / "stream").mkdir(parents=True)
    (single / "stream/server.db").touch()
    with fails(Code.STREAM_CHANGED, "--workers 1"):
        serve.run(options_of(accounts, single))
    (split / "workers.json").write_text("[]")
    with fails(Code.STATE_UNREADABLE, "workers.json"):
        serve.run(options_of(accounts, split))
