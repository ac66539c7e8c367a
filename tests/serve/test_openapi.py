"""The OpenAPI document is valid, and its example is a transaction of every schema."""

import json

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from beam_fraud.schema.presets import PRESETS
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


@pytest.mark.parametrize("secured", [True, False])
@pytest.mark.parametrize("name", ["handbook", "ieee_cis"])
def test_the_document_is_valid_openapi(name: str, secured: bool) -> None:
    api = Api(PRESETS[name].with_ids(), "known", "model@0", ("amount", "is_night"))
    made = document(api, Limits(), secured=secured)
    OpenAPIV31SpecValidator(json.loads(json.dumps(made))).validate()
    assert made["paths"]["/healthz"]["get"]["security"] == []
    assert bool(made["security"]) is secured
