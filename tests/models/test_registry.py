from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.registry.log import EMPTY, read_log
from beam_fraud.models.registry.registry import (
    LOG_FILE,
    RULES_FILE,
    STATE_FILE,
    Author,
    Registry,
    add_model,
    add_rules,
    open_registry,
    promote,
    retire,
    rollback,
)
from beam_fraud.models.registry.requirement import Requirement
from beam_fraud.storage.urls import Place
from tests.crash import run_and_die_at
from tests.failing import fails
from tests.models.registering import (
    ANN,
    promote_at_once,
    small_bundle,
    small_registry,
)
from tests.object_store import KeptObjects

BOB = Author("bob", "because")
LARGE = b'[[rule]]\nname = "large"\nwhen = "amount > 100"\ndecision = "review"\n'
LISTED = (
    b'[[list]]\nname = "bad"\nfile = "lists/bad.txt"\n'
    b'[[rule]]\nname = "bad"\nwhen = "account_id in bad"\ndecision = "decline"\n'
)


def read(registry: Registry) -> Registry:
    return open_registry(registry.place)


def test_the_first_model_waits_until_it_is_promoted(tmp_path: Path) -> None:
    place = Place.at(tmp_path / "new" / "registry")
    with fails(Code.REGISTRY_MISSING, "registry add"):
        open_registry(place)
    bundle = small_bundle(tmp_path / "b")
    registry = add_model(place, bundle, ANN)
    assert registry.standing.challengers == (bundle.model_id,)
    with fails(Code.REGISTRY_UNKNOWN, "no champion"):
        registry.champion()
    registry = promote(registry, bundle.model_id, BOB)
    assert registry == read(registry)
    assert registry.champion().model_id == bundle.model_id
    assert registry.standing.challengers == ()
    assert [(e.action, e.who, e.why) for e in registry.log.entries] == [
        ("add", "ann", "a test"),
        ("promote", "bob", "because"),
    ]
    state = json.loads((tmp_path / "new" / "registry" / STATE_FILE).read_bytes())
    assert (state["champion"], state["head"]) == (bundle.model_id, registry.log.head)


def test_a_rollback_restores_what_was_before_the_promotion(tmp_path: Path) -> None:
    before, ids = small_registry(tmp_path, models=3)
    after = promote(promote(before, ids[1], BOB), ids[2], BOB)
    assert after.standing.champion == ids[2]
    assert after.standing.state_of(ids[0]) == "former"
    back = rollback(rollback(after, BOB), BOB)
    assert back.standing.champion == ids[0]
    assert set(back.standing.challengers) == {ids[1], ids[2]}
    assert [entry.in_force for entry in back.log.entries[-2:]] == [ids[1], ids[0]]
    with fails(Code.CHANGE_IMPOSSIBLE, "first champion"):
        rollback(back, BOB)
    # A rollback is undone by promoting again.
    assert promote(back, ids[2], BOB).standing.champion == ids[2]


def test_what_decides_is_not_retired_and_what_is_retired_does_not_decide(tmp_path: Path) -> None:
    registry, ids = small_registry(tmp_path)
    with fails(Code.CHANGE_IMPOSSIBLE, "decides"):
        retire(registry, ids[0], BOB)
    registry = retire(promote(registry, ids[1], BOB), ids[0], BOB)
    with fails(Code.CHANGE_IMPOSSIBLE, "retired since"):
        rollback(registry, BOB)
    with fails(Code.CHANGE_IMPOSSIBLE, "retired"):
        promote(registry, ids[0], BOB)
    again = add_model(registry.place, small_bundle(tmp_path / "b", 0.2), ANN)
    assert again.standing.state_of(ids[0]) == "challenger"
    assert rollback(again, BOB).standing.champion == ids[0]
    assert read(again).verify()["models"] == 2


def test_a_name_means_its_latest_model(tmp_path: Path) -> None:
    registry, ids = small_registry(tmp_path)
    assert registry.find("dummy").id == ids[1]
    assert registry.find(ids[0]).id == ids[0]
    assert retire(registry, ids[1], BOB).find("dummy").id == ids[0]
    with fails(Code.REGISTRY_UNKNOWN, "did you mean"):
        registry.find("dumy")
    both = add_rules(registry.place, "dummy", {RULES_FILE: LARGE}, ANN)
    with fails(Code.REGISTRY_UNKNOWN, "and of a rule set"):
        both.find("dummy")
    assert both.find("dummy", "rules").kind == "rules"


