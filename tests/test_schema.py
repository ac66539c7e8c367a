"""What a schema may say."""

import pytest

from beam_fraud.errors import UsageError
from beam_fraud.presets import HANDBOOK, LEDGER, ULB
from beam_fraud.schema import FeatureColumn, Schema
from tests.reading import BANK

ROLES = {"event_time": "t", "amount": "a"}


@pytest.mark.parametrize("schema", [ULB, HANDBOOK, LEDGER, BANK])
def test_a_schema_survives_the_manifest(schema: Schema) -> None:
    assert Schema.from_dict(schema.to_dict()) == schema


def test_transactions_have_the_roles_then_the_features() -> None:
    assert BANK.transactions(labels="required").names == [
        *("transaction_id", "event_time", "account_id", "merchant_id", "amount", "currency"),
        *("label", "age", "mcc", "risk", "channel"),
    ]
    assert "label" not in BANK.transactions(labels="ignored").names
    assert "fraud" not in BANK.columns(labels="ignored")


@pytest.mark.parametrize(
    ("roles", "features", "said"),
    [
        ({"amount": "a"}, (), "'event_time'"),
        ({**ROLES, "amonut": "b"}, (), "unknown role 'amonut'"),
        (ROLES, ("x", "x"), "'x' is listed twice"),
        (ROLES, ("score",), "'score' is a name of the output"),
        (ROLES, ("@position",), "cannot be the name of a column"),
        (ROLES, ('a"b',), "cannot be the name of a column"),
        ({**ROLES, "label": "x\ny"}, (), "cannot be the name of a column"),
        ({**ROLES, "event_time": "event_time"}, ("event_time",), "'event_time' is a role"),
        ({**ROLES, "currency": "currency"}, ("currency",), "'currency' is a role"),
    ],
)
def test_what_cannot_be_meant_is_refused(roles: dict, features: tuple, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        Schema("s", roles, tuple(FeatureColumn(name) for name in features))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("field", [{"timezone": "Mars/Base"}, {"time_origin": "then"}])
def test_times_that_cannot_be_meant_are_refused(field: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(field.values()))):
        Schema("s", ROLES, **field)


def test_a_dictionary_of_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match="not one of this version's"):
        Schema.from_dict({**ULB.to_dict(), "velocity": []})
