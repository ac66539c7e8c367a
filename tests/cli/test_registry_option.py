"""`--registry` in place of `--model`: the champion and the rules in force score."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.dummy import DummyClassifier

from beam_fraud.cli.commands import rescore, score, serve_plan, stream, stream_plan
from beam_fraud.cli.options import RescoreOptions, ScoreOptions, ServeOptions, StreamOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import load_bundle, write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import (
    RULES_FILE,
    add_model,
    add_rules,
    open_registry,
    promote,
    rollback,
)
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN

RULES = b'[[rule]]\nname = "%s"\nwhen = "amount > 3"\ndecision = "decline"\n'


def bundle(directory: Path, frauds: int, columns: Mapping[str, str] = MappingProxyType({})) -> str:
    """A model that gives every row the score `frauds` / 10.

    Args:
      directory: the bundle's.
      frauds: tenths of the score.
      columns: further roles of its schema.
    """
    labels = [1] * frauds + [0] * (10 - frauds)
    model = DummyClassifier(strategy="prior").fit(np.zeros((10, 1)), labels)
    roles = {"transaction_id": "id", "event_time": "t", "amount": "a", **columns}
    manifest = Manifest(
        name=f"m{frauds}",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("amount",),
        schema=Schema(name="plain", roles=roles, calendar=False).to_dict(),
        thresholds=Thresholds(0.5),
    )
    write_bundle(str(directory), model, manifest, Reference(), "# card")
    return str(directory)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry of two models and two rule sets, nothing of which decides."""
    place = Place.at(tmp_path / "registry")
    for frauds in (2, 8):
        add_model(place, load_bundle(bundle(tmp_path / f"m{frauds}", frauds)), ANN)
    for name in ("night", "day"):
        add_rules(place, name, {RULES_FILE: RULES % name.encode()}, ANN)
    return place


@pytest.fixture
def day(tmp_path: Path) -> Path:
    (tmp_path / "days").mkdir()
    file = tmp_path / "days" / "day.csv"
    file.write_text("id,t,a\n" + "".join(f"x{i},2024-01-0{i}T00:00:00Z,{i}\n" for i in range(1, 6)))
    return file


def put(place: Place, name: str) -> str:
    registry = open_registry(place)
    member = registry.find(name).id
    promote(registry, member, ANN)
    return member


def test_a_run_scores_by_the_champion_and_the_rules_in_force(
    place: Place, day: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ScoreOptions(files=(str(day),), registry=str(place), out=str(out))
    with fails(Code.REGISTRY_UNKNOWN, "has no champion"):
        score.run(options)
    model = put(place, "m2")
    assert score.run(options)["model_id"] == model
    assert pq.read_table(out / "scores").column("score").to_pylist() == [0.2] * 5
    put(place, "night")
    declined = score.run(options)
    assert declined["rules"] == {"night": {"fired": 2, "share": 0.4}}
    assert (declined["rows_flagged"], declined["model_id"]) == (2, model)
    # The file of the call stands in place of the rules in force.
    (tmp_path / "own.toml").write_bytes(RULES % b"own")
    own = score.run(replace(options, rules=str(tmp_path / "own.toml")))
    assert list(own["rules"]) == ["own"]  # type: ignore[call-overload]
    other = put(place, "m8")
    assert score.run(options)["model_id"] == other
    rollback(open_registry(place), ANN)
    assert score.run(options)["model_id"] == model


def test_a_stream_and_a_server_take_the_champion_at_their_start(
    place: Place, day: Path, tmp_path: Path
) -> None:
    model = put(place, "m8")
    put(place, "day")
    watching = StreamOptions(
        watch=str(day.parent), registry=str(place), out=str(tmp_path / "out"), until_idle=0.2
    )
    planned = stream_plan.plan(watching, io.StringIO())
    assert planned.scoring.bundle.model_id == model
    assert planned.scoring.rules is not None
    assert planned.scoring.rules.names == ("day",)
    result = stream.run(watching)
    assert (result["model_id"], result["rows_flagged"]) == (model, 5)
    serving = ServeOptions(registry=str(place), state=str(tmp_path / "state"))
    scoring = serve_plan.plan(serving).scored.scoring
    assert scoring.bundle.model_id == model
    assert scoring.rules is not None


def test_an_archive_is_scored_by_the_champion_and_the_rules_in_force(
    place: Place, day: Path, tmp_path: Path
) -> None:
    put(place, "m2")
    put(place, "night")
    options = RescoreOptions(
        files=(str(day.parent),),
        registry=str(place),
        against=(str(tmp_path / "m8"),),
        out=str(tmp_path / "out"),
    )
    rescore.run(options)
    files = sorted((tmp_path / "out" / "partitions").glob("*/scores/*.parquet"))
    rows = pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()
    new = {row["transaction_id"]: row for row in rows if not row["shadow"]}
    assert {row["model_id"] for row in new.values()} == {open_registry(place).champion_id()}
    assert {row["rules_id"] for row in rows} == {open_registry(place).standing.rules}
    fired = [name for name, row in new.items() if row["rules"] == ["night"]]
    assert sorted(fired) == ["x4", "x5"]
    directory = Path(str(place)) / "rules" / open_registry(place).standing.rules[-12:]
    (directory / "rules.toml").write_bytes(RULES % b"evil")
    with fails(Code.REGISTRY_DAMAGED, "rules.toml"):
        rescore.run(options)


def test_a_call_names_a_model_or_a_registry(place: Place, day: Path, tmp_path: Path) -> None:
    put(place, "m2")
    options = ScoreOptions(files=(str(day),), registry=str(place), out=str(tmp_path / "out"))
    with fails(Code.OPTION_CONFLICT, "--registry", UsageError):
        score.run(replace(options, model=str(tmp_path / "m2")))
    with fails(Code.OPTION_MISSING, "--registry DIR", UsageError):
        score.run(replace(options, registry=None))
    with fails(Code.REGISTRY_MISSING, "days"):
        score.run(replace(options, registry=str(day.parent)))
    damaged = Path(str(place)) / "bundles" / open_registry(place).champion_id() / "model.joblib"
    damaged.write_bytes(b"evil")
    with fails(Code.BUNDLE_DAMAGED, "model.joblib"):
        score.run(options)
