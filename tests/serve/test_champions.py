"""A server takes up what the registry promotes, and changed rules, while it answers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

from beam_fraud.alerts.alert import AlertContext, RuleTerms
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands import serve_plan
from beam_fraud.cli.options import ServeOptions
from beam_fraud.decisions.lists.changes import Change, append_changes
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import load_bundle, write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds, schema_fields
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import (
    RULES_FILE,
    add_model,
    add_rules,
    open_registry,
    rollback,
)
from beam_fraud.schema.schema import EVENT_TIME, FeatureColumn, Schema
from beam_fraud.serve.deliveries import Deliveries, Places
from beam_fraud.serve.state import FLAGGED
from beam_fraud.storage.urls import Place
from tests.cli.test_registry_option import RULES, bundle, place, put  # noqa: F401
from tests.failing import fails
from tests.models.registering import ANN
from tests.serve.conftest import Served
from tests.serve.running import Running
from tests.serving import Client, Serve

#: Seconds between two looks here, and within which a change is taken up.
LOOK, PATIENCE = 0.2, 60.0


@dataclass
class Sender:
    """Sends a transaction after the other, and keeps each answer."""

    server: Serve
    answers: dict[str, bytes] = field(default_factory=dict)
    end: threading.Event = field(default_factory=threading.Event)

    @property
    def last(self) -> dict[str, Any]:
        """The newest answer."""
        return json.loads(list(self.answers.values())[-1])  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Send no more."""
        self.end.set()
        self._thread.join()

    def _run(self) -> None:
        with Client(self.server.port) as client:
            while not self.end.is_set():
                name = f"x{len(self.answers)}"
                status, body, _ = client.post(record(name))
                assert status == 200, body
                self.answers[name] = body
                self.end.wait(0.002)

    @contextmanager
    def running(self) -> Iterator[Sender]:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        try:
            until(lambda: self.answers)
            yield self
        finally:
            self.stop()


