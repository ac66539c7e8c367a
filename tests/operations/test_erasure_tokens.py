"""An id is recognised in any spelling of a record, but not in a longer id."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.operations.erasure.subject import token_pattern

_IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)


@given(_IDS, st.booleans())
def test_any_id_is_found_in_json(identifier: str, ascii_only: bool) -> None:
    record = json.dumps({"account": identifier, "amount": 3.5}, ensure_ascii=ascii_only)
    assert token_pattern([identifier]).search(record.encode())


@given(_IDS)
def test_any_id_is_found_in_csv(identifier: str) -> None:
    text = io.StringIO()
    csv.writer(text).writerow(["x", identifier, "3"])
    assert token_pattern([identifier]).search(text.getvalue().encode())


@pytest.mark.parametrize(
    "record",
    [
        b'{"a": 4242}',
        b'{"a": "042"}',
        b"1,4.42,x",
        b"1,42.5,x",
        b"-1,x42,42x,a-42,42-a,42_",
        "é42,42é".encode(),
        b"",
    ],
)
def test_a_part_of_a_longer_word_is_no_id(record: bytes) -> None:
    assert not token_pattern(["42"]).search(record)


@pytest.mark.parametrize(
    "record",
    [
        b"42",
        b"x,42,y",
        b'{"a":42}',
        b'"42"',
        b"x 42\n",
        b"42.0",
        b"42.",
        b"\xff\x00 42;",
        b'["42"]',
    ],
)
def test_an_id_is_found_beside_separators(record: bytes) -> None:
    assert token_pattern(["7", "42"]).search(record)
