"""`retrain` makes a challenger of mature labels, compares and registers it, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import labels as label_commands
from beam_fraud.cli.commands import registry as registry_commands
from beam_fraud.cli.commands import retrain, train
from beam_fraud.cli.options import (
    ImportLabelsOptions,
    RegistryAddOptions,
    RegistryPromoteOptions,
    RetrainOptions,
    TrainOptions,
)
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.simulate.label_delay import parse_label_delay
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.urls import Place
from tests.failing import fails

SETTINGS = ("max_iter=200",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive without labels, labels that came late, and a registry with an old champion."""
    directory = tmp_path_factory.mktemp("world")
    delay = parse_label_delay("median=4d,sigma=0.5")
    spec = Simulation(days=90, accounts=60, merchants=90, fraud_rate=0.04, label_delay=delay)
    rows = simulate(spec)
    known = rows.filter(pc.equal(rows["TX_FRAUD"], 1))
    labels = pa.table(
        {
            "transaction_id": known["TRANSACTION_ID"].cast(pa.string()),
            "label": known["TX_FRAUD"],
            "labelled_at": known["LABELLED_AT"],
        }
    )
    pq.write_table(labels, directory / "labels.parquet")
    archive = rows.drop_columns(["TX_FRAUD", "LABELLED_AT"])
    pq.write_table(archive, directory / "archive.parquet")
    train.run(
        TrainOptions(
            files=(str(directory / "archive.parquet"),),
            labels=str(directory / "labels.parquet"),
            schema="handbook",
            model="logistic",
            settings=SETTINGS,
            until="2024-02-01",
            out=str(directory / "fraud"),
        )
    )
    registry = str(directory / "registry")
    registry_commands.run_add(RegistryAddOptions(what=str(directory / "fraud"), registry=registry))
    registry_commands.run_promote(
        RegistryPromoteOptions(what="fraud", why="first", registry=registry)
    )
    return directory


def options_in(world: Path, directory: Path) -> RetrainOptions:
    shutil.copytree(world / "registry", directory / "registry")
    return RetrainOptions(
        files=(str(world / "archive.parquet"),),
        labels=str(world / "labels.parquet"),
        registry=str(directory / "registry"),
        out=str(directory / "out"),
        compare="7d",
        resamples=20,
    )


@pytest.fixture
def options(world: Path, tmp_path: Path) -> RetrainOptions:
    return options_in(world, tmp_path)


@dataclass(frozen=True)
class Retrained:
    """A retraining that was not promoted."""

    directory: Path
    options: RetrainOptions
    result: dict[str, Any]


@pytest.fixture(scope="module")
def retrained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    directory = tmp_path_factory.mktemp("retrained")
    never = ("recall >= 0", "recall > 2 * old.recall + 1")
    options = replace(options_in(world, directory), label_maturity="14d", promote_if=never)
    return Retrained(directory, options, retrain.run(options))


def changed_labels(world: Path, file: Path, change: Callable[[pa.Table], pa.Table]) -> str:
    pq.write_table(change(pq.read_table(world / "labels.parquet")), file)
    return str(file)


def test_a_challenger_is_compared_and_registered(retrained: Retrained, world: Path) -> None:
    directory, result = retrained.directory, retrained.result
    champion = open_bundle(str(world / "fraud")).model_id
    assert result["state"] == "registered"
    assert result["champion"] == champion
    registry = open_registry(Place.at(directory / "registry"))
    assert registry.standing.champion == champion
    assert registry.standing.challengers == (result["challenger"],)
    entry = registry.log.entries[-1]
    assert entry.evidence is not None
    assert entry.evidence["data_sha256"] == result["data_sha256"]
    assert entry.evidence["figures"]["old.recall"] is not None
    assert registry.verify()["reports"] == 1
    assert str(result["sentence"]) in retrain.render(result)
    assert json.loads((directory / "out/retrain.json").read_text())["state"] == "registered"
    comparison = json.loads((directory / "out/comparison/comparison.json").read_text())
    assert [side["model_id"] for side in comparison["sides"]] == [result["compared"], champion]
    # The alerts of the two are as many, but for the days that chose the threshold.
    flags = result["figures"]
    assert abs(flags["flags_per_day"] - flags["old.flags_per_day"]) < 2


def test_the_compared_model_knows_nothing_of_the_compared_rows(retrained: Retrained) -> None:
    result = retrained.result
    compared = open_bundle(str(retrained.directory / "out/compared")).manifest.trained_on
    challenger = open_bundle(str(retrained.directory / "out/challenger")).manifest.trained_on
    assert compared is not None
    assert challenger is not None
    assert compared[1] < result["compared_from"] < challenger[1] < result["mature_until"]


def test_it_is_not_promoted_unless_all_conditions_hold(retrained: Retrained) -> None:
    assert retrained.result["unmet"] == ["recall > 2 * old.recall + 1"]
    assert "does not hold" in retrain.render(retrained.result)