def record(name: str, amount: float = 5.0, account: str = "ann") -> bytes:
    row = {"id": name, "t": "2024-01-01T00:00:00Z", "a": amount, "who": account}
    return json.dumps(row).encode()


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def archived(state: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(state / "scores").to_pylist()
    assert len({row["transaction_id"] for row in rows}) == len(rows)
    return {row["transaction_id"]: row for row in rows}


def shown(server: Serve, path: str) -> dict[str, Any]:
    with Client(server.port) as client:
        return json.loads(client.get(path)[1])  # type: ignore[no-any-return]


def swaps(server: Serve, outcome: str) -> float:
    return server.figure(f'beam_fraud_serve_swaps_total{{outcome="{outcome}"}}')


def test_a_promotion_is_taken_up_without_a_lost_or_mixed_row(
    place: Place,  # noqa: F811
    tmp_path: Path,
) -> None:
    first, state = put(place, "m2"), tmp_path / "state"
    server = Serve(Path(str(place)), state, "--rule-limit", "1", by="--registry", look=LOOK)
    with server, Sender(server).running() as sender:
        until(lambda: sender.last["model_id"] == first)
        second = put(place, "m8")
        until(lambda: sender.last["model_id"] == second)
        until(lambda: swaps(server, "taken_up") == 1)
        rules = put(place, "night")
        until(lambda: sender.last["rules"] == ["night"])
        about = shown(server, "/model")
        assert (about["model_id"], about["rules"]) == (second, ["night"])
        assert about["rules_id"] == rules
        assert shown(server, "/readyz")["model_id"] == second
        assert second in shown(server, "/openapi.json")["info"]["summary"]
        assert f'model_id="{second}"' in server.metrics()
        rollback(open_registry(place), ANN)
        until(lambda: sender.last["rules"] == [])
        sender.stop()
        with Client(server.port) as client:
            # A repeat gets the answer of the model of then.
            assert client.post(record("x0"))[1] == sender.answers["x0"]
        assert server.stop()["model_id"] == second
    rows = archived(state)
    assert set(rows) == set(sender.answers)
    for name, body in sender.answers.items():
        answer, row = json.loads(body), rows[name]
        assert answer["model_id"] == row["model_id"]
        assert answer["score"] == row["score"] == {first: 0.2, second: 0.8}[row["model_id"]]
        expected = "decline" if row["rules"] else "approve" if row["score"] < 0.5 else "review"
        assert answer["decision"] == row["decision"] == expected
        assert answer["rules_id"] == row["rules_id"] == (rules if row["rules"] else None)
    rollback(open_registry(place), ANN)
    with server, Client(server.port) as client:
        assert shown(server, "/model")["model_id"] == first
        assert client.post(record("x0"))[1] == sender.answers["x0"]
        assert json.loads(client.post(record("later"))[1])["model_id"] == first
        server.stop()


class Crashing(DummyClassifier):
    """A model whose native code crashes."""

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return rows


def forest(directory: Path, trees: int) -> str:
    """A forest for the schema of `bundle`."""
    return imported(directory, RandomForestClassifier(trees, random_state=1))


def imported(directory: Path, model: Any) -> str:
    """A model for the schema of `bundle`."""
    rows = np.linspace(0.0, 10.0, 400)[:, None]
    model.fit(rows, rows[:, 0] % 3 > 1.5)
    roles = {"transaction_id": "id", "event_time": "t", "amount": "a"}
    manifest = Manifest(
        name=directory.name,
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("amount",),
        schema=Schema(name="plain", roles=roles, calendar=False).to_dict(),
        thresholds=Thresholds(0.5),
    )
    write_bundle(str(directory), model, manifest, Reference(), "# card")
    return str(directory)


def test_what_cannot_be_taken_up_is_refused_once_and_the_old_one_goes_on(
    place: Place,  # noqa: F811
    tmp_path: Path,
) -> None:
    first, state, alerts = put(place, "m2"), tmp_path / "state", tmp_path / "alerts.jsonl"
    options = ("--max-microseconds", "1.5", "--alert", f"file:{alerts}")
    server = Serve(Path(str(place)), state, *options, by="--registry", look=LOOK)
    add_model(place, load_bundle(forest(tmp_path / "slow", trees=300)), ANN)
    add_model(place, load_bundle(forest(tmp_path / "quick", trees=5)), ANN)
    add_model(place, load_bundle(imported(tmp_path / "crashing", Crashing())), ANN)
    add_model(place, load_bundle(bundle(tmp_path / "m5", 5, columns={"account_id": "who"})), ANN)
    # Rules of another model's windows cannot be promoted; those of a damaged file can.
    add_rules(place, "broken", {RULES_FILE: RULES % b"broken"}, ANN)
    cases = {
        "m8": Code.BUNDLE_DAMAGED,
        "slow": Code.REQUIREMENT_UNMET,
        "crashing": Code.WORKER_ENDED,
        "m5": Code.STREAM_CHANGED,
        "broken": Code.REGISTRY_DAMAGED,
    }
    with server, Sender(server).running() as sender:
        for number, (name, code) in enumerate(cases.items(), start=1):
            member = put(place, name)
            if name == "m8":
                damaged = Path(str(place)) / "bundles" / member / "model.joblib"
                whole = damaged.read_bytes()
                damaged.write_bytes(b"evil")
            if name == "broken":
                file = Path(str(place)) / "rules" / member[-12:] / RULES_FILE
                file.write_bytes(RULES % b"evil")
            until(lambda number=number: swaps(server, "refused") == number)
            assert server.said().count("cannot be taken up") == number
            assert f"[{code}]" in server.said().rpartition("cannot be taken up")[2]
            rollback(open_registry(place), ANN)
        until(lambda: alerts.exists() and alerts.read_text().count("taken up") == len(cases))
        quick = put(place, "quick")
        until(lambda: sender.last["model_id"] == quick)
        damaged.write_bytes(whole)
        again = put(place, "m8")
        damaged.write_bytes(b"evil")
        until(lambda: swaps(server, "refused") == len(cases) + 1)
        damaged.write_bytes(whole)
        # It is tried again after twenty looks.
        until(lambda: sender.last["model_id"] == again)
        sender.stop()
        server.stop()
    assert {row["model_id"] for row in archived(state).values()} == {first, quick, again}
    assert alerts.read_text().count("cannot be taken up") == len(cases) + 1


def test_changed_rules_and_lists_are_taken_up(tmp_path: Path) -> None:
    rules, lists, state = tmp_path / "rules.toml", tmp_path / "lists", tmp_path / "state"
    rules.write_bytes(RULES % b"first")
    append_changes(lists, "blocked", [])
    model = Path(bundle(tmp_path / "model", 2, columns={"account_id": "who"}))
    options = ("--rules", str(rules), "--lists", str(lists), "--rule-limit", "1")
    server = Serve(model, state, *options, look=LOOK)
    with server, Sender(server).running() as sender:
        until(lambda: sender.last["rules"] == ["first"])
        rules.write_bytes(RULES.replace(b"amount", b"amuont") % b"second")
        until(lambda: swaps(server, "refused") == 1)
        assert "amuont" in server.said()
        rules.write_bytes(RULES.replace(b"amount > 3", b"account_id in @blocked") % b"third")
        until(lambda: sender.last["rules"] == [])
        assert shown(server, "/model")["rules"] == ["third"]
        began = time.monotonic()
        append_changes(lists, "blocked", [Change("ann", "add", datetime.now(UTC), "tester")])
        until(lambda: sender.last["rules"] == ["third"])
        assert time.monotonic() - began < 10
        assert sender.last["decision"] == "decline"
        sender.stop()
        server.stop()
    assert server.said().count("cannot be taken up") == 1
    assert set(sender.answers) == set(archived(state))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_rules_file_with_a_long_list_takes_little_time_from_the_answers(tmp_path: Path) -> None:
    """Processor time of the server itself, without the process beside it."""
    rules = tmp_path / "rules.toml"
    rules.write_bytes(RULES % b"first")
    values = "\n".join(f'"{name}{n}",' for n in range(100_000) for name in ("ann", "bob"))
    listed = f'[[list]]\nname = "long"\nvalues = [\n{values}\n"ann"]\n'.encode()
    model = Path(bundle(tmp_path / "model", 2, columns={"account_id": "who"}))
    options = ("--rules", str(rules), "--rule-limit", "1")
    server = Serve(model, tmp_path / "state", *options, look=2.0)
    with server:
        before = processor_seconds(server.pid)
        changed = listed + RULES.replace(b"amount > 3", b"account_id in long") % b"second"
        put_whole(rules, changed)
        until(lambda: shown(server, "/model")["rules"] == ["second"])
        spent = processor_seconds(server.pid) - before
        with Client(server.port) as client:
            for name, account, fired in (("x", "ann", ["second"]), ("y", "Ann", [])):
                status, body, _ = client.post(record(name, account=account))
                assert (status, json.loads(body)["rules"]) == (200, fired)
        server.stop()
    began = time.thread_time()
    load_rules(str(rules), {"account_id": "text"})
    assert spent < 0.6 * (time.thread_time() - began)


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process, without that of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def put_whole(file: Path, data: bytes) -> None:
    """Change a file at once."""
    new = file.with_suffix(".new")
    new.write_bytes(data)
    new.replace(file)


def test_a_model_may_read_fewer_columns_than_the_one_at_the_start(
    place: Place,  # noqa: F811
    tmp_path: Path,
) -> None:
    roles = {"transaction_id": "id", "event_time": "t", "amount": "a"}
    wide = Schema("plain", roles, features=(FeatureColumn("x"),), calendar=False)
    model = DummyClassifier(strategy="prior").fit(np.zeros((10, 2)), [1] * 4 + [0] * 6)
    manifest = Manifest(
        name="wide",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("x", "amount"),
        thresholds=Thresholds(0.5),
        **schema_fields(wide),
    )
    add_model(place, write_bundle(tmp_path / "wide", model, manifest, Reference(), "# card"), ANN)
    first = put(place, "wide")
    server = Serve(Path(str(place)), tmp_path / "state", by="--registry", look=LOOK)

    def sent(number: int, *, x: bool) -> list[int]:
        """Return the statuses of a transaction as JSON and as Arrow."""
        row = {**json.loads(record(f"{number}")), **({"x": 1.0} if x else {})}
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist([{**row, "id": f"arrow-{number}"}])
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        bodies = {"json": json.dumps(row), "vnd.apache.arrow.stream": sink.getvalue().to_pybytes()}
        return [
            requests.post(
                f"http://127.0.0.1:{server.port}/predict",
                data=body,
                headers={"Content-Type": f"application/{media}"},
                timeout=30,
            ).status_code
            for media, body in bodies.items()
        ]

    def columns() -> set[str]:
        described = shown(server, "/openapi.json")["components"]["schemas"]["Transaction"]
        return set(described["properties"])

    with server:
        assert (sent(1, x=True), sent(2, x=False)) == ([200, 200], [422, 422])
        assert "x" in columns()
        second = put(place, "m8")
        until(lambda: shown(server, "/model")["model_id"] == second)
        assert (sent(3, x=True), sent(4, x=False)) == ([200, 200], [200, 200])
        assert "x" not in columns()
        put(place, "wide")
        until(lambda: shown(server, "/model")["model_id"] == first)
        assert (sent(5, x=True), sent(6, x=False)) == ([200, 200], [422, 422])
        server.stop()
    models = {name: row["model_id"] for name, row in archived(tmp_path / "state").items()}
    assert {name.rpartition("-")[2] for name in models} == {"1", "3", "4", "5"}
    assert len(models) == 8
    assert models["arrow-4"] == second


def test_alerts_of_rows_that_waited_are_described_by_the_rules_of_then(
    served: Served, tmp_path: Path
) -> None:
    engine = Running(served, tmp_path / "state").engine()
    group = engine.record(served.records)
    engine.state.commit()
    flagged = group.new.filter(group.new.column("flagged"))
    half = len(flagged) // 2
    since = 1_700_000_000_000_000
    times = pa.array([since - 1] * half + [since] * (len(flagged) - half)).cast(EVENT_TIME)
    number = flagged.schema.get_field_index("features_as_of")
    flagged = flagged.set_column(number, flagged.schema.field(number), times)
    outbox = Outbox(f"sqlite:///{tmp_path}/outbox.db")

    def context(condition: str) -> AlertContext:
        return AlertContext(rules=(RuleTerms("large", "review", 0, condition),))

    deliveries = Deliveries(Places(None, outbox, None, ("console:",), context("old"), "run"))
    deliveries.decide_by(context("new"), since)
    deliveries.by_backlog[FLAGGED](flagged)
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        fired = dict(connection.execute("SELECT transaction_id, fired_rules FROM alerts"))
    described = {name: rules for name, rules in fired.items() if "large" in rules}
    ids = flagged.column("transaction_id").to_pylist()
    assert set(fired) == set(ids)
    assert any(name in described for name in ids[:half])
    for number, name in enumerate(ids):
        if name in described:
            assert ("old" if number < half else "new") in described[name]


def test_a_limit_of_champions_needs_a_registry(tmp_path: Path) -> None:
    options = ServeOptions(
        model=bundle(tmp_path / "m", 2), state=str(tmp_path / "state"), max_microseconds=5.0
    )
    with fails(Code.OPTION_CONFLICT, "--max-microseconds", UsageError):
        serve_plan.plan(options)
