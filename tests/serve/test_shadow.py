"""Challengers score behind a server's answers: the rows of `score`, each once, or not at all."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import beam_fraud as bf
from beam_fraud.cli.commands import serve_plan, train
from beam_fraud.cli.options import ServeOptions, TrainOptions
from beam_fraud.decisions.decider import Decider, Pair
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import load_bundle, open_bundle
from beam_fraud.models.registry.challengers import ShadowNames
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.models.registry.registry import add_model, open_registry, promote, retire
from beam_fraud.serve import shadow, shadow_backlog
from beam_fraud.serve.shadow import ShadowScoring, ShadowSettings, finish_shadows
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN
from tests.serve.conftest import Served
from tests.serve.running import Running
from tests.serving import Client, Serve
from tests.shadowing import Failing, Share, shadow_bundle
from tests.stream_process import wait_until

#: Columns that rows in shadow have in common with scored ones.
SAME = ["transaction_id", "event_time", "account_id", "score", "flagged", "decision", "rules"]


@pytest.fixture(scope="session")
def challenger(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another model of the same windows."""
    bundle = str(tmp_path_factory.mktemp("challenger") / "other")
    options = TrainOptions(
        files=(served.history,),
        schema="handbook",
        model="hist_gradient_boosting",
        out=bundle,
        settings=("trees=20", "learning_rate=0.3"),
    )
    train.run(options)
    return bundle


@pytest.fixture(scope="session")
def expected(served: Served, challenger: str) -> pa.Table:
    """The rows of `score` by the challenger."""
    return scored(served, challenger, served.history)


def scored(served: Served, bundle: str, history: str | None) -> pa.Table:
    rows = bf.score(pq.read_table(served.later), bundle, history=history, rules=served.rules)
    assert isinstance(rows, pa.Table)
    return rows.select(SAME).sort_by("transaction_id")


def shadowed(directory: Path, key: str) -> pa.Table:
    """Return the rows of a challenger."""
    rows = pq.read_table(directory)
    either = pc.or_kleene(pc.equal(rows["model_id"], key), pc.equal(rows["rules_id"], key))
    return rows.filter(pc.fill_null(either, False)).sort_by("transaction_id")


def same_bits(rows: pa.Table, other: pa.Table) -> bool:
    """Whether every value, and every bit of the scores, is equal."""
    rows, other = rows.select(SAME).combine_chunks(), other.select(SAME).combine_chunks()
    scores = [table["score"].to_numpy().tobytes() for table in (rows, other)]
    return scores[0] == scores[1] and bool(rows.cast(other.schema).equals(other))


def test_rows_in_shadow_are_those_of_score_also_after_a_kill(
    served: Served, challenger: str, expected: pa.Table, tmp_path: Path
) -> None:
    rules = tmp_path / "tried.toml"
    rules.write_text(
        '[[rule]]\nname = "often"\nwhen = "account_count_1d >= 2"\ndecision = "decline"\n'
    )
    options = ("--history", served.history, "--rules", served.rules, "--rule-limit", "1")
    options += ("--shadow", challenger, "--shadow", str(rules), "--roll-rows", "300")
    server = Serve(Path(served.bundle), tmp_path / "state", *options)
    # Single records as values and as columns, and arrays.
    sizes, sent = [1] * 20 + [5, 13, 90, 1, 1], 0
    with server:
        for part in range(2):
            with Client(server.port) as client:
                for size in sizes if part == 0 else [1] * 10 + [100, 140, 1]:
                    body = b"[" + b",".join(served.records[sent : sent + size]) + b"]"
                    assert client.post(served.records[sent] if size == 1 else body)[0] == 200
                    sent += size
            if part == 0:
                # Within half a second of the last: they wait.
                server.kill()
                server.start()
        with Client(server.port) as client:
            rest = b"[" + b",".join(served.records[sent:]) + b"]"
            assert client.post(rest)[0] == 200
            # Neither repeats nor what is only scored is shadowed.
            assert client.post(served.records[0])[0] == 200
            assert client.post(served.records[0], "?record=false")[0] == 200
        key = open_bundle(challenger).model_id
        wait_until(lambda: figure(server, "rows", key) > 0)
        about = json.loads(get(server, "/model"))
        assert set(about["shadows"]) == {key, tried(server)}
        summary = server.stop()
    own = shadowed(tmp_path / "state" / "shadow", key)
    assert same_bits(own, expected)
    assert not same_bits(own, scored(served, challenger, None)), "windows matter"
    assert not same_bits(own, scored(served, served.bundle, served.history)), "so does the model"
    of_rules = shadowed(tmp_path / "state" / "shadow", tried_of(summary, key))
    champion = pq.read_table(tmp_path / "state" / "scores").sort_by("transaction_id")
    assert of_rules["score"].to_pylist() == champion["score"].to_pylist()
    assert any(of_rules["rules"].to_pylist())
    assert summary["rows_not_shadowed"] == 0
    for figures in summary["shadows"].values():
        assert 0 < figures["agreement"] <= 1
        assert figures["microseconds_per_row"] > 0
        # Of this process, which scored what the killed one had left, too.
        assert figures["rows"] >= len(served.records) - sum(sizes)


