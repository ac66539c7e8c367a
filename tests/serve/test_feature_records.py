"""A model without windows is asked by its features, as by the usual tutorials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import beam_fraud as bf
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.presets import HANDBOOK, ULB
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.feature_records import FeatureRecords
from beam_fraud.serve.group import TIMEOUT
from beam_fraud.serve.http.json_schema import Typical
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.openapi import Api, document
from beam_fraud.serve.predictions import Call
from tests.serve.conftest import Served
from tests.serve.running import Running
from tests.serving import Client, Serve

#: Ids, calendar features and a category, without windows.
SHOP = Schema(
    name="shop",
    roles={
        "transaction_id": "order",
        "event_time": "at",
        "account_id": "buyer",
        "amount": "total",
        "label": "fraud",
    },
    features=(FeatureColumn("items"), FeatureColumn("country", "categorical", "allow")),
)
ROWS = 1500


@dataclass(frozen=True)
class Model:
    """A model, and later rows."""

    bundle: Path
    rows: pa.Table

    @property
    def records(self) -> list[dict[str, object]]:
        """The rows without labels."""
        rows: list[dict[str, object]] = self.rows.to_pylist()
        return rows

    def scored(self) -> pa.Table:
        table = bf.score(self.rows, str(self.bundle))
        assert isinstance(table, pa.Table)
        return table


def trained(rows: dict[str, object], schema: Schema, label: str, directory: Path) -> Model:
    table = pa.table(rows)
    settings = {"trees": 10}
    model = bf.train(table, schema=schema, model="hist_gradient_boosting", settings=settings)
    model.save(str(directory / "model"))
    return Model(directory / "model", table.slice(ROWS - 30).drop_columns([label]))


@pytest.fixture(scope="module")
def ulb(tmp_path_factory: pytest.TempPathFactory) -> Model:
    draw = np.random.default_rng(0)
    fraud = draw.random(ROWS) < 0.05
    columns = {f"V{i}": draw.normal(size=ROWS) + (i < 4) * 2 * fraud for i in range(1, 29)}
    amount = draw.lognormal(3, 1, ROWS).round(2)
    rows = {"Time": np.arange(ROWS, dtype=float), **columns, "Amount": amount}
    return trained({**rows, "Class": fraud.astype(int)}, ULB, "Class", tmp_path_factory.mktemp("u"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Model:
    draw = np.random.default_rng(0)
    fraud = draw.random(ROWS) < 0.1
    at = np.datetime64("2024-03-01T00:00:00") + 1800 * np.arange(ROWS).astype("timedelta64[s]")
    rows = {
        "order": [f"o{i}" for i in range(ROWS)],
        "at": at.astype("datetime64[us]"),
        "buyer": draw.integers(50, size=ROWS).astype(str),
        "total": draw.lognormal(3 + fraud, 1, ROWS).round(2),
        "items": draw.integers(1, 9, ROWS) + 3.0 * fraud,
        "country": draw.choice(["BE", "NL", "FR"], ROWS),
        "fraud": fraud.astype(int),
    }
    return trained(rows, SHOP, "fraud", tmp_path_factory.mktemp("s"))


@pytest.fixture
def engine(shop: Model, tmp_path: Path) -> Iterator[Engine]:
    engine = Running(Served(str(shop.bundle), "", "", (), ""), tmp_path).engine()
    yield engine
    engine.state.close(1.0)


def features_of(model: Model) -> list[dict[str, object]]:
    """Return the rows as records of features, without ids and times."""
    table = bf.features(model.rows, SHOP)
    assert isinstance(table, pa.Table)
    rows: list[dict[str, object]] = table.drop_columns(["transaction_id"]).to_pylist()
    return rows


def test_the_body_of_the_tutorials_is_answered(ulb: Model, tmp_path: Path) -> None:
    scored = ulb.scored().to_pylist()
    with Serve(ulb.bundle, tmp_path / "state") as server, Client(server.port) as client:
        for record, expected in list(zip(ulb.records, scored, strict=True))[:5]:
            as_feature = {n: v for n, v in record.items() if n != "Amount"}
            as_feature["amount"] = record["Amount"]
            for body in (record, as_feature):
                status, answer, _ = client.post(json.dumps(body).encode())
                assert status == 200, answer
                said = json.loads(answer)
                assert said["score"] == expected["score"]
                assert said["decision"] == expected["decision"]
                assert said["transaction_id"]
        incomplete = {"Time": 1.0, "V1": 0.5, "amount": 3.0}
        status, answer, _ = client.post(json.dumps(incomplete).encode())
        assert (status, json.loads(answer)["field"]) == (422, "V2")
        described = json.loads(client.get("/openapi.json")[1])
        example = described["components"]["schemas"]["Features"]["examples"][0]
        assert client.post(json.dumps(example).encode())[0] == 200
        server.stop()
    # Recorded: the time of such a transaction is a feature.
    assert pq.read_table(tmp_path / "state/scores").num_rows == 11


def test_features_alone_are_scored_as_transactions_are(shop: Model, engine: Engine) -> None:
    expected = shop.scored()
    records = [json.dumps(record).encode() for record in features_of(shop)]
    for group in (engine.record(records, features=True), engine.peek(records, features=True)):
        assert group.answered.rows.column("score").equals(expected.column("score").combine_chunks())
        assert group.answered.features is not None
        assert group.answered.features.dicts()[0].keys() == features_of(shop)[0].keys()
        assert len(group.new) == 0
        answers = json.loads(group.answered.json(array=True))
        assert {answer["transaction_id"] for answer in answers} == {None}
        assert [a["decision"] for a in answers] == expected.column("decision").to_pylist()
        flagged = [answer for answer in answers if answer["flagged"]]
        assert flagged
        assert all(answer["reasons"] for answer in flagged)


def test_transactions_and_features_share_an_array(shop: Model, engine: Engine) -> None:
    own = features_of(shop)
    transaction = json.loads(json.dumps(shop.records[1], default=str))
    without_time = {n: v for n, v in transaction.items() if n != "at"}
    records = [own[0], transaction, {**own[2], "is_night": "often"}, without_time, own[4], {}]
    body = [json.dumps(record).encode() for record in records]
    late = np.array([False, True, False, False, False, False])
    group = engine.record(body, late)
    engine.state.commit()
    answers = json.loads(group.answered.json(array=True))
    scores = shop.scored().column("score").to_pylist()
    assert [answer.get("score") for answer in answers] == [
        *(scores[0], scores[1], None, None, scores[4], None)
    ]
    assert group.new_places.tolist() == [1]
    assert answers[1]["degraded"] == TIMEOUT
    errors = [answer["error"]["field"] for answer in answers if "error" in answer]
    assert errors == ["is_night", "at", "order"]
    # What has an id is a transaction: it comes again with its answer, and is in the archive.
    again = json.loads(engine.record(body[1::-1]).answered.json(array=True))
    assert again == [answers[1], {**again[1], "transaction_id": None}]


def test_a_late_answer_to_features_is_the_default(shop: Model, engine: Engine) -> None:
    (cheap, dear) = ({**features_of(shop)[0], "amount": amount} for amount in (5, 500))
    call = Call([json.dumps(record).encode() for record in (cheap, dear)])
    answers = json.loads(engine.fallbacks(call, TIMEOUT).json(array=True))
    assert [answer["decision"] for answer in answers] == ["approve", "review"]
    assert [answer["transaction_id"] for answer in answers] == [None, None]


def test_the_documents_describe_both(shop: Model) -> None:
    known = {"country": ("BE", "FR", "NL")}
    features = FeatureSet(SHOP, known)
    records = FeatureRecords(features)
    api = Api(SHOP, "ignored", "m@0", features.names, Typical({}, known), records)
    made = document(api, Limits(), secured=False)
    OpenAPIV31SpecValidator(json.loads(json.dumps(made))).validate()
    described = made["components"]["schemas"]["Features"]
    assert described["required"] == ["items", "amount", "is_weekend", "is_night"]
    assert described["examples"][0]["country"] == "BE"


def test_models_of_other_rows_and_rules_need_transactions() -> None:
    assert FeatureRecords.of(FeatureSet(HANDBOOK), None) is None
    assert FeatureRecords.of(FeatureSet(SHOP), RuleSet(())) is None
    assert FeatureRecords.of(FeatureSet(SHOP), None) is not None


def test_ids_that_servers_give_are_those_of_no_other(ulb: Model, tmp_path: Path) -> None:
    """A database has one row for an id."""
    record, ids = json.dumps(ulb.records[0]).encode(), []
    for state in ("one", "two", "one"):
        engine = Running(Served(str(ulb.bundle), "", "", (), ""), tmp_path / state).engine()
        ids += engine.record([record]).new.column("transaction_id").to_pylist()
        engine.state.commit()
        engine.state.close(1.0)
    first, _, third = (name.split(":") for name in ids)
    assert len(set(ids)) == 3
    assert first[0] == third[0]
    assert (first[1], third[1]) == ("0", "1")
