"""Parsing of times."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.records.times import as_times
from beam_fraud.schema.notation import TimeNotation

NOON = int(datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("2024-02-29 12:00:00", NOON),
        ("2024-02-29T12:00:00Z", NOON),
        ("2024-02-29T12:00", NOON),
        ("2024-02-29T12", NOON),
        ("2024-02-29 12:00:00 UTC", NOON),
        ("2024-02-29 12:00:00UTC", NOON),
        ("2024-02-29T13:30:00+01:30", NOON),
        ("2024-02-29T07:00:00-0500", NOON),
        ("2024-02-29T13:00+01", NOON),
        ("  2024-02-29T12:00:00Z\t", NOON),
        ("2024-02-29T12:00:00.5", NOON + 500_000),
        ("2024-02-29T12:00:00.123456", NOON + 123_456),
        ("2024-02-29T12:00:00.123456789Z", NOON + 123_456),
        ("2024-02-29T13:00:00.1234567891234+01:00", NOON + 123_456),
        ("2024-02-29", NOON - 12 * 3_600_000_000),
        (str(NOON // 10**6), NOON),
        (str(NOON // 10**3), NOON),
        (str(NOON), NOON),
        (str(NOON * 1000), NOON),
        (f"{NOON // 10**6}.25", NOON + 250_000),
        ("1.709208e9", NOON),
    ],
)
def test_strings(written: str, micros: int) -> None:
    times = as_times(pa.array([written, None, "nonsense"]))
    assert times.micros.tolist() == [micros, 0, 0]
    assert times.absent.tolist() == [False, True, False]
    assert times.unreadable.tolist() == [False, False, True]


@pytest.mark.parametrize(
    "text", ["12:00", "29/02/2024", "2024-2-1", "2023-02-29", "2024-02-29T25:00", "0x10", "nan"]
)
def test_invalid_strings(text: str) -> None:
    assert as_times(pa.array([text])).unreadable.tolist() == [True]


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59Z", "2200-01-01", "9999-12-31", "-5", "1e30"])
def test_impossible_times(text: str) -> None:
    times = as_times(pa.array([text]))
    assert (times.impossible.tolist(), times.unreadable.tolist()) == ([True], [False])


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("type", [pa.int64(), pa.uint64(), pa.float64(), pa.decimal128(38, 2)])
def test_epoch_numbers_of_every_unit(unit: int, type: pa.DataType) -> None:
    seconds = NOON // 10**6
    assert as_times(pa.array([seconds * unit, None]).cast(type, safe=False)).micros.tolist() == [
        NOON,
        0,
    ]


def test_numbers_count_from_the_origin() -> None:
    origin = "2013-09-01T02:00:00+02:00"
    start = int(datetime(2013, 9, 1, tzinfo=UTC).timestamp()) * 10**6
    assert as_times(pa.array([0.0, 1.5]), TimeNotation(origin=origin)).micros.tolist() == [
        start,
        start + 1_500_000,
    ]
    assert as_times(
        pa.array(["0", "2024-02-29T12:00"]), TimeNotation(origin=origin)
    ).micros.tolist() == [start, NOON]


def test_timestamps_and_dates() -> None:
    moment = datetime(2024, 2, 29, 12)
    for type in (*(pa.timestamp(u) for u in ("s", "ms", "us", "ns")), pa.timestamp("us", "UTC")):
        assert as_times(pa.array([moment], type)).micros.tolist() == [NOON]
    for type in (pa.date32(), pa.date64()):
        assert as_times(pa.array([date(1970, 1, 2)], type)).micros.tolist() == [86_400_000_000]
    for extreme in (2**63 - 1, -(2**63)):
        for unit in ("s", "ms", "us"):
            ticks = pa.array([extreme], pa.int64()).cast(pa.timestamp(unit))
            assert as_times(ticks).impossible.tolist() == [True]


@settings(deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_times_that_python_writes_are_read(moment: datetime, offset: int, separator: str) -> None:
    micros = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    sign, minutes = ("-" if offset < 0 else "+"), abs(offset)
    zoned = f"{moment.isoformat(separator)}{sign}{minutes // 60:02}:{minutes % 60:02}"
    times = as_times(pa.array([moment.isoformat(separator), zoned]))
    assert times.micros.tolist() == [micros, micros - offset * 60_000_000]
