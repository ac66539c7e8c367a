"""Schemas in TOML files."""

from pathlib import Path

import pytest

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.schema.toml import load_schema, schema_from_toml
from beam_fraud.schema.velocity import Velocity

BANK = """
name = "mybank"
timezone = "Europe/Brussels"
[roles]
event_time = "booked_at"
amount = "sum"
account_id = "card"
[amount]
allow_negative = true
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
[[feature]]
column = "age"
[[velocity]]
key = "account_id"
windows = ["1h", "7d"]
aggregates = ["count", "mean"]
[[velocity]]
key = ["account_id", "mcc"]
windows = ["1d"]
aggregates = ["risk"]
delay = "3d"
"""


def test_a_file_defines_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "bank.toml"
    path.write_text(BANK)
    schema = load_schema(str(path))
    assert (schema.name, schema.timezone, schema.allow_negative) == (
        *("mybank", "Europe/Brussels"),
        True,
    )
    assert schema.roles == {"event_time": "booked_at", "amount": "sum", "account_id": "card"}
    assert schema.features == (FeatureColumn("mcc", "categorical", "allow"), FeatureColumn("age"))
    assert schema.velocity == (
        Velocity(("account_id",), ("1h", "7d"), ("count", "mean")),
        Velocity(("account_id", "mcc"), ("1d",), ("risk",), "3d"),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_loaded_by_name(name: str) -> None:
    assert load_schema(name) is PRESETS[name]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name =", "nmae =", "did you mean 'name'"),
        ('"mybank"', "7", "name must be text"),
        ('"sum"', "1", "amount must be the name of a column"),
        ("true", '"yes"', "allow_negative must be true or false"),
        ("categorical", "text", "kind must be one of numeric, categorical"),
        ('"allow"', "[]", "missing must be one of"),
        ('column = "age"', "", "column is missing"),
        ('[[feature]]\ncolumn = "age"', "[roles]", "not TOML"),
        ("[amount]\nallow_negative = true", "[amuont]", "did you mean 'amount'"),
        ("Brussels", "Bruxelles", "unknown timezone"),
        ('aggregates = ["r', 'agregates = ["r', "did you mean 'aggregates'"),
        ('windows = ["1d"]\n', "", r"account_id_mcc: windows is missing \(as in"),
        ('"3d"', "3", r"account_id_mcc: delay must be text"),
        ('"3d"', '"3"', r"bank.toml: \[\[velocity\]\] account_id_mcc: '3' is not a duration"),
        ('["risk"]', '["rsik"]', "unknown aggregate 'rsik', did you mean 'risk'"),
        ('["account_id", "mcc"]', "[1]", "key must be as in key ="),
        (
            'key = "account_id"\n',
            'key = "card"\n',
            "'card' has a role; write 'account_id'",
        ),
        ("[[velocity]]", "[velocity]", "not TOML"),
    ],
)
def test_mistakes_are_one_line(old: str, new: str, message: str) -> None:
    assert old in BANK
    with pytest.raises(UsageError, match=message) as refused:
        schema_from_toml(BANK.replace(old, new), where="bank.toml")
    assert "\n" not in str(refused.value)


def test_neither_a_preset_nor_a_file() -> None:
    with pytest.raises(UsageError, match="neither a preset"):
        load_schema("handbok")


def test_a_name_that_is_too_long_for_a_file_is_an_error_of_one_line() -> None:
    with pytest.raises(FraudError, match="File name too long"):
        load_schema("x" * 300)
