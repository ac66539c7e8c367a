"""Valid and invalid velocity definitions."""

import pytest

from beam_fraud.errors import UsageError
from beam_fraud.schema.velocity import Velocity
from tests.velocity_reference import DAY, HOUR


def test_names_say_key_aggregate_window_and_delay() -> None:
    spec = Velocity(("account_id",), ("1h", "7d"), ("count", "seconds_since_last", "ratio"))
    assert spec.names == (
        *("account_count_1h", "account_seconds_since_last", "account_ratio_1h"),
        *("account_count_7d", "account_ratio_7d"),
    )
    both = Velocity(("account_id", "merchant_id"), ("30d",), ("distinct_merchant",), "2h")
    assert both.names == ("account_merchant_distinct_merchant_30d_delay_2h",)
    assert Velocity(("mcc",), ("30d",), ("std",), "0h").names == ("mcc_std_30d",)


def test_the_horizon_is_the_longest_window_and_the_delay() -> None:
    assert Velocity(("mcc",), ("1d", "2w", "1h"), ("sum",), "3h").horizon == 14 * DAY + 3 * HOUR


def test_a_definition_survives_the_manifest() -> None:
    spec = Velocity(("merchant_id",), ("1d", "7d"), ("count", "risk"), delay="7d")
    assert Velocity.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("values", [{"key": ["a"]}, {"speed": 1}, {"key": 1, "windows": 2}])
def test_a_definition_of_another_version_is_refused(values: dict) -> None:
    with pytest.raises(UsageError, match="not one of this version's"):
        Velocity.from_dict(values)


@pytest.mark.parametrize(
    ("key", "windows", "aggregates", "delay", "message"),
    [
        ((), ("1d",), ("count",), "0d", "key must not be empty"),
        (("a",), (), ("count",), "0d", "windows must not be empty"),
        (("a",), ("1d",), (), "0d", "aggregates must not be empty"),
        (("a", "a"), ("1d",), ("count",), "0d", "key has 'a' twice"),
        (("a",), ("1d", "24h"), ("count",), "0d", "two windows are equally long"),
        (("a",), ("0d",), ("count",), "0d", "longer than 0"),
        (("a",), ("1y",), ("count",), "0d", "velocity of a: '1y' is not a duration"),
        (("a",), ("1d",), ("count",), "soon", "'soon' is not a duration"),
        (("a",), ("1d",), ("cuont",), "0d", "did you mean 'count'"),
        (("a",), ("1d",), ("xyz",), "0d", "known: count, sum"),
        (("a",), ("1d",), ("risk",), "0h", "risk needs a delay"),
    ],
)
def test_invalid_values_are_refused(
    key: tuple, windows: tuple, aggregates: tuple, delay: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        Velocity(key, windows, aggregates, delay)
    assert "\n" not in str(refused.value)
