"""Promotions while requests arrive at a rate: none is lost, late without need, or mixed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from beam_fraud.models.bundle import Bundle, load_bundle, shared_model, write_bundle
from beam_fraud.models.predict import microseconds_per_row
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import (
    RULES_FILE,
    add_model,
    add_rules,
    open_registry,
    promote,
)
from beam_fraud.storage.urls import Place
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.models.registering import ANN, other
from tests.open_load import SCORED, open_load, write_bodies
from tests.requirements import need_kafka
from tests.serving import Client, Payment, Serve, payments
from tests.stream_process import wait_until

#: Amounts from which each rule set declines.
LIMITS = {"strict": 150.0, "lax": 190.0}
RULE = '[[rule]]\nname = "large"\nwhen = "amount > {}"\ndecision = "decline"\n'


@dataclass(frozen=True)
class Plan:
    """How much is changed, under how much load."""

    #: Requests a second, and seconds between two looks of the server; None as in the field.
    rate: float
    look: float | None
    #: Promotions; and how often a champion is broken, slow, and of other features.
    promotions: int
    others: int
    #: Changes of rules, and seconds between two.
    rules: int
    pause: float
    #: Seconds without any change at the start.
    calm: float
    #: Milliseconds within which 99 of 100 requests are answered, those beside changes too; None
    #: where other tests or a broker have the machine.
    bound: float | None
    #: Transactions in a followed topic before its broker goes away for a part of the changes, and
    #: as many after it is back; 0 to follow none.
    messages: int = 0


SMALL = Plan(100, 0.15, promotions=2, others=1, rules=2, pause=1, calm=1, bound=None)
FULL = Plan(500, None, promotions=20, others=5, rules=5, pause=6, calm=40, bound=5.0)
#: Most seconds of a load, and seconds at its start that do not count.
SECONDS, WARM_UP = 600, 5.0
#: By how much less urgent to the system promotions are than the load.
NICENESS = 10


def trained(like: Bundle, directory: Path, names: tuple[str, ...], model: Any) -> Bundle:
    """A model over some of another one's features, with its schema and windows."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(4_000, len(names)))
    model.fit(rows, draw.random(len(rows)) < 0.3)
    manifest = replace(like.manifest, name=directory.name, features=names)
    return write_bundle(directory, model, manifest, Reference(), "# card")


class Models:
    """A registry of two usual models, and of a broken, a slow and a different one."""

    def __init__(self, bundle: Path, directory: Path) -> None:
        self.place = Place.at(directory / "registry")
        first, second, broken = (
            load_bundle(other(bundle, directory / name, threshold))
            for name, threshold in (("first", 0.2), ("second", 0.5), ("broken", 0.8))
        )
        names = first.manifest.features
        fewer = tuple(n for n in names if n not in ("is_night", "account_mean_1d"))
        assert len(fewer) == len(names) - 2
        neighbours = KNeighborsClassifier(algorithm="kd_tree")
        slow = trained(first, directory / "slow", names, neighbours)
        forest = RandomForestClassifier(10, random_state=1)
        different = trained(first, directory / "different", fewer, forest)
        self.usual = first, second
        self.broken, self.slow, self.different = broken, slow, different
        draw = np.random.default_rng(0)
        costs = [
            microseconds_per_row(shared_model(m), draw.normal(size=(5_000, len(names))))
            for m in (first, slow)
        ]
        #: Maximum of microseconds a row, between the two.
        self.limit = float(np.sqrt(costs[0] * costs[1]))
        for model in (*self.usual, broken, slow, different):
            add_model(self.place, model, ANN)
        for name, limit in LIMITS.items():
            add_rules(self.place, name, {RULES_FILE: RULE.format(limit).encode()}, ANN)
        registry = open_registry(self.place)
        self.rules = [registry.find(name).id for name in LIMITS]
        self.decides(first.model_id)

    def decides(self, member: str) -> None:
        """Promote a model or a rule set."""
        promote(open_registry(self.place), member, ANN)

    @contextmanager
    def damaged(self) -> Iterator[None]:
        """Promote the broken model while it is whole, and damage it during the body."""
        file = Path(str(self.place)) / "bundles" / self.broken.model_id / "model.joblib"
        whole = file.read_bytes()
        self.decides(self.broken.model_id)
        file.write_bytes(b"evil")
        try:
            yield
        finally:
            file.write_bytes(whole)