def test_who_decided_on_an_older_standing_is_told_who_was_first(tmp_path: Path) -> None:
    seen, ids = small_registry(tmp_path, models=3)
    promote(seen, ids[1], BOB)
    for late in (
        lambda: promote(seen, ids[2], ANN),
        lambda: rollback(seen, ANN),
        lambda: retire(seen, ids[2], ANN),
    ):
        with fails(Code.REGISTRY_CHANGED, f"bob was first .*{ids[1]}"):
            late()
    assert read(seen).standing.champion == ids[1]
    assert len(read(seen).log.entries) == len(seen.log.entries) + 1
    # What is added meanwhile changes no decision.
    now = read(seen)
    add_rules(seen.place, "rules", {RULES_FILE: LARGE}, ANN)
    with fails(Code.REGISTRY_CHANGED):
        promote(now, ids[2], ANN)


def test_a_rule_set_keeps_its_lists_and_must_fit_the_champion(tmp_path: Path) -> None:
    registry, _ = small_registry(tmp_path)
    files = {RULES_FILE: LISTED, "lists/bad.txt": b"17\n18\n"}
    registry = add_rules(registry.place, "day", files, ANN)
    rules = registry.find("day").id
    registry = promote(registry, rules, BOB)
    assert registry.standing.rules == rules
    champion = registry.champion()
    assert registry.rules(rules, champion, champion.schema).names == ("bad",)
    # Other values of a list are another rule set.
    other = add_rules(registry.place, "day", {**files, "lists/bad.txt": b"19\n"}, ANN)
    assert other.find("day").id != rules
    unfit = LARGE.replace(b"amount", b"nonsense")
    other = add_rules(registry.place, "unfit", {RULES_FILE: unfit}, ANN)
    with fails(Code.RULE_CONDITION, "nonsense", UsageError):
        promote(other, other.find("unfit").id, BOB)
    with fails(Code.RULES_INVALID, "beside", UsageError):
        add_rules(registry.place, "up", {RULES_FILE: LISTED, "../bad.txt": b"1"}, ANN)
    # The first rule set in force is undone, too.
    assert rollback(read(registry), BOB).standing.rules is None
    (tmp_path / "registry" / "rules" / rules[-12:] / "lists" / "bad.txt").write_bytes(b"20\n")
    with fails(Code.REGISTRY_DAMAGED, r"bad\.txt"):
        read(registry).verify()


@pytest.mark.parametrize("line", range(3))
def test_a_changed_log_is_refused(tmp_path: Path, line: int) -> None:
    registry, ids = small_registry(tmp_path)
    log = tmp_path / "registry" / LOG_FILE
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 3
    changed = [*lines[:line], lines[line].replace(b'"ann"', b'"eve"'), *lines[line + 1 :]]
    for damage in (
        b"".join(changed),
        b"".join(lines[:line] + lines[line + 1 :]),
        whole[:-1],
        whole + lines[-1],
        whole + b"nonsense\n",
    ):
        log.write_bytes(damage)
        with fails(Code.REGISTRY_DAMAGED, r"log\.jsonl|state\.json"):
            read(registry)
        with fails(Code.REGISTRY_DAMAGED):
            promote(registry, ids[1], BOB)
        assert log.read_bytes() == damage
    log.write_bytes(whole)
    assert read(registry) == registry


def test_a_changed_bundle_is_not_promoted_and_adding_it_repairs_it(tmp_path: Path) -> None:
    registry, ids = small_registry(tmp_path)
    directory = tmp_path / "registry" / "bundles" / ids[1]
    (directory / "model.joblib").write_bytes(b"evil")
    with fails(Code.BUNDLE_DAMAGED, "model.joblib"):
        registry.verify()
    with fails(Code.BUNDLE_DAMAGED, "model.joblib"):
        promote(registry, ids[1], BOB)
    assert read(registry).standing.champion == ids[0]
    with fails(Code.CHANGE_IMPOSSIBLE, "already"):
        add_model(registry.place, small_bundle(tmp_path / "b", 0.21), ANN)
    assert promote(registry, ids[1], BOB).standing.champion == ids[1]
    # A whole bundle of another model under its name is none.
    small_bundle(directory, 0.9)
    with fails(Code.REGISTRY_DAMAGED, "manifest.json"):
        read(registry).champion()


