"""Valid and invalid schemas."""

import pyarrow as pa
import pytest

from beam_fraud.errors import UsageError
from beam_fraud.features.matrix import FEATURES
from beam_fraud.schema.presets import HANDBOOK, LEDGER, ULB
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import APPENDED, DETAIL, PAYLOAD, POSITION, REASON, SOURCE
from beam_fraud.transforms.order import ORDER
from beam_fraud.transforms.stateful import _ROW
from tests.reading import BANK

#: Names that steps of the graph give to columns of their own.
INTERNAL = (POSITION, PAYLOAD, APPENDED, SOURCE, REASON, DETAIL, ORDER, FEATURES, _ROW)
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
    ("roles", "features", "message"),
    [
        ({"amount": "a"}, (), "'event_time'"),
        ({**ROLES, "amonut": "b"}, (), "unknown role 'amonut'"),
        (ROLES, ("x", "x"), "'x' is listed twice"),
        (ROLES, ("score",), "'score' is a name of the output"),
        *((ROLES, (name,), "cannot be the name of a column") for name in INTERNAL),
        (ROLES, ('a"b',), "cannot be the name of a column"),
        ({**ROLES, "label": "x\ny"}, (), "cannot be the name of a column"),
        ({**ROLES, "event_time": "event_time"}, ("event_time",), "'event_time' is a role"),
        ({**ROLES, "currency": "currency"}, ("currency",), "'currency' is a role"),
    ],
)
def test_invalid_values_are_refused(roles: dict, features: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        Schema("s", roles, tuple(FeatureColumn(name) for name in features))
    assert "\n" not in str(refused.value)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="Mars/Base"):
        Schema("s", ROLES, timezone="Mars/Base")


def test_a_dictionary_of_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match="not one of this version's"):
        Schema.from_dict({**ULB.to_dict(), "speed": []})


def test_a_dictionary_from_before_velocity_features_has_none() -> None:
    values = ULB.to_dict()
    del values["velocity"]
    assert Schema.from_dict(values) == ULB


def test_the_handbooks_features() -> None:
    names = [name for spec in HANDBOOK.velocity for name in spec.names]
    assert len(names) == 12
    assert {"account_mean_1d", "merchant_risk_30d_delay_7d"} <= set(names)


COUNT = Velocity(("account_id",), ("1d",), ("count",))
SHOPS = Velocity(("account_id",), ("1d",), ("distinct_merchant",))


@pytest.mark.parametrize(
    ("roles", "features", "velocity", "message"),
    [
        ({}, (), (COUNT,), "'account_id' cannot be a key; no role"),
        ({"account_id": "card"}, (), (SHOPS,), "needs a column for 'merchant_id'"),
        ({"account_id": "card"}, (), (COUNT, COUNT), "'account_count_1d' already"),
        ({"account_id": "card"}, ("account_count_1d",), (COUNT,), "'account_count_1d' already"),
        ({"merchant_id": "m"}, (), (Velocity(("m",), ("1d",), ("count",)),), "write 'merchant_id'"),
        ({"merchant_id": "m"}, (), (Velocity(("merchnt_id",), ("1d",), ("sum",)),), "did you mean"),
        ({}, ("age",), (Velocity(("age",), ("1d",), ("sum",)),), "'age' is a numeric feature"),
        ({}, (), (Velocity(("amount",), ("1d",), ("sum",)),), "'amount' cannot be a key"),
    ],
)
def test_invalid_velocity_is_refused(
    roles: dict, features: tuple, velocity: tuple, message: str
) -> None:
    columns = tuple(FeatureColumn(name) for name in features)
    with pytest.raises(UsageError, match=message) as refused:
        Schema("s", {**ROLES, **roles}, columns, velocity=velocity)
    assert "\n" not in str(refused.value)


def test_a_categorical_feature_can_be_a_key() -> None:
    spec = Velocity(("account_id", "mcc"), ("1d",), ("count",))
    roles = {**ROLES, "account_id": "card"}
    schema = Schema("s", roles, (FeatureColumn("mcc", "categorical"),), velocity=(spec,))
    assert schema.velocity[0].names == ("account_mcc_count_1d",)


def test_any_column_can_be_a_key_without_being_a_feature() -> None:
    velocity = (Velocity(("device",), ("1d",), ("count",)),)
    schema = Schema("s", {"event_time": "t", "amount": "a"}, velocity=velocity)
    assert schema.key_columns == ("device",)
    assert schema.columns(labels="ignored") == ("t", "a", "device")
    assert schema.transactions(labels="ignored").field("device").type == pa.string()
    assert schema.features == ()


@pytest.mark.parametrize("name", INTERNAL)
def test_a_role_or_key_of_an_internal_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a column"):
        Schema("s", {**ROLES, "account_id": name})
    with pytest.raises(UsageError, match="cannot be a key"):
        Schema("s", ROLES, velocity=(Velocity((name,), ("1d",), ("count",)),))


def test_a_column_that_only_begins_like_an_internal_one_is_read() -> None:
    assert Schema("s", {"event_time": "@timestamp", "amount": "a"}).role("event_time")