@dataclass
class Changes:
    """Changes what decides, one after the other, and waits until the server says so."""

    models: Models
    server: Serve
    taken: int = 0
    refused: int = 0

    def to(self, member: str) -> None:
        """Promote what is taken up."""
        self.taken += 1
        self.models.decides(member)
        self._said("decides from here on", self.taken)

    def back(self, member: str) -> None:
        """Promote what decides in the server, after it has refused something."""
        self.refused += 1
        self._said("cannot be taken up", self.refused)
        self.models.decides(member)
        # Until the server has seen it, the refused one would be the same as before.
        time.sleep(1.2 * (self.server.look or 3.0))

    def _said(self, words: str, times: int) -> None:
        end = time.monotonic() + 30
        while self.server.log.read_text("utf-8", errors="replace").count(words) < times:
            assert time.monotonic() < end, self.server.said()
            time.sleep(0.1)


@dataclass
class Followed:
    """A topic that the server follows, and its broker."""

    broker: Broker
    #: What may be written, in the order of the requests; and the ids of what was.
    payments: Sequence[Payment]
    written: list[str] = field(default_factory=list)

    @property
    def options(self) -> tuple[str, ...]:
        """Options of the server."""
        return ("--kafka", self.broker.bootstrap, "--topic", "seen", "--start", "earliest")

    def write(self, server: Serve, messages: int) -> None:
        """Write transactions of about the time of the requests."""
        begin = round(server.figure(SCORED))
        part = self.payments[begin : begin + messages]
        produce(self.broker, "seen", [payment.record for payment in part])
        self.written += [payment.id for payment in part]


@contextmanager
def followed(directory: Path, plan: Plan) -> Iterator[Followed]:
    """Run a broker during the body."""
    need_kafka()
    made = payments(round(plan.rate * SECONDS), accounts=2_000, seed=5, name="topic")
    with Broker(directory) as broker:
        broker.create_topic("seen", 2)
        yield Followed(broker, made)


def changed_beside(plan: Plan, models: Models, server: Serve, topic: Followed | None) -> None:
    """Change models and rules in a thread that gives way to the load, as another machine would."""

    def change() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        changed(plan, models, server, topic)

    with ThreadPoolExecutor(1) as beside:
        beside.submit(change).result()


def changed(plan: Plan, models: Models, server: Serve, topic: Followed | None) -> None:
    """Change models and rules as planned; the broker of a topic is away during the middle part."""
    changes, usual = Changes(models, server), [model.model_id for model in models.usual]
    for number in range(plan.promotions):
        changes.to(usual[(number + 1) % 2])
    current = usual[plan.promotions % 2]
    if topic is not None:
        topic.write(server, plan.messages)
        topic.broker.kill()
    for _ in range(plan.others):
        with models.damaged():
            changes.back(current)
        models.decides(models.slow.model_id)
        changes.back(current)
        changes.to(models.different.model_id)
        changes.to(current)
    if topic is not None:
        topic.broker.start()
        topic.write(server, plan.messages)
    for number in range(plan.rules):
        models.decides(models.rules[number % 2])
        time.sleep(plan.pause)
    last = models.rules[(plan.rules - 1) % 2]
    wait_until(lambda: in_force(server) == last)
    scored = server.figure(SCORED)
    wait_until(lambda: server.figure(SCORED) > scored)


