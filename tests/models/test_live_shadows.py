"""Challengers join and leave what scores in shadow, as a registry says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.decision import decision_codes
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry.challengers import ALL, ShadowNames
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.models.registry.registry import (
    RULES_FILE,
    add_model,
    add_rules,
    open_registry,
    promote,
    retire,
    rollback,
)
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.models.registering import ANN
from tests.shadowing import Failing, Second, Share, shadow_bundle

RULES = b'[[rule]]\nname = "large"\nwhen = "amount > 40"\ndecision = "decline"\n'
AMOUNTS = np.arange(50.0)


class Registry:
    """A registry whose first model decides."""

    def __init__(self, directory: Path) -> None:
        self.place, self.directory = Place.at(directory / "registry"), directory
        self.add("first", Share(0.01))
        self.promote("first")

    def add(self, name: str, model: Share, **schema: Sequence[Velocity]) -> str:
        """Add a model; return its id."""
        bundle = load_bundle(shadow_bundle(self.directory / name, model, **schema))
        add_model(self.place, bundle, ANN)
        return bundle.model_id

    def add_rules(self) -> str:
        add_rules(self.place, "large", {RULES_FILE: RULES}, ANN)
        return open_registry(self.place).find("large").id

    def promote(self, name: str) -> None:
        registry = open_registry(self.place)
        promote(registry, registry.find(name).id, ANN)

    def retire(self, name: str) -> None:
        registry = open_registry(self.place)
        retire(registry, registry.find(name).id, ANN)

    @property
    def champion(self) -> Decider:
        bundle = open_registry(self.place).champion()
        return Decider(bundle, bundle.features_in(bundle.schema))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def live(registry: Registry, *names: str) -> LiveShadows:
    places = {name: Place.parse(name) for name in names or (ALL,)}
    return LiveShadows(registry.champion, (), ShadowNames(places, registry.place), None)


def scored(
    shadows: LiveShadows, champion: Decider, amounts: np.ndarray = AMOUNTS
) -> tuple[set[str], dict[str, str], set[str]]:
    """Score a block; return who scored, who was refused, and who was dropped."""
    now, refused = shadows.beside(champion)
    ids = pa.array([f"x{n}" for n in range(len(amounts))])
    times = pa.array(np.zeros(len(amounts), dtype=np.int64)).view(EVENT_TIME)
    rows = pa.RecordBatch.from_pydict(
        {"transaction_id": ids, "event_time": times, "account_id": ids, "amount": amounts}
    )
    scores = amounts * 0.01
    decided = decision_codes(scores, champion.bundle.thresholds, None)
    result = now.score(rows, amounts[:, None].copy(), scores, decided)
    for key in result.dropped:
        shadows.drop(key)
    return set(result.figures), refused, set(result.dropped)


def test_models_and_rules_join_and_leave_with_the_registry(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    champion, shadows = registry.champion, live(registry)
    assert scored(shadows, champion) == (set(), {}, set())
    second, large = registry.add("second", Share(0.02)), registry.add_rules()
    # Nothing changes between two looks.
    assert scored(shadows, champion)[0] == set()
    with caplog.at_level(logging.INFO):
        shadows.look()
    assert scored(shadows, champion) == ({second, large}, {}, set())
    assert shadows.keys == [second, large]
    assert f"{second} scores in shadow from here on" in caplog.text
    loaded = shadows.beside(champion)[0]
    shadows.look()
    assert shadows.beside(champion)[0] is loaded, "nothing is loaded again without a change"
    registry.retire("second")
    with caplog.at_level(logging.INFO):
        shadows.look()
    assert scored(shadows, champion)[0] == {large}
    assert f"{second} scores no longer in shadow" in caplog.text


def test_a_name_follows_its_latest_version(registry: Registry, tmp_path: Path) -> None:
    old = registry.add("second", Share(0.02))
    shadows, champion = live(registry, "second"), registry.champion
    shadows.beside(champion)
    shadows.look()
    assert scored(shadows, champion)[0] == {old}
    registry.add("third", Share(0.03))
    registry.directory = tmp_path / "again"
    new = registry.add("second", Share(0.04))
    shadows.look()
    assert scored(shadows, champion)[0] == {new}


def test_what_cannot_score_is_said_once_and_the_others_go_on(registry: Registry) -> None:
    second, champion = registry.add("second", Share(0.02)), registry.champion
    shadows = live(registry)
    shadows.beside(champion)
    shadows.look()
    window = Velocity(("account_id",), ("1d",), ("count",))
    windows = registry.add("windows", Second(0.1), velocity=[window])
    shadows.look()
    scoring, refused, _ = scored(shadows, champion)
    assert (scoring, set(refused)) == ({second}, {windows})
    assert "account_count_1d" in refused[windows]
    for _ in range(2):
        shadows.look()
        assert scored(shadows, champion) == ({second}, {}, set())


def test_one_that_failed_is_tried_again_when_it_comes_back(registry: Registry) -> None:
    failing = registry.add("failing", Failing(0.01))
    champion, shadows = registry.champion, live(registry)
    shadows.beside(champion)
    shadows.look()
    assert scored(shadows, champion, AMOUNTS + 1)[2] == {failing}
    shadows.look()
    assert scored(shadows, champion)[0] == set()
    registry.retire("failing")
    shadows.look()
    registry.add("failing", Failing(0.01))
    shadows.look()
    assert scored(shadows, champion)[0] == {failing}


def test_a_promoted_one_leaves_and_an_unreadable_registry_changes_nothing(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    second, third = registry.add("second", Share(0.02)), registry.add("third", Share(0.03))
    first, shadows = registry.champion, live(registry)
    shadows.beside(first)
    shadows.look()
    registry.promote("second")
    champion = registry.champion
    assert scored(shadows, champion)[0] == {third}
    shadows.look()
    # Blocks of the one before may still come.
    assert scored(shadows, first)[0] == {second, third}
    assert scored(shadows, champion)[0] == {third}
    log = Path(str(registry.place)) / "log.jsonl"
    before = log.read_bytes()
    log.write_bytes(b"evil")
    for _ in range(2):
        shadows.look()
    assert caplog.text.count("the challengers stay") == 1
    assert scored(shadows, champion)[0] == {third}
    log.write_bytes(before)
    registry.add("fourth", Share(0.04))
    shadows.look()
    assert len(scored(shadows, champion)[0]) == 2


def test_after_a_rollback_the_one_before_scores_from_the_first_block_on(
    registry: Registry,
) -> None:
    second, first, shadows = registry.add("second", Share(0.02)), registry.champion, live(registry)
    shadows.beside(first)
    shadows.look()
    registry.promote("second")
    shadows.look()
    assert scored(shadows, registry.champion)[0] == set()
    rollback(open_registry(registry.place), ANN)
    shadows.look()
    assert scored(shadows, first)[0] == {second}


def test_blocks_go_on_while_challengers_change(registry: Registry) -> None:
    champion, shadows = registry.champion, live(registry)
    shadows.beside(champion)
    seen, end = list[set[str]](), threading.Event()

    def score_on() -> None:
        while not end.is_set():
            seen.append(scored(shadows, champion)[0])

    thread = threading.Thread(target=score_on)
    thread.start()
    keys = []
    try:
        for number in range(3):
            keys.append(registry.add(f"m{number}", Share(0.02 + number / 100)))
            shadows.look()
    finally:
        end.set()
        thread.join()
    steps = [set(keys[:number]) for number in range(4)]
    assert all(one in steps for one in seen)
    assert scored(shadows, champion)[0] == set(keys)