def get(server: Serve, path: str) -> bytes:
    with Client(server.port) as client:
        return client.get(path)[1]


def figure(server: Serve, name: str, key: str) -> float:
    return server.figure(f'beam_fraud_shadow_{name}_total{{challenger="{key}"}}')


def tried(server: Serve) -> str:
    return next(
        key for key in json.loads(get(server, "/model"))["shadows"] if key.startswith("tried@")
    )


def tried_of(summary: dict[str, Any], other: str) -> str:
    (rules,) = set(summary["shadows"]) - {other}
    return str(rules)


def test_challengers_join_leave_and_fail_while_a_server_answers(tmp_path: Path) -> None:
    place = Place.at(tmp_path / "registry")

    def added(name: str, model: Share) -> str:
        bundle = load_bundle(shadow_bundle(tmp_path / name, model))
        add_model(place, bundle, ANN)
        return bundle.model_id

    first = added("first", Share(0.01))
    promote(open_registry(place), first, ANN)
    alerts = tmp_path / "alerts.jsonl"
    options = ("--shadow", "challengers", "--alert", f"file:{alerts}")
    server = Serve(tmp_path / "registry", tmp_path / "state", *options, by="--registry", look=0.1)
    sent, answers = 0, []

    def send(amount: float) -> None:
        nonlocal sent
        row = {"id": f"x{sent}", "t": "2024-01-01T00:00:00Z", "who": "c", "a": amount}
        status, body, _ = client.post(json.dumps(row).encode())
        assert status == 200
        answers.append(json.loads(body))
        sent += 1

    def shadows() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(server, "/model"))["shadows"]
        return found

    def nothing_waits() -> None:
        """A row is scored by what is in shadow half a second later."""
        wait_until(lambda: json.loads(get(server, "/model"))["waiting"]["shadow"] == 0)

    with server, Client(server.port) as client:
        send(10.0)
        nothing_waits()
        assert shadows() == {}
        failing, second = added("failing", Failing(0.01)), added("second", Share(0.02))
        wait_until(lambda: set(shadows()) == {failing, second})
        send(20.0)
        wait_until(lambda: shadows()[second]["rows"] == shadows()[failing]["rows"] == 1)
        send(60.0)
        wait_until(lambda: shadows()[failing]["dropped"] is not None)
        assert shadows()[failing]["dropped"]["reason"] == "failed with ValueError"
        dropped = f'beam_fraud_shadow_dropped{{challenger="{failing}"}}'
        assert server.figure(dropped) == 1
        wait_until(lambda: figure(server, "rows", second) == 2)
        assert figure(server, "agreed", second) == 2
        wait_until(lambda: alerts.exists() and "no longer in shadow" in alerts.read_text())
        assert "secret" not in alerts.read_text() + server.said()
        retire(open_registry(place), second, ANN)
        wait_until(lambda: f"{second} scores no longer in shadow" in server.said())
        send(30.0)
        nothing_waits()
        third = added("third", Share(0.03))
        wait_until(lambda: f"{third} scores in shadow from here on" in server.said())
        send(40.0)
        wait_until(lambda: figure(server, "rows", third) == 1)
        nothing_waits()
        # A champion scores in shadow no more, and its challengers go on.
        fourth = added("fourth", Share(0.04))
        wait_until(lambda: f"{fourth} scores in shadow from here on" in server.said())
        promote(open_registry(place), third, ANN)
        wait_until(lambda: json.loads(get(server, "/readyz"))["model_id"] == third)
        send(10.0)
        wait_until(lambda: figure(server, "rows", fourth) == 1)
        summary = server.stop()
    assert [round(one["score"], 3) for one in answers] == [0.1, 0.2, 0.6, 0.3, 0.4, 0.3]
    assert [one["model_id"] for one in answers] == [first] * 5 + [third]
    rows = pq.read_table(tmp_path / "state" / "shadow").to_pylist()
    found = sorted((row["transaction_id"], row["model_id"]) for row in rows)
    assert found == sorted(
        [("x1", failing), ("x1", second), ("x2", second), ("x4", third), ("x5", fourth)]
    )
    assert summary["shadows"][second]["rows"] == 2


