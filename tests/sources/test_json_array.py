"""JSON arrays: each element is a record, however the text is laid out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.features.dataset import load_dataset
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.json_array import ArrayLines, is_array
from beam_fraud.storage.urls import Place

SCHEMA = schema_from_toml(
    '[roles]\ntransaction_id = "id"\nevent_time = "at"\namount = "value"\naccount_id = "card.no"\n'
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\\\[]{},: \u00e9\n\t', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"]', max_size=3), inner),
    max_leaves=8,
)


def lines_of(text: bytes, size: int) -> bytes:
    array = ArrayLines()
    return b"".join(array.convert(text[at : at + size]) for at in range(0, len(text), size))


@given(
    elements=st.lists(st.dictionaries(st.text('x"', max_size=2), values, max_size=3), max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    blank=st.text(" \n\r\t", max_size=3),
    mark=st.booleans(),
    size=st.integers(1, 50),
)
def test_every_element_is_a_line_at_its_place(
    elements: list, indent: int | None, ascii_only: bool, blank: str, mark: bool, size: int
) -> None:
    text = json.dumps(elements, indent=indent, ensure_ascii=ascii_only)
    data = ("\ufeff" * mark + blank + text + blank).encode()
    assert is_array(data)
    lines = lines_of(data, size)
    assert len(lines) == len(data)
    records = [line for line in lines.split(b"\n") if line]
    assert list(map(json.loads, records)) == elements


@given(st.binary(max_size=40), st.integers(1, 10))
def test_any_bytes_keep_their_number_whatever_the_chunks(data: bytes, size: int) -> None:
    lines = lines_of(data, size)
    assert len(lines) == len(data)
    assert lines == lines_of(data, len(data) or 1)


def test_what_follows_an_array_is_not_lost() -> None:
    assert lines_of(b'[{"a": 1}] {"b": [1, 2]}', 5) == b'\n{"a": 1}\n\n{"b": [1, 2]}'


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_a_file_may_be_an_array(tmp_path: Path, name: str) -> None:
    records = [
        {"id": f"t{n}", "at": f"2024-02-08T06:00:{n:02}Z", "card": {"no": n % 3}, "value": n}
        for n in range(50)
    ]
    broken = [*records[:20], {"id": "x"}, *records[20:]]
    data = json.dumps(broken, indent=2).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    dataset = load_dataset([Place.at(path)], SCHEMA, labels="ignored", keep_dead_letters=True)
    assert dataset.rows_in == 51
    (dead,) = dataset.dead_letters.to_pylist()
    assert (dead["position"], dead["detail"]) == (20, "at: no time")
    assert json.loads(dead["payload"]) == {"id": "x"}
    assert dataset.transactions["account_id"].to_pylist() == [str(n % 3) for n in range(50)]


def test_an_array_among_lines_is_a_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    record = {"id": "t", "at": "2024-02-08T06:00:00Z", "card": {"no": 1}, "value": 1}
    path.write_text(f"[1, 2]\n{json.dumps(record)}\n", "utf-8")
    dataset = load_dataset([Place.at(path)], SCHEMA, labels="ignored")
    assert (dataset.rows_in, dataset.dead_reasons) == (2, {"wrong_type": 1})
