"""Formats of columns: nested values, equal results, and damage at any place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_fraud as bf
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.sources import parquet_pages
from beam_fraud.sources.file_format import COLUMNAR
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.reading import BANK, GOOD, read, write_columns

#: `BANK` with values in structs, lists and maps.
NESTED = replace(
    BANK,
    roles=BANK.roles | {"account_id": "card.number", "amount": "money.value"},
    features=(
        FeatureColumn("card.holder.age"),
        FeatureColumn("items[0].mcc", "categorical"),
        FeatureColumn("items[1].mcc", "categorical", "allow"),
        FeatureColumn("risk", "numeric", "allow"),
    ),
)
TYPE = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("id", "when", "shop", "currency", "fraud")),
        pa.field("risk", pa.float64()),
        pa.field(
            "card",
            pa.struct(
                {"number": pa.string(), "holder": pa.struct({"age": pa.int64()}), "x": pa.string()}
            ),
        ),
        pa.field("money", pa.struct({"value": pa.float64()})),
        pa.field("items", pa.list_(pa.struct({"mcc": pa.string(), "n": pa.int32()}))),
    ]
)


def nested(number: int) -> dict[str, Any]:
    plain = {name: GOOD[name] for name in ("when", "shop", "currency", "fraud")}
    return {
        **plain,
        "id": f"t{number}",
        "risk": None if number % 3 else number / 8,
        "card": {"number": f"a{number % 5}", "holder": {"age": number}, "x": "y"},
        "money": {"value": number / 4},
        "items": [{"mcc": f"m{i}", "n": i} for i in range(1 + number % 3)],
    }


ROWS = [nested(number) for number in range(100)]
#: Rows whose values are absent, each on another level.
ABSENT = [
    {**ROWS[0], "id": "card", "card": None},
    {**ROWS[0], "id": "holder", "card": {"number": "a", "holder": None, "x": None}},
    {**ROWS[0], "id": "items", "items": None},
    {**ROWS[0], "id": "short", "items": []},
    {**ROWS[0], "id": "item", "items": [None]},
]


@pytest.mark.parametrize("form", COLUMNAR)
@pytest.mark.parametrize("bytes_each", [None, 1])
def test_nested_values_are_those_of_json(tmp_path: Path, form: str, bytes_each: int | None) -> None:
    rows = [*ROWS, *ABSENT]
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_columns(tmp_path / f"a.{form}", pa.Table.from_pylist(rows, TYPE), 7)
    result, expected = read(path, NESTED, bytes_each=bytes_each), read(lines, NESTED)
    assert _bits(result.transactions) == _bits(expected.transactions)
    assert {n: (row["reason"], row["detail"]) for n, row in result.dead.items()} == {
        n: (row["reason"], row["detail"].removeprefix(f"line {n + 1}, "))
        for n, row in expected.dead.items()
    }
    assert len(result.dead) == len(ABSENT)
    payload = json.loads(result.dead[100]["payload"])
    assert (payload["card.number"], payload["items[0].mcc"]) == (None, "m0")


@pytest.mark.parametrize("form", COLUMNAR)
def test_a_column_named_like_a_path_comes_first(tmp_path: Path, form: str) -> None:
    table = pa.Table.from_pylist(ROWS, TYPE)
    table = table.append_column("card.number", pa.array(["own"] * len(ROWS)))
    path = write_columns(tmp_path / f"a.{form}", table)
    assert set(read(path, NESTED).transactions["account_id"].to_pylist()) == {"own"}


@pytest.mark.parametrize("form", COLUMNAR)
def test_a_path_to_nothing_or_to_a_struct_is_refused(tmp_path: Path, form: str) -> None:
    path = write_columns(tmp_path / f"a.{form}", pa.Table.from_pylist(ROWS, TYPE))
    for column in ("card.nummer", "card.number.x", "items.mcc", "card[0]", "absent.number"):
        schema = replace(NESTED, roles=NESTED.roles | {"account_id": column})
        with fails(Code.COLUMN_MISSING, f"{path.name}: column '{column}'".replace("[", r"\[")):
            find_inputs([Place.of(path)], schema, labels="required")
    schema = replace(NESTED, roles=NESTED.roles | {"account_id": "card.nummer"})
    with pytest.raises(FraudError, match=r"card\.number"):
        find_inputs([Place.of(path)], schema, labels="required")
    schema = replace(NESTED, roles=NESTED.roles | {"account_id": "card.holder"})
    with fails(Code.COLUMN_TYPE, "'card.holder'"):
        find_inputs([Place.of(path)], schema, labels="required")


def test_lists_and_maps_of_every_kind(tmp_path: Path) -> None:
    names = pa.array(
        [[("k", "a"), ("l", "b")], [("l", "c")], None], pa.map_(pa.string(), pa.string())
    )
    fixed = pa.array([["a", "b"], ["c", None], ["d", "e"]], pa.list_(pa.string(), 2))
    large = pa.array([["a"], [], ["b", "c"]], pa.large_list(pa.string()))
    plain = {name: [GOOD[name]] * 3 for name in GOOD if name not in ("id", "mcc", "channel")}
    table = pa.table({"id": ["1", "2", "3"], **plain, "m": names, "f": fixed, "l": large})
    schema = replace(
        BANK,
        features=tuple(FeatureColumn(c, "categorical", "allow") for c in ("m.k", "f[1]", "l[1]")),
    )
    for offset in (0, 1):
        path = tmp_path / "a.parquet"
        pq.write_table(table.slice(offset), path)
        expected = {"m.k": ["a", None, None], "f[1]": ["b", None, "e"], "l[1]": [None, None, "c"]}
        for column, values in expected.items():
            assert read(path, schema).transactions[column].to_pylist() == values[offset:]


def test_nested_values_of_tables_in_memory() -> None:
    table = pa.Table.from_pylist([*ROWS, *ABSENT], TYPE).slice(3)
    result = bf.features(table.slice(0, len(ROWS) - 3), schema=NESTED)
    assert len(result) == len(ROWS) - 3
    with fails(Code.COLUMN_MISSING, "'card.number'"):
        bf.features(table.drop_columns(["card"]), schema=NESTED)


VALUES = st.fixed_dictionaries(
    {
        "account": st.one_of(st.none(), st.text(max_size=5)),
        "amount": st.one_of(st.none(), st.floats(width=64)),
        "age": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "mcc": st.one_of(st.none(), st.sampled_from(["m1", "m2", "NA", "é"])),
        "risk": st.one_of(st.none(), st.floats(allow_nan=True)),
    }
)
FLAT = pa.schema(
    [
        *(pa.field(n, pa.string()) for n in ("id", "when", "account", "shop", "currency", "fraud")),
        *(pa.field(n, pa.float64()) for n in ("amount", "risk")),
        pa.field("age", pa.int64()),
        *(pa.field(n, pa.string()) for n in ("mcc", "channel")),
    ]
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(VALUES, min_size=1, max_size=20))
def test_rows_are_read_to_the_bits_of_parquet(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("equal")
    table = pa.Table.from_pylist([{**GOOD, **row} for row in rows], FLAT)
    expected = read(write_columns(folder / "a.parquet", table, 3))
    for form in COLUMNAR:
        result = read(write_columns(folder / f"a.{form}", table, 3))
        assert result.rows_in == len(rows)
        assert _bits(result.transactions) == _bits(expected.transactions)
        assert _bits(result.dead_letters.drop_columns(["source"])) == _bits(
            expected.dead_letters.drop_columns(["source"])
        )


def _bits(table: pa.Table) -> str:
    """Return the values: `repr` of a float tells all but bits within NaN."""
    return repr(table.to_pylist())


@pytest.mark.parametrize("form", COLUMNAR)
def test_damage_is_reported_with_the_rows_before_it(tmp_path: Path, form: str) -> None:
    path = write_columns(tmp_path / f"a.{form}", pa.Table.from_pylist(ROWS, TYPE), 10)
    data = path.read_bytes()
    outcomes = set()
    for at in range(len(data) // 4, len(data) // 2, 197):
        path.write_bytes(data[:at] + b"\xff" * 40 + data[at + 40 :])
        try:
            read(path, NESTED)
        except FraudError as error:
            outcomes.add((error.code, "\n" in str(error), "after row" in str(error)))
    assert (Code.INPUT_DAMAGED, False, True) in outcomes
    assert {outcome[:2] for outcome in outcomes} == {(Code.INPUT_DAMAGED, False)}


def test_a_stripe_of_more_rows_than_memory_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_pages, "MAX_UNFOLDED_BYTES", 1 << 20)
    rows = 200_000
    same = {name: pa.repeat(value, rows) for name, value in GOOD.items()}
    path = tmp_path / "a.orc"
    with orc.ORCWriter(path, stripe_size=1 << 40, dictionary_key_size_threshold=1.0) as writer:
        writer.write(pa.table({**same, "id": pa.repeat("t", rows)}))
    with fails(Code.INPUT_DAMAGED, "a.orc: is damaged after row 0: stripe 0"):
        read(path)


@pytest.mark.parametrize("form", COLUMNAR)
def test_a_file_without_rows_has_none(tmp_path: Path, form: str) -> None:
    path = write_columns(tmp_path / f"a.{form}", FLAT.empty_table())
    for bytes_each in (None, 1):
        assert read(path, bytes_each=bytes_each).rows_in == 0