@dataclass
class Shadowing:
    """An engine in this process with a challenger, whose thread a test starts."""

    running: Running
    challenger: str
    said: list[tuple[str, str]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.running.directory / "shadow"

    @property
    def key(self) -> str:
        return open_bundle(self.challenger).model_id

    def scoring(self) -> ShadowScoring:
        served = self.running.served
        bundle = open_bundle(served.bundle)
        known = vocabulary(bundle.schema, bundle.velocity_names(), scored=True)
        rules = load_rules(served.rules, known)
        first = Decider(bundle, bundle.features_in(bundle.schema, rules.columns), rules)
        names = ShadowNames({self.challenger: Place.parse(self.challenger)})
        other = names.challenger(self.challenger, first, None, {})

        def decider_of(pair: Pair) -> Decider:
            assert pair == first.pair
            return first

        features = first.features
        velocity = [pa.field(n, pa.float64()) for one in features.velocity for n in one.names]
        described = features.schema.transactions(labels=features.labels)
        scoring = ShadowScoring(
            ShadowSettings(
                checkpoint=self.running.directory / "serve" / "shadow.db",
                directory=self.directory,
                roll_rows=1_000,
                roll_seconds=60.0,
                live=LiveShadows(first, (other,), names, None),
                described=pa.schema([*described, *velocity]),
                decider_of=decider_of,
                dropped=lambda key, why: self.said.append((key, why)),
            )
        )
        self.running.shadow = scoring
        return scoring


@pytest.fixture
def shadowing(served: Served, challenger: str, tmp_path: Path) -> Shadowing:
    return Shadowing(Running(served, tmp_path), challenger)


def test_rows_beyond_the_limit_are_left_out_and_said_and_answers_go_on(
    shadowing: Shadowing,
    expected: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shadow_backlog, "_MOST_ROWS", 60)
    scoring, records = shadowing.scoring(), shadowing.running.served.records
    engine = shadowing.running.engine()
    backlog = engine.state.shadow
    assert backlog is not None
    for start, stop in ((0, 50), (50, 100), (100, 101), (101, 150)):
        group = engine.record(records[start:stop])
        assert len(group.answered.rows) == stop - start
        engine.state.commit()
    assert (backlog.waiting, backlog.left_out) == (51, 99)
    assert caplog.text.count("further ones are left out") == 2
    engine.state.start()
    wait_until(lambda: scoring.waiting == 0)
    engine.record(records[150:160])
    engine.state.commit()
    engine.state.close(10.0)
    ids = {
        json.loads(r)["TRANSACTION_ID"] for r in (*records[:50], records[100], *records[150:160])
    }
    rows = shadowed(shadowing.directory, shadowing.key)
    own = expected.filter(pc.is_in(expected["transaction_id"], pa.array([str(i) for i in ids])))
    assert same_bits(rows, own)
    assert backlog.left_out == 99


def test_what_waits_is_kept_while_the_disk_takes_no_rows_and_nothing_else_waits(
    shadowing: Shadowing,
    expected: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shadow, "_PAUSE", 0.05)
    scoring, records = shadowing.scoring(), shadowing.running.served.records
    engine = shadowing.running.engine()
    engine.state.start()
    moved = shadowing.directory.with_name("moved")
    shadowing.directory.rename(moved)
    shadowing.directory.write_text("in the way")
    engine.record(records[:100])
    engine.state.commit()
    wait_until(lambda: "--shadow" in caplog.text)
    assert scoring.waiting == 100
    shadowing.directory.unlink()
    moved.rename(shadowing.directory)
    wait_until(lambda: scoring.waiting == 0)
    engine.record(records[100:])
    engine.state.commit()
    engine.state.close(10.0)
    assert same_bits(shadowed(shadowing.directory, shadowing.key), expected)


def test_groups_that_were_not_committed_are_never_in_shadow(
    shadowing: Shadowing, expected: pa.Table
) -> None:
    scoring, records = shadowing.scoring(), shadowing.running.served.records
    engine = shadowing.running.engine()
    engine.state.start()
    for start in (0, 200):
        engine.record(records[start : start + 3])
        engine.record(records[start + 3 : start + 200])
        engine.state.discard()
        assert scoring.waiting == 0
        engine.record(records[start : start + 200])
        engine.state.commit()
        wait_until(lambda: scoring.waiting == 0)
    engine.state.close(10.0)
    assert same_bits(shadowed(shadowing.directory, shadowing.key), expected)


def test_a_restart_scores_what_was_folded_or_not_and_nothing_twice(
    shadowing: Shadowing, expected: pa.Table
) -> None:
    records = shadowing.running.served.records
    for start in range(0, 400, 100):
        scoring = shadowing.scoring()
        engine = shadowing.running.engine()
        waited = scoring.waiting
        assert waited == (0 if start == 0 else 40)
        engine.state.start()
        engine.record(records[start : start + 60])
        engine.state.commit(fold=start % 200 == 0)
        wait_until(lambda: scoring.waiting == 0)  # noqa: B023
        # As a kill leaves it: the thread gets no more.
        scoring._until = 0.0
        scoring._thread.join()
        for place in range(start + 60, start + 100, 5):
            engine.record(records[place : place + 5])
        engine.state.commit(fold=start == 100)
        engine.state._checkpoint.close()
    scoring = shadowing.scoring()
    engine = shadowing.running.engine()
    assert scoring.waiting == 40
    engine.state.start()
    engine.state.close(10.0)
    assert same_bits(shadowed(shadowing.directory, shadowing.key), expected)


def test_a_server_without_shadows_leaves_the_rows_and_drops_what_waits(
    shadowing: Shadowing, caplog: pytest.LogCaptureFixture
) -> None:
    scoring, records = shadowing.scoring(), shadowing.running.served.records
    engine = shadowing.running.engine()
    engine.record(records[:10])
    engine.state.commit()
    engine.state._checkpoint.close()
    scoring._checkpoint.close()
    assert (
        finish_shadows(shadowing.running.directory / "serve" / "shadow.db", shadowing.directory)
        == 0
    )
    shadowing.running.shadow = None
    with caplog.at_level(logging.WARNING):
        engine = shadowing.running.engine()
    assert "10 rows waited for the challengers" in caplog.text
    engine.state.close(1.0)
    assert shadowing.scoring().waiting == 0
    caplog.clear()
    shadowing.running.engine().state.close(1.0)
    assert "waited" not in caplog.text


def test_a_server_refuses_shadows_of_other_windows(served: Served, tmp_path: Path) -> None:
    from beam_fraud.schema.velocity import Velocity

    other = shadow_bundle(
        tmp_path / "other", Share(0.1), velocity=[Velocity(("account_id",), ("3d",), ("count",))]
    )
    options = ServeOptions(model=served.bundle, state=str(tmp_path / "state"), shadow=(other,))
    with fails(Code.STREAM_CHANGED, "account_count_3d"):
        serve_plan.plan(options)
    with fails(Code.OPTION_CONFLICT, "--registry", UsageError):
        serve_plan.plan(
            ServeOptions(
                model=served.bundle, state=str(tmp_path / "state"), shadow=("challengers",)
            )
        )
    assert not (tmp_path / "state").exists()
