"""The transforms for users' own pipelines."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import uuid4

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_stream
from apache_beam.utils.timestamp import Timestamp
from sklearn.dummy import DummyClassifier

import beam_fraud as bf
from beam_fraud.cli.commands import features, score
from beam_fraud.cli.options import FeaturesOptions, ScoreOptions
from beam_fraud.models.bundle import make_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.transforms.records import DeadLetter, ScoredTransaction, scored_rows
from tests.features.test_currencies import ROLES, WINDOWS
from tests.features.test_currencies import rows as in_currencies
from tests.records.test_conversion import RATES

Run = Callable[[Sequence[Any], beam.PTransform], tuple[list[Any], list[Any]]]

RULES = '[[rule]]\nname = "large"\nwhen = "amount > 150"\ndecision = "decline"\n'


@dataclass(frozen=True)
class Case:
    """Transactions, a model of the earlier ones, and the command's results for the later ones."""

    before: str
    today: pa.Table
    model: bf.Bundle
    rules: str
    #: What `beam-fraud score` gives, by id.
    scored: dict[str, ScoredTransaction]
    #: What `beam-fraud features` gives, by id.
    features: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp("score")
    rows = simulate(Simulation(days=50, accounts=60, merchants=60))
    cut = int(0.8 * len(rows))
    before, today = str(directory / "before.parquet"), str(directory / "today.parquet")
    pq.write_table(rows.slice(0, cut), before)
    pq.write_table(rows.slice(cut), today)
    rules = directory / "rules.toml"
    rules.write_text(RULES)
    model = bf.train(before, schema="handbook", settings={"trees": 20})
    model = model.save(directory / "bundle")
    read = {"files": (today,), "history": (before,)}
    out = str(directory / "scored")
    score.run(ScoreOptions(**read, model=model.path, rules=str(rules), out=out))
    batches = pq.read_table(f"{out}/scores").to_batches()
    scored = {row.transaction_id: row for batch in batches for row in scored_rows(batch)}
    out = str(directory / "computed")
    features.run(FeaturesOptions(**read, schema="handbook", out=out))
    table = pq.read_table(f"{out}/features").to_pylist()
    computed = {row["transaction_id"]: row for row in table}
    return Case(before, rows.slice(cut), model, str(rules), scored, computed)


def plain(roles: dict[str, str]) -> bf.Bundle:
    """A model without velocity features that flags everything."""
    model = DummyClassifier(strategy="prior").fit(np.zeros((2, 1)), [0, 1])
    schema = bf.Schema(name="plain", roles=roles, calendar=False)
    manifest = Manifest(
        name="all",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("amount",),
        schema=schema.to_dict(),
        thresholds=Thresholds(0.0),
    )
    return make_bundle(model, manifest, Reference(), "# card")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return both outputs of a transform on some records."""

    def on_records(records: Sequence[Any], step: beam.PTransform) -> tuple[list[Any], list[Any]]:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            main, dead = pipeline | beam.Create(records) | step
            main | "Main" >> beam.ParDo(Keep(tmp_path / "main"))
            dead | "Dead" >> beam.ParDo(Keep(tmp_path / "dead"))
        return kept(tmp_path / "main"), kept(tmp_path / "dead")

    return on_records


class Keep(beam.DoFn):
    """Writes each element to its own file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def process(self, element: Any) -> None:
        self._directory.joinpath(uuid4().hex).write_bytes(pickle.dumps(element))


def kept(directory: Path) -> list[Any]:
    """Return the elements that `Keep` wrote, in any order."""
    return [pickle.loads(path.read_bytes()) for path in directory.iterdir()]


def as_dicts(table: pa.Table) -> list[Any]:
    return table.to_pylist()


def as_rows(table: pa.Table) -> list[Any]:
    rows = table.to_pylist()
    for row in rows:
        at = row["TX_DATETIME"].replace(tzinfo=UTC)
        row["TX_DATETIME"] = Timestamp.from_utc_datetime(at)
    return [beam.Row(**row) for row in rows]


def as_json(table: pa.Table) -> list[Any]:
    return [json.dumps(row, default=str) for row in table.to_pylist()]


def as_pandas(table: pa.Table) -> list[Any]:
    return table.to_pandas().to_dict("records")


def as_batches(table: pa.Table) -> list[Any]:
    return table.to_batches(100)


