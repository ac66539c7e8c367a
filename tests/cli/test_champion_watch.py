"""A stream takes up what the registry promotes while it runs."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import stream
from beam_fraud.cli.options import StreamOptions
from beam_fraud.decisions.rules.files import RULES_FILE, RuleFiles
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry import champion_watch
from beam_fraud.models.registry.choice import rules_id
from beam_fraud.models.registry.registry import add_model, open_registry, rollback
from beam_fraud.storage.urls import Place
from tests.cli.test_registry_option import RULES, bundle, place, put  # noqa: F401
from tests.failing import fails
from tests.models.registering import ANN

#: Names of the valid rules of a changed file.
NAMES = (b"first", b"third")
#: Seconds within which a promotion is taken up here, where it is looked for all the time.
PATIENCE = 60.0


class Running:
    """A stream in a thread, over a directory to which files are added."""

    def __init__(self, inbox: Path, options: StreamOptions) -> None:
        self.inbox, self.options = inbox, options
        self.number = 0
        self.result: dict[str, Any] = {}
        self.failure: BaseException | None = None

    def deliver(self, rows: int = 5) -> None:
        first, self.number = self.number, self.number + rows
        lines = (f"x{n},2024-01-01T00:00:{n % 60:02}Z,{n % 5}\n" for n in range(first, self.number))
        part = self.inbox / f".{first}.csv"
        part.write_text("id,t,a\n" + "".join(lines))
        part.replace(self.inbox / f"{first:06}.csv")

    def scored(self) -> dict[str, str]:
        """Return the model of each row that is visible in the archive."""
        models: dict[str, str] = {}
        for file in sorted((Path(self.options.out) / "scores").glob("part-*.parquet")):
            rows = pq.read_table(file).to_pydict()
            for row, model in zip(rows["transaction_id"], rows["model_id"], strict=True):
                assert row not in models, "a row is scored twice"
                models[row] = model
        return models

    @contextmanager
    def running(self) -> Iterator[None]:
        def run() -> None:
            try:
                self.result = stream.run(self.options)
            except BaseException as error:
                self.failure = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if self.failure is not None:
            raise self.failure


def until(holds: Callable[[], object], before: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        before()
        time.sleep(0.1)


@pytest.fixture
def running(place: Place, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:  # noqa: F811
    monkeypatch.setattr(champion_watch, "LOOK_SECONDS", 0.1)
    options = StreamOptions(
        watch=str(inbox),
        registry=str(place),
        out=str(tmp_path / "out"),
        until_idle=3.0,
        roll_rows=1,
    )
    return Running(inbox, options)


def test_a_promotion_is_taken_up_and_every_row_is_scored_once(
    place: Place,  # noqa: F811
    running: Running,
) -> None:
    first = put(place, "m2")
    with running.running():
        until(lambda: first in running.scored().values(), running.deliver)
        second = put(place, "m8")
        until(lambda: second in running.scored().values(), running.deliver)
        rules = put(place, "night")
        rollback(open_registry(place), ANN)
        assert open_registry(place).standing.rules is None
        put(place, rules)
        until(lambda: "night" in fired(running), running.deliver)
    models = running.scored()
    versions = pq.read_table(Path(running.options.out) / "scores").column("rules_id")
    assert set(versions.to_pylist()) == {None, rules}
    assert set(models) == {f"x{n}" for n in range(running.number)}
    assert set(models.values()) == {first, second}
    assert running.result["rows_in"] == running.result["rows_scored"] == running.number
    assert running.result["model_id"] == second


def fired(running: Running) -> set[str]:
    """Return the rules that fired on visible rows."""
    files = (Path(running.options.out) / "scores").glob("part-*.parquet")
    columns = [pq.read_table(file).column("rules").to_pylist() for file in files]
    return {rule for rules in columns for row in rules for rule in row}


@pytest.mark.parametrize("why", ["damaged", "slow", "windows"])
def test_what_cannot_be_taken_up_is_refused_once_and_the_old_one_goes_on(
    place: Place,  # noqa: F811
    running: Running,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    first = put(place, "m2")
    alerts = tmp_path / "alerts.jsonl"
    running.options = replace(running.options, alerts=(f"file:{alerts}",))
    if why == "slow":
        running.options = replace(running.options, max_microseconds=0.0)

    def said() -> list[str]:
        errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        return [text for text in errors if "cannot be taken up" in text]

    with caplog.at_level(logging.ERROR), running.running():
        until(lambda: first in running.scored().values(), running.deliver)
        if why == "windows":
            other = bundle(tmp_path / "other", 5, columns={"account_id": "who"})
            add_model(place, load_bundle(other), ANN)
        put(place, "m5" if why == "windows" else "m8")
        if why == "damaged":
            # Promoted while it was whole.
            directory = Path(str(place)) / "bundles" / open_registry(place).champion_id()
            (directory / "model.joblib").write_bytes(b"evil")
        until(said, running.deliver)
        running.deliver()
    assert len(said()) == 1
    code = {"damaged": "BF402", "slow": "BF435", "windows": "BF711"}[why]
    assert code in said()[0]
    models = running.scored()
    assert len(models) == running.number
    assert set(models.values()) == {first}
    assert "cannot be taken up" in alerts.read_text()


def test_what_was_refused_is_taken_up_once_it_can_be_read(
    place: Place,  # noqa: F811
    running: Running,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("beam_fraud.models.registry.champion_watch._FIRST_LOOKS", 0)
    first = put(place, "m2")
    with caplog.at_level(logging.ERROR), running.running():
        until(lambda: first in running.scored().values(), running.deliver)
        second = put(place, "m8")
        file = Path(str(place)) / "bundles" / second / "model.joblib"
        whole = file.read_bytes()
        file.write_bytes(b"evil")
        until(lambda: "cannot be taken up" in caplog.text, running.deliver)
        file.write_bytes(whole)
        until(lambda: second in running.scored().values(), running.deliver)
    # Further attempts with the same reason are no news.
    assert caplog.text.count("cannot be taken up") == 1


def test_a_changed_rules_file_is_taken_up_and_an_invalid_one_refused(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_bytes(RULES % b"first")
    model = bundle(tmp_path / "model", 2)
    running.options = replace(running.options, registry=None, model=model, rules=str(rules))
    with caplog.at_level(logging.ERROR), running.running():
        until(lambda: "first" in fired(running), running.deliver)
        rules.write_bytes(RULES.replace(b"amount", b"amuont") % b"second")
        until(lambda: "amuont" in caplog.text, running.deliver)
        rules.write_bytes(RULES % b"third")
        until(lambda: "third" in fired(running), running.deliver)
    assert fired(running) == {"first", "third"}
    # Every row names the rules that decided it, and only those fired.
    rows = pq.read_table(Path(running.options.out) / "scores").to_pylist()
    by_id = {RuleFiles("rules", {RULES_FILE: RULES % name}).id: name.decode() for name in NAMES}
    assert {row["rules_id"] for row in rows} == set(by_id)
    for row in rows:
        assert row["rules"] == ([by_id[row["rules_id"]]] if row["amount"] > 3 else [])
    # And an audit has them as they were, the refused ones not.
    kept = Path(running.options.out) / "rules"
    assert {file.stem: file.read_bytes() for file in kept.glob("*.toml")} == {
        rules_id: RULES % name.encode() for rules_id, name in by_id.items()
    }
    log = [json.loads(line)["rules_id"] for line in (kept / "log.jsonl").read_text().splitlines()]
    assert [by_id[rules_id] for rules_id in log] == ["first", "third"]
    assert len(running.scored()) == running.number == running.result["rows_scored"]
    assert caplog.text.count("cannot be taken up") == 1


def test_a_process_that_ends_while_it_parses_rules_is_no_change_of_the_rules(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(RULES + b"# of this test alone\n")

    def ends(data: bytes, where: str) -> tuple[str, ...]:
        raise FraudError("the process beside this one ended", Code.WORKER_ENDED)

    with fails(Code.WORKER_ENDED):
        rules_id(str(file), ends)
    assert rules_id(str(file)) is not None
    assert rules_id(str(tmp_path / "absent.toml"), ends) is None


def test_a_limit_without_a_registry_is_refused(tmp_path: Path, inbox: Path) -> None:
    options = StreamOptions(
        watch=str(inbox),
        model=bundle(tmp_path / "m", 2),
        out=str(tmp_path / "out"),
        max_microseconds=5.0,
    )
    with fails(Code.OPTION_CONFLICT, "--max-microseconds", UsageError):
        stream.run(options)


def test_a_promoted_challenger_is_no_shadow_and_the_old_champion_becomes_none(
    place: Place,  # noqa: F811
    running: Running,
    tmp_path: Path,
) -> None:
    first, second = put(place, "m2"), open_registry(place).find("m8").id
    night = open_registry(place).find("night").id
    running.options = replace(running.options, shadow=("challengers", "m2"))
    with running.running():
        until(lambda: first in running.scored().values(), running.deliver)
        put(place, "m8")
        until(lambda: second in running.scored().values(), running.deliver)
    champions = running.scored()
    shadows: dict[str, set[tuple[str, str | None]]] = {}
    for file in (Path(running.options.out) / "shadow").glob("part-*.parquet"):
        for row in pq.read_table(file).to_pylist():
            pair = (row["model_id"], row["rules_id"])
            assert pair not in shadows.setdefault(row["transaction_id"], set())
            shadows[row["transaction_id"]].add(pair)
    day = open_registry(place).find("day").id
    for row, model in champions.items():
        # Rule sets beside whatever decides, and the other model: `m2` is named, so it stays.
        other = second if model == first else first
        assert shadows[row] == {(other, None), (model, night), (model, day)}
    assert set(shadows) == set(champions)
    figures = running.result["shadows"]
    assert set(figures) == {first, second, night, day}
    assert sum(figures[key]["rows"] for key in (first, second)) == running.number
