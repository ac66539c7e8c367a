"""Parsing of durations."""

import pytest

from beam_fraud.errors import UsageError
from beam_fraud.schema.duration import microseconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0d", 0), ("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert microseconds(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "01d", "1 d", "1D", "1y", "\u0661d"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        microseconds(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 17 + "s", "9" * 5000 + "s"])
def test_a_century_is_the_longest(text: str) -> None:
    assert microseconds("36500d") > 0
    with pytest.raises(UsageError, match="longer than 100 years"):
        microseconds(text)