def in_force(server: Serve) -> object:
    """Return the rule set that a server answers by."""
    with Client(server.port) as client:
        return json.loads(client.get("/model")[1])["rules_id"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        SMALL,
        replace(SMALL, promotions=1, messages=200),
        pytest.param(FULL, marks=pytest.mark.soak),
        pytest.param(replace(FULL, messages=2_000, bound=None), marks=pytest.mark.soak),
    ],
)
def test_promotions_under_load_lose_and_mix_nothing(
    bundle: Path, tmp_path: Path, plan: Plan
) -> None:
    models = Models(bundle, tmp_path)
    options = ["--max-microseconds", str(models.limit), "--rule-limit", "1"]
    state, answers = tmp_path / "state", tmp_path / "answers.tsv"
    with ExitStack() as stack:
        topic = None
        if plan.messages:
            topic = stack.enter_context(followed(tmp_path / "kafka", plan))
            options += topic.options
        place = Path(str(models.place))
        server = Serve(place, state, *options, by="--registry", look=plan.look)
        stack.enter_context(server)
        memory = [resident(server)]
        made = payments(round(plan.rate * SECONDS), accounts=2_000, seed=3)
        bodies = write_bodies(tmp_path / "bodies", (payment.record for payment in made))
        with open_load(server, bodies, plan.rate, SECONDS, "--answers", str(answers)):
            time.sleep(plan.calm)
            memory.append(resident(server))
            changed_beside(plan, models, server, topic)
            memory.append(resident(server))
        sent = [line.split("\t", 2) for line in answers.read_text().splitlines()]
        written = [] if topic is None else topic.written
        wait_until(lambda: server.figure(SCORED) >= len(sent) + len(written))
        server.stop()
    given = [json.loads(answer) for *_, answer in sent]
    assert all("decision" in answer for answer in given), "a request was not answered"
    rows = pq.read_table(state / "scores").to_pylist()
    archived = {row["transaction_id"]: row for row in rows}
    assert len(written) == 2 * plan.messages
    assert archived.keys() == {*written, *(answer["transaction_id"] for answer in given)}
    assert len(rows) == len(archived) == len(sent) + len(written)
    refuse_mixed(models, given, archived)
    assert len({answer["model_id"] for answer in given}) == 3
    # A rule set of a second may never be in force on a busy machine; the last one is.
    assert models.rules[(plan.rules - 1) % 2] in {answer["rules_id"] for answer in given}
    due, took = (np.array([float(line[place]) for line in sent]) for place in (0, 1))
    print("resident MB", memory)
    p99 = report(plan, due, took, [(answer["model_id"], answer["rules_id"]) for answer in given])
    assert plan.bound is None or p99 <= plan.bound


def refuse_mixed(
    models: Models,
    given: list[dict[str, object]],
    archived: dict[str, dict[str, object]],
) -> None:
    """Assert that each row is decided by the threshold of its model and by its own rules."""
    usual = (*models.usual, models.different)
    thresholds = {model.model_id: model.manifest.thresholds.review for model in usual}
    limits = dict(zip(models.rules, LIMITS.values(), strict=True))
    for answer in given:
        row = archived[str(answer["transaction_id"])]
        for name in ("score", "decision", "model_id", "rules_id", "rules"):
            assert answer[name] == row[name]
    for row in archived.values():
        flagged = row["score"] >= thresholds[str(row["model_id"])]  # type: ignore[operator]
        large = row["amount"] > limits.get(str(row["rules_id"]), np.inf)  # type: ignore[operator]
        assert row["decision"] == ("decline" if large else "review" if flagged else "approve")


def report(
    plan: Plan, due: np.ndarray, took: np.ndarray, decided_by: list[tuple[str, str]]
) -> float:
    """Print the latencies without changes and while there are changes.

    Args:
      plan: the plan.
      due: float64[n], seconds at which requests were due.
      took: float64[n], milliseconds.
      decided_by: what decided each.

    Returns:
      The p99 while there are changes, all requests included, milliseconds.
    """
    order = np.argsort(due, kind="stable")
    due, took = due[order] - due.min(), took[order]
    ordered = [decided_by[place] for place in order]
    swaps = [due[at + 1] for at, (a, b) in enumerate(pairwise(ordered)) if a != b]
    near = np.zeros(len(due), dtype=bool)
    for swap in swaps:
        near |= abs(due - swap) < 0.5
    print(len(due), "requests,", round(len(due) / due.max()), "a second,", len(swaps), "changes")
    changing = due >= plan.calm
    for name, rows in (
        ("calm", (due >= WARM_UP if plan.calm > WARM_UP else due >= 0) & ~changing),
        ("while changing", changing),
        ("within 0.5 s of a change", near),
        ("apart from that", changing & ~near),
    ):
        figures = np.percentile(took[rows], [50, 99, 99.9, 100]).round(2) if rows.any() else []
        print(f"{name}: p50, p99, p99.9, max ms", *figures)
    return float(np.percentile(took[changing], 99))


def resident(server: Serve) -> int:
    """Return the memory of the server, MB."""
    return round(server.figure("process_resident_memory_bytes") / 1e6)
