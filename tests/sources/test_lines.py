"""The division of the text does not change the records."""

import io

import pytest

from beam_fraud.sources import lines
from beam_fraud.sources.csv_text import is_csv_record
from beam_fraud.sources.lines import read_records
from beam_fraud.sources.segment import CsvLayout

LAYOUT = CsvLayout(("a", "b"), ",", 0)


def records(text: bytes, *, csv: bool = False) -> list[tuple[bytes, bool]]:
    is_record = (lambda part: is_csv_record(part, LAYOUT)) if csv else None
    result = []
    for block in read_records(io.BytesIO(text).read, is_record):
        result += [(record, block.cut_off) for record in block.payload().to_pylist()]
    return result


@pytest.mark.parametrize("chunk", [1, 2, 5, 8, 100])
def test_a_record_that_is_too_long_costs_only_itself(chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 6)
    monkeypatch.setattr(lines, "PREFIX_BYTES", 3)
    text = b"ab\n\n12345\n123456\nx\n1234567890123\n\nyz\n9999999999"
    assert records(text) == [
        *((b"ab\n", False), (b"12345\n", False), (b"123", True), (b"x\n", False)),
        *((b"123", True), (b"yz\n", False), (b"999", True)),
    ]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_quoted_line_ends_belong_to_their_record(chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    text = b'1,"a\n\n""b"\n2,"x"\n3,"open\n4,y\n5,"e"\n'
    expected = [b'1,"a\n\n""b"\n', b'2,"x"\n', b'3,"open\n', b"4,y\n", b'5,"e"\n']
    assert [record for record, _ in records(text, csv=True)] == expected


@pytest.mark.parametrize("chunk", [16, 50, 1000])
def test_an_unclosed_quote_costs_its_line(chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(lines, "MAX_QUOTED_BYTES", 20)
    text = b'1,"open\n' + b"2,b\n" * 6 + b'3,c"\n'
    assert [record for record, _ in records(text, csv=True)] == text.splitlines(keepends=True)


@pytest.mark.parametrize("stray", [b'3" pipe,c\n', b'y"z"",c\n', b'"a, b",c\n'])
def test_a_stray_quote_is_not_closed_by_another(stray: bytes) -> None:
    text = b'"Joe,1\n' + b"2,b\n" * 6 + stray + b'3,"c\nd"\n4,e\n'
    expected = [b'"Joe,1\n', *[b"2,b\n"] * 6, stray, b'3,"c\nd"\n', b"4,e\n"]
    assert [record for record, _ in records(text, csv=True)] == expected


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (b"a,b\n", True),
        (b",\r\n", True),
        (b'"a,\n""b""",""\n', True),
        (b'3" pipe,a"\n', True),
        (b"a\n", False),
        (b"a,b,c\n", False),
        (b"a,b\nc,d\n", False),
        (b"a,b", False),
        (b'"a"b,c\n', False),
        (b'"a,b\n', False),
        (b'a,"b"\rc\n', False),
        (b'"a\n3" b",c\n', False),
    ],
)
def test_records_are_delimited(text: bytes, whole: bool) -> None:
    assert is_csv_record(text, LAYOUT) is whole


@pytest.mark.parametrize("chunk", [1, 5, 16, 1000])
@pytest.mark.parametrize("csv", [False, True])
def test_every_record_has_its_line_for_any_division(
    chunk: int, csv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 40)
    text = b'\n1,a\n\r\n\n2,"x\ny\n\nz"\n3,b\n4,' + b"l" * 60 + b"\n\n5,c"
    is_record = (lambda part: is_csv_record(part, LAYOUT)) if csv else None
    result: dict[int, bytes] = {}
    for block in read_records(io.BytesIO(text).read, is_record):
        records = block.payload().to_pylist()
        result |= dict(zip(block.lines.tolist(), records, strict=True))
        last = records[-1].count(b"\n") if not block.cut_off else 1
        assert block.end_line == block.lines[-1] + last
    there = text.split(b"\n")
    for line, record in result.items():
        assert there[line].startswith(record.split(b"\n")[0].rstrip(b"\r")[:40])
    assert {0, 2, 3}.isdisjoint(result)
    assert {1, 4, 8, 9, 11} <= set(result)
    assert (6 in result, 5 in result) == (False, not csv)
