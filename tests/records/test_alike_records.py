"""Members of objects that are written alike are those that a decoder finds, or none."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.records.alike_records import alike_members

#: Values as they are written.
VALUES = (
    *(b"0", b"7", b"-3", b"12.50", b"1e5", b"null", b"true", b'""', b'"x"', b'"2026-03-04 05:06"'),
    *(b'"a,b"', b'"}"', b'"]"', b'"{"', b'"a: b"', b'"\\""', b'"\\\\"', '"é"'.encode()),
    *(b"{}", b'{"a": 1}', b"[]", b"[1]", b"[1,2]", b'","', b'",\\"a\\":"', b'",\\"b\\": "'),
)
SEPARATORS = ((b",", b":"), (b", ", b": "), (b",\n  ", b" : "))


def array(rows: list[list[bytes]], names: list[bytes], style: tuple[bytes, bytes]) -> bytes:
    comma, colon = style
    members = [
        comma.join(
            b'"' + name + b'"' + colon + value for name, value in zip(names, row, strict=True)
        )
        for row in rows
    ]
    return b"[" + comma.join(b"{" + row + b"}" for row in members) + b"]"


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def check(body: bytes, names: list[str]) -> bool:
    """Compare with a decoder where the values are plain; return whether any were found."""
    objects = json.loads(body)
    found = alike_members(body, len(objects), names)
    if found is None:
        return False
    assert set(found) == set(names)
    for name, values in found.items():
        assert len(values.texts) == len(objects)
        for text, one in zip(values.texts.cast(pa.binary()).to_pylist(), objects, strict=True):
            value = one[name]
            if text.isdigit() or (values.quoted and text.isalnum()):
                assert text.decode() == written(value)
                assert values.quoted == isinstance(value, str)
    return True


@given(st.data())
def test_what_is_found_is_what_a_decoder_finds(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([b"a", b"b", b"c-1"]), min_size=1, unique=True))
    row = st.lists(st.sampled_from(VALUES), min_size=len(names), max_size=len(names))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    body = array(rows, names, data.draw(st.sampled_from(SEPARATORS)))
    check(body, [names[0].decode()])


@given(st.data())
def test_a_changed_array_is_read_right_or_not_at_all(data: st.DataObject) -> None:
    names = [b"a", b"b"]
    rows = [[b"%d" % row, b'"t%d"' % row] for row in range(5)]
    body = bytearray(array(rows, names, data.draw(st.sampled_from(SEPARATORS))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(st.sampled_from([b"", b" ", b",", b'"', b"{", b"}", b"\\", b"1", b"\n"]))
        body[place : place + data.draw(st.integers(0, 1))] = piece
    try:
        objects = json.loads(body)
    except ValueError:
        return
    if isinstance(objects, list) and objects and all(type(one) is dict for one in objects):
        check(bytes(body), ["a"])


@pytest.mark.parametrize("style", SEPARATORS)
def test_objects_written_alike_are_read(style: tuple[bytes, bytes]) -> None:
    rows = [[b"%d" % row, b'"t%d"' % row, b"null"] for row in range(100)]
    assert check(array(rows, [b"a", b"b", b"c"], style), ["b", "a"])
    assert check(b" " + array(rows, [b"a", b"b", b"c"], style) + b"\r\n", ["a"])


@pytest.mark.parametrize(
    "other",
    [
        *(b'{"a":1}', b'{"b":"x","a":1}', b'{"a":1,"b":"x","c":1}', b"{}"),
        *(b"1,2", b'"a","b"', b"[1,2]", b'{"a":,"b":""}'),
        *(b'{"A":1,"b":"x"}', b'{"a":1,"b":"x,y"}', b'{"\\u0061":1,"b":"x"}'),
    ],
)
def test_one_other_object_leaves_all_to_a_decoder(other: bytes) -> None:
    alike = [b'{"a":1,"b":"x"}'] * 3
    for place in range(4):
        body = b"[" + b",".join([*alike[:place], other, *alike[place:]]) + b"]"
        assert alike_members(body, 4, ["a"]) is None


def test_a_member_that_is_not_read_may_be_anything_without_a_comma_or_brace() -> None:
    for value in (b"null", b"[]", b'"\xff"', b'"}"', b"-1e-5", b'"\\""'):
        body = array([[b"7", b"0"], [b"8", value], [b"9", b"1"]], [b"a", b"b"], (b",", b":"))
        found = alike_members(body, 3, ["a"])
        assert found is not None
        assert found["a"].texts.to_pylist() == ["7", "8", "9"]


def test_members_of_a_nested_object_are_not_those_of_the_record() -> None:
    alike = [b'{"id":1,"x":1,"a":5,"y":2}'] * 3
    for nested in (b'{"id":1,"x":{"z":0,"a":7,"y":2}}', b'{"id":1,"x":[{"z":0,"a":7,"y":2}]}'):
        body = b"[" + b",".join([*alike, nested]) + b"]"
        assert alike_members(body, 4, ["id", "a"]) is None


def test_a_text_and_a_number_of_a_member_are_not_alike() -> None:
    for value in (b"null", b"1", b'"x'):
        body = b'[{"a":1,"b":"x"},{"a":2,"b":' + value + b"}]"
        assert alike_members(body, 2, ["a"]) is None


def test_other_blanks_are_left_in_the_value() -> None:
    found = alike_members(b'[{"a":1,"b":2},{"a": 3 ,"b":4}]', 2, ["a"])
    assert found is not None
    assert found["a"].texts.to_pylist() == ["1", " 3 "]


def test_repeated_and_missing_members_are_not_read() -> None:
    assert alike_members(b'[{"a":1,"a":2}]', 1, ["a"]) is None
    assert alike_members(b'[{"a":1}]', 1, ["b"]) is None
    assert alike_members(b"[]", 1, ["a"]) is None
    assert alike_members(b'[{"a":1},{"a":2}]', 3, ["a"]) is None


def test_numbers_have_the_text_of_the_body() -> None:
    numbers = [random.Random(0).uniform(0, 1e6) for _ in range(1_000)]
    found = alike_members(json.dumps([{"a": number} for number in numbers]).encode(), 1_000, ["a"])
    assert found is not None
    assert found["a"].texts.cast(pa.float64()).to_pylist() == numbers