@pytest.mark.parametrize("records", [as_dicts, as_rows, as_json, as_pandas, as_batches])
def test_scores_are_those_of_the_command_bit_for_bit(case: Case, records: Any, run: Run) -> None:
    step = bf.Score(case.model, rules=case.rules, history=[case.before])
    scored, dead = run(records(case.today), step)
    assert {row.transaction_id: row for row in scored} == case.scored
    assert len(scored) == len(case.scored)
    assert any(row.reasons for row in scored)
    assert any(row.rules == ["large"] for row in scored)
    assert dead == []


def test_batches_are_emitted_on_request(case: Case, run: Run) -> None:
    step = bf.Score(case.model.path, rules=case.rules, history=[case.before], output="batches")
    bad = {"TRANSACTION_ID": "x", "TX_AMOUNT": "a lot"}
    scored, dead = run([*as_dicts(case.today), bad], step)
    rows = [row for batch in scored for row in scored_rows(batch)]
    assert {row.transaction_id: row for row in rows} == case.scored
    assert [batch.num_rows for batch in dead] == [1]


def test_a_bad_record_costs_only_itself(case: Case, run: Run) -> None:
    bad = [
        {"TRANSACTION_ID": "none"},
        {**as_dicts(case.today)[0], "TRANSACTION_ID": "a", "TX_AMOUNT": "a lot"},
        "{",
    ]
    step = bf.Score(case.model, rules=case.rules, history=[case.before])
    scored, dead = run([*bad, *as_dicts(case.today)], step)
    assert {row.transaction_id: row for row in scored} == case.scored
    assert len(scored) + len(dead) == len(case.today) + len(bad)
    assert all(isinstance(letter, DeadLetter) for letter in dead)
    assert sorted(letter.reason for letter in dead) == ["malformed", "missing_time", "wrong_type"]
    [wrong] = [letter for letter in dead if letter.reason == "wrong_type"]
    assert json.loads(wrong.payload)["TX_AMOUNT"] == "a lot"


def test_features_are_those_of_the_command_bit_for_bit(case: Case, run: Run) -> None:
    step = bf.ComputeFeatures("handbook", history=[case.before])
    computed, dead = run(as_dicts(case.today), step)
    frame = pd.DataFrame([row.as_dict() for row in computed]).set_index("transaction_id")
    expected = pd.DataFrame(list(case.features.values())).set_index("transaction_id")
    pd.testing.assert_frame_equal(frame.sort_index(), expected.sort_index(), check_exact=True)
    assert dead == []


@pytest.mark.filterwarnings("ignore:velocity features look back")
@pytest.mark.parametrize("setting", ["", '[currency]\nto = "EUR"\nrates = "rates.csv"\n'])
def test_amounts_of_currencies_are_those_of_the_public_functions(
    tmp_path: Path, run: Run, setting: str
) -> None:
    (tmp_path / "rates.csv").write_text(RATES)
    path = tmp_path / "bank.toml"
    path.write_text(ROLES + setting + WINDOWS)
    table = in_currencies(200)
    computed, dead = run(table.to_pylist(), bf.ComputeFeatures(path))
    frame = pd.DataFrame([row.as_dict() for row in computed]).set_index("transaction_id")
    expected = bf.features(table.to_pandas(), path).set_index("transaction_id")
    pd.testing.assert_frame_equal(frame.loc[expected.index], expected, check_exact=True)
    assert dead == []


def test_transactions_of_one_moment_come_in_the_order_of_their_numbers(run: Run) -> None:
    at = "2024-01-01T00:00:00Z"
    ids = ["100", "9", "20"]
    rows = [{"id": id, "at": at, "card": "c", "value": 1} for id in ids]
    schema = bf.Schema(
        "ties",
        {"transaction_id": "id", "event_time": "at", "account_id": "card", "amount": "value"},
        velocity=(bf.Velocity(("account_id",), ("1d",), ("count",)),),
    )
    computed, _ = run(rows, bf.ComputeFeatures(schema))
    counts = {row.transaction_id: row.account_count_1d for row in computed}
    assert sorted(ids, key=lambda id: counts[id]) == ["9", "20", "100"]


