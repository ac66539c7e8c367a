"""Fields of CSV records, also with misplaced quotes."""

from time import process_time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.sources.csv_text import parse_csv
from beam_fraud.sources.segment import CsvLayout

LAYOUT = CsvLayout(("a", "b"), ",", 0)
TYPES = {"a": pa.string(), "b": pa.string()}
#: A record of two columns or nearly so, full of quotes.
RECORDS = st.text('",\r ab\0é', max_size=12).map(lambda text: f"{text}\n".encode())


def fields(*records: bytes) -> tuple[list[tuple[str, str]], list[bool]]:
    parsed = parse_csv(pa.array(records, pa.binary()), LAYOUT, TYPES)
    rows = [(row["a"], row["b"]) for row in parsed.columns.to_pylist()]
    return rows, parsed.whole.tolist()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'3" pipe,b\n', ('3" pipe', "b")),
        (b'"a"b,""\r\n', ("ab", "")),
        (b'"a ""b""",c"d"\n', ('a "b"', 'c"d"')),
        (b',"\r"a\n', ("", "\ra")),
        (b'"a,b\n', None),
        (b'a"b\n', None),
        (b'a"b,c,d\n', None),
        (b'x,"' + b"y" * 200_000 + b'"z\n', ("x", "y" * 200_000 + "z")),
    ],
)
def test_a_stray_quote_is_a_character(record: bytes, expected: tuple[str, str] | None) -> None:
    rows, whole = fields(b"1,2\n", record, b"3,4\n")
    assert whole == [True, expected is not None, True]
    assert rows == [row for row in (("1", "2"), expected, ("3", "4")) if row]


@settings(max_examples=80, deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=5))
def test_a_record_has_the_same_fields_alone_and_among_others(records: list[bytes]) -> None:
    rows, whole = fields(*records)
    alone = [fields(record) for record in records]
    assert whole == [one for _, [one] in alone]
    assert rows == [row for result, _ in alone for row in result]


def test_many_stray_quotes_do_not_take_long() -> None:
    started = process_time()
    rows, whole = fields(*[b'3" pipe,4\n', b'"a,b\n'] * 10_000)
    assert (len(rows), sum(whole)) == (10_000, 10_000)
    # One by one, as they once were read, these take ten seconds.
    assert process_time() - started < 2