def test_a_promotion_killed_at_any_step_leaves_one_champion(tmp_path: Path) -> None:
    registry, ids = small_registry(tmp_path)
    champions, step = set(), 0
    while run_and_die_at(step, lambda: promote(read(registry), ids[1], BOB)):
        now = read(registry)
        champions.add(now.standing.champion)
        if now.standing.champion == ids[1]:
            # The state may be behind: the next change repairs it.
            rollback(now, BOB)
            state = json.loads((tmp_path / "registry" / STATE_FILE).read_bytes())
            assert state["champion"] == ids[0]
        read(registry).verify()
        step += 1
    assert champions == set(ids)
    assert step > 5


def at_once(tmp_path: Path, processes: int, kills: int, enough: int) -> None:
    registry, ids = small_registry(tmp_path, models=3)
    (tmp_path / "notes").mkdir()
    done = promote_at_once(registry.place, ids, processes, kills, enough, notes=tmp_path / "notes")
    now = read(registry)
    now.verify()
    assert len(done) >= enough
    reasons = [entry.why for entry in now.log.entries[len(registry.log.entries) :]]
    assert len(set(reasons)) == len(reasons)
    # Nothing confirmed is lost; a process killed before it could confirm adds at most one.
    assert set(done) <= set(reasons)
    assert len(reasons) <= len(done) + processes + kills
    assert now.standing.champion == now.log.entries[-1].id
    assert [now.standing.state_of(one) for one in ids].count("champion") == 1
    promote(now, next(one for one in ids if one != now.standing.champion), BOB)


def test_promotions_at_once_leave_one_champion_and_a_whole_history(tmp_path: Path) -> None:
    at_once(tmp_path, processes=3, kills=4, enough=8)


@pytest.mark.soak
def test_fifty_promotions_by_eight_processes_some_killed(tmp_path: Path) -> None:
    at_once(tmp_path, processes=8, kills=60, enough=50)


def test_a_registry_at_a_url_is_read_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, ids = small_registry(tmp_path)
    objects = tmp_path / "objects"
    objects.mkdir()
    monkeypatch.setattr(KeptObjects, "root", objects, raising=False)
    from beam_fraud.storage.objects import write

    for file in (tmp_path / "registry").rglob("*"):
        if file.is_file():
            name = file.relative_to(tmp_path / "registry")
            write(f"kept://bucket/models/{name}", file.read_bytes())
    remote = open_registry(Place.parse("kept://bucket/models"))
    assert remote.champion().model_id == ids[0]
    assert remote.verify() == registry.verify()
    with fails(Code.URL_UNUSABLE, "kept://bucket/models", UsageError):
        promote(remote, ids[1], BOB)
    with fails(Code.REGISTRY_MISSING):
        open_registry(Place.parse("kept://bucket/other"))


def test_a_log_is_a_chain() -> None:
    assert read_log(b"", "log") == EMPTY
    with fails(Code.REGISTRY_DAMAGED, "line 1"):
        read_log(b"{}\n", "log")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("ap >= champion.ap", False),
        ("ap >= champion.ap - 0.1", True),
        ("ap > 0.49", True),
        ("recall >= champion.recall", False),
        ("microseconds <= 5", True),
        ("roc_auc < .9", True),
        ("ap > champion.ap or roc_auc >= 0.8", True),
        ("ap > 0.9 * champion.ap and microseconds < 4", False),
    ],
)
def test_a_requirement_compares_figures(text: str, met: bool) -> None:
    new = {
        "average_precision": 0.5,
        "roc_auc": 0.8,
        "recall": None,
        "microseconds_per_row": 4.0,
    }
    champion = {"average_precision": 0.55, "recall": 0.4}
    assert (Requirement.parse(text).unmet(new, champion) is None) is met


@pytest.mark.parametrize("text", ["", "ap", "ap >= best.ap", "ap = 1", "app > 1", "ap > '1'"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with fails(Code.RULE_CONDITION, "--require", UsageError):
        Requirement.parse(text)


def test_without_a_champion_nothing_compares_with_one() -> None:
    assert Requirement.parse("ap > champion.ap").unmet({"average_precision": 1.0}, None)
    assert Requirement.parse("ap > 0.9").unmet({"average_precision": 1.0}, None) is None
