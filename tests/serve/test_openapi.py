"""The OpenAPI document is valid, and its example is a transaction of every schema."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.toml import load_schema
from beam_fraud.serve.http.json_schema import Typical, transaction_schema
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.openapi import Api, document
from tests.serve.stand_in import read


@pytest.mark.parametrize("name", PRESETS)
def test_the_example_of_a_schema_is_a_transaction_of_it(name: str) -> None:
    schema = PRESETS[name].with_ids()
    described = transaction_schema(schema, "ignored", Typical())
    good, dead = read(json.dumps(described["examples"][0]).encode(), schema)
    assert dead == []
    assert len(good) == 1


#: Times and ids of several columns, nested members, other notations, an envelope.
RICH = """
name = "rich"
[roles]
transaction_id = ["shop", "receipt"]
event_time = ["day", "clock"]
amount = "payment.total"
account_id = {{ column = "card.number", prefix = "C" }}
merchant_id = {{ column = "items[1].seller", missing = "allow" }}
[time]
format = "%d/%m/%Y %H.%M"
[amount]
decimal = ","
unit = "minor"
[source]
{unwrap}
[[feature]]
column = "items[0].weight"
decimal = ","
[[feature]]
column = "channel"
kind = "categorical"
[[velocity]]
key = "device"
windows = ["1d"]
aggregates = ["count"]
"""


@pytest.mark.parametrize("unwrap", ["", "debezium", "cloudevents"])
def test_the_example_follows_notations_paths_and_envelopes(unwrap: str, tmp_path: Path) -> None:
    setting = f'unwrap = "{unwrap}"' if unwrap else ""
    (tmp_path / "rich.toml").write_text(RICH.format(unwrap=setting))
    schema = load_schema(tmp_path / "rich.toml")
    typical = Typical({"items[0].weight": 2.5}, {"channel": ("chip", "online")})
    described = transaction_schema(schema, "ignored", typical)
    good, dead = read(json.dumps(described["examples"][0]).encode(), schema)
    assert dead == []
    assert good[0]["event_time"] == datetime(2026, 3, 14, 15, 9, tzinfo=UTC)
    assert (good[0]["amount"], good[0]["items[0].weight"]) == (49.9, 2.5)
    assert (good[0]["account_id"], good[0]["merchant_id"]) == ("A1001", "M2002")
    assert (good[0]["channel"], good[0]["device"]) == ("chip", "K3003")
    inner = {"debezium": "after", "cloudevents": "data"}.get(unwrap)
    record = described if inner is None else described["properties"][inner]
    parts = {"shop", "receipt", "day", "clock"}
    assert set(record["required"]) == parts | {"payment", "card", "items", "channel"}
    assert record["properties"]["card"]["required"] == ["number"]
    seller = record["properties"]["items"]["items"]["properties"]["seller"]
    assert "null" in seller["type"]


@pytest.mark.parametrize("secured", [True, False])
@pytest.mark.parametrize("name", ["handbook", "ieee_cis"])
def test_the_document_is_valid_openapi(name: str, secured: bool) -> None:
    api = Api(PRESETS[name].with_ids(), "known", "model@0", ("amount", "is_night"))
    made = document(api, Limits(), secured=secured)
    OpenAPIV31SpecValidator(json.loads(json.dumps(made))).validate()
    assert made["paths"]["/healthz"]["get"]["security"] == []
    assert bool(made["security"]) is secured