def test_without_new_data_nothing_is_done(retrained: Retrained) -> None:
    place = Place.at(retrained.directory / "registry")
    before = open_registry(place).log.head
    again = retrain.run(retrained.options)
    assert again["state"] == "nothing_new"
    assert "Nothing was done" in retrain.render(again)
    assert open_registry(place).log.head == before


def test_labels_of_young_rows_are_no_new_data(
    retrained: Retrained, world: Path, tmp_path: Path
) -> None:
    newest = pc.max(pq.read_table(world / "labels.parquet")["labelled_at"])

    def another_young_fraud(labels: pa.Table) -> pa.Table:
        archive = pq.read_table(world / "archive.parquet")
        young = archive["TRANSACTION_ID"][-1].as_py()
        one = pa.table({"transaction_id": [str(young)], "label": [1], "labelled_at": [newest]})
        return pa.concat_tables([labels, one.cast(labels.schema)])

    file = changed_labels(world, tmp_path / "more.parquet", another_young_fraud)
    again = retrain.run(replace(retrained.options, labels=file))
    assert again["state"] == "nothing_new"
    assert again["data_sha256"] == retrained.result["data_sha256"]


def test_frauds_of_the_audit_weigh_what_they_stand_for(
    options: RetrainOptions, world: Path, tmp_path: Path
) -> None:
    def half_audited(labels: pa.Table) -> pa.Table:
        seen = np.where(np.arange(len(labels)) % 2, 1.0, 0.1)
        return labels.append_column("probability", pa.array(seen))

    file = changed_labels(world, tmp_path / "seen.parquet", half_audited)
    conditions = ("traffic_recall >= 0", "flags_per_day < 1000")
    result: dict[str, Any] = retrain.run(
        replace(options, labels=file, register="compared", promote_if=conditions)
    )
    frauds = result["frauds"]
    count = frauds["learned"] + frauds["compared"]
    assert frauds["audited"] == pytest.approx(count / 2, abs=8)
    assert frauds["weighted"] == pytest.approx(count - frauds["audited"] + 10 * frauds["audited"])
    # 95 % of labels come within 4 * exp(0.5 * 1.645) days.
    assert 7 <= result["label_maturity_days"] <= 12
    assert result["state"] == "promoted"
    registry = open_registry(Place.at(tmp_path / "registry"))
    assert registry.standing.champion == result["challenger"]
    evidence = registry.log.entries[-1].evidence
    assert evidence is not None
    assert evidence["promote_if"] == list(conditions)
    assert result["figures"]["old.traffic_recall"] is not None
    assert "by the audit" in retrain.render(result)
    # Rows are counted once.
    assert open_bundle(str(tmp_path / "out/compared")).manifest.metrics["rows"] < 5_000


def test_labels_of_a_database_and_younger_rows(
    options: RetrainOptions, world: Path, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/labels.db"
    label_commands.run_import(
        ImportLabelsOptions(
            files=(str(world / "labels.parquet"),),
            database=database,
            who="bank",
            columns=("event_time=labelled_at",),
        )
    )
    weighted = replace(options, labels=None, register="weighted")
    result: dict[str, Any] = retrain.run(replace(weighted, database=database))
    assert result["state"] == "registered"
    challenger = open_bundle(str(tmp_path / "out/challenger"))
    assert challenger.manifest.trained_on is not None
    assert challenger.manifest.trained_on[1] > result["mature_until"]
    # The copy of the labels gives the same.
    from_file = retrain.run(replace(weighted, labels=str(tmp_path / "out/labels.parquet")))
    assert from_file["state"] == "nothing_new"
    with fails(Code.OPTION_CONFLICT, "--database", UsageError):
        retrain.run(replace(options, database=database))


def test_what_cannot_be_done_is_said(options: RetrainOptions, world: Path, tmp_path: Path) -> None:
    def without_times(labels: pa.Table) -> pa.Table:
        return labels.drop_columns(["labelled_at"])

    file = changed_labels(world, tmp_path / "timeless.parquet", without_times)
    with fails(Code.LABELS_NEEDED, "--label-maturity"):
        retrain.run(replace(options, labels=file))
    with fails(Code.RULE_CONDITION, "--promote-if", UsageError):
        retrain.run(replace(options, promote_if=("recal > 0",)))
    with fails(Code.RULE_CONDITION, "--fail-if", UsageError):
        retrain.run(replace(options, fail_if=("recal > 0",)))
    with fails(Code.URL_UNUSABLE, "--registry", UsageError):
        retrain.run(replace(options, registry="gs://bucket/registry"))
    with fails(Code.REGISTRY_MISSING):
        retrain.run(replace(options, registry=str(tmp_path / "none")))
    with fails(Code.PLACE_SHARED, "--out", UsageError):
        retrain.run(replace(options, files=(str(tmp_path),)))
    # All that is mature was learned by the champion.
    late = retrain.run(replace(options, label_maturity="70d"))
    assert late["state"] == "nothing_new"
    assert "champion was fitted" in str(late["reason"])