def test_transactions_are_validated(case: Case, run: Run) -> None:
    parsed, dead = run([*as_dicts(case.today.slice(0, 3)), {}], bf.ParseTransactions("handbook"))
    first = case.today.slice(0, 1).to_pylist()[0]
    [row] = [row for row in parsed if row.transaction_id == str(first["TRANSACTION_ID"])]
    assert row.event_time.to_utc_datetime() == first["TX_DATETIME"]
    assert (row.account_id, row.amount) == (str(first["CUSTOMER_ID"]), first["TX_AMOUNT"])
    assert (len(parsed), len(dead)) == (3, 1)


def test_ids_come_from_the_record_where_a_schema_has_none(run: Run) -> None:
    model = plain({"event_time": "t", "amount": "a"})
    rows = [{"t": "2024-01-01", "a": 2, "transaction_id": "x"}, {"t": "2024-01-01", "a": 2}]
    scored, dead = run(rows, bf.Score(model))
    assert [row.transaction_id for row in scored] == ["x"]
    assert [letter.reason for letter in dead] == ["missing_id"]


def test_unbounded_collections_are_scored_without_velocity_features(tmp_path: Path) -> None:
    model = plain({"transaction_id": "id", "event_time": "t", "amount": "a"})
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        records = pipeline | beam.Create([{"id": "x", "t": "2024-01-01", "a": 2}])
        # As a broker's are; the local runner takes sources without end in its own way alone.
        records.is_bounded = False
        scored, _ = records | bf.Score(model)
        scored | beam.ParDo(Keep(tmp_path / "main"))
    assert [row.transaction_id for row in kept(tmp_path / "main")] == ["x"]


def test_velocity_features_of_unbounded_collections_are_refused(case: Case) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    endless = pipeline | test_stream.TestStream()
    with pytest.raises(bf.UsageError, match=r"unbounded.*beam-fraud stream"):
        endless | bf.Score(case.model)
    windows = beam.WindowInto(beam.window.FixedWindows(60))
    windowed = pipeline | beam.Create([{}]) | windows
    with pytest.raises(bf.UsageError, match=r"windowed.*global window"):
        windowed | "Windowed" >> bf.Score(case.model)
    with pytest.raises(bf.UsageError, match="SendAlerts: the collection is unbounded"):
        endless | bf.SendAlerts(["console:"], "sqlite:///alerts.db")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda c: bf.Score(c.model, output="dicts"), "output='dicts'"),
        (lambda c: bf.Score(c.model, reasons=-1), "reasons=-1"),
        (lambda c: bf.Score("no/bundle"), "not a model bundle"),
        (lambda c: bf.Score(c.model, history=["no/file.parquet"]), "no/file.parquet"),
        (lambda c: bf.WriteFlagged("parquet:flagged"), "is no database"),
        (lambda c: bf.SendAlerts(["console:"], "parquet:flagged"), "is no database"),
        (lambda c: bf.SendAlerts(["pigeon:"], "sqlite:///alerts.db"), "pigeon"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(case: Case, wrong: Any, error: str) -> None:
    records = beam.Pipeline(runner=FnApiRunner()) | beam.Create([{}])
    with pytest.raises(bf.FraudError, match=error):
        records | wrong(case)


def test_flagged_rows_and_their_alerts_are_written_once(case: Case, tmp_path: Path) -> None:
    flagged = {id for id, row in case.scored.items() if row.flagged}
    assert 0 < len(flagged) < len(case.scored)
    database, alerts = tmp_path / "flagged.db", tmp_path / "alerts.jsonl"
    table = pa.Table.from_pylist(as_dicts(case.today))
    for records in (as_dicts(table), as_batches(table)):
        output = "rows" if isinstance(records[0], dict) else "batches"
        step = bf.Score(case.model, rules=case.rules, history=[case.before], output=output)
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            result = pipeline | beam.Create(records) | step
            result.scored | bf.WriteFlagged(f"sqlite:///{database}")
            outbox = f"sqlite:///{tmp_path / 'outbox.db'}"
            result.scored | bf.SendAlerts([f"file:{alerts}"], outbox, model=case.model)
    with closing(sqlite3.connect(database)) as connection:
        actual = connection.execute("SELECT transaction_id, score FROM flagged_transactions")
        written = dict(actual.fetchall())
    assert written == {id: case.scored[id].score for id in flagged}
    sent = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert len(sent) == len(flagged)
