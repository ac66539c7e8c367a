"""For any file: no row is lost or damages another, and the division of the file has no effect."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_fraud.sources import lines
from tests.reading import COLUMNS, GOOD, Read, csv_of, read, write_text

QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

#: What a field may hold: what is meant, what nearly is, and what trips readers.
FIELDS = st.one_of(
    st.sampled_from(sorted(map(str, GOOD.values()))),
    st.sampled_from(
        ["", "NA", "nan", "-nan", "inf", "-1", "+1", "1e400", "0x10", "1_0", " 1 ", "\ufeff1", '"']
    ),
    st.sampled_from(['"1"', '""', '"a""b"', '"a,b"', '"a\nb"', '"a', 'a"', 'a"b', "\r", "\0", "é"]),
    st.text(max_size=8),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
LINES = st.one_of(
    st.lists(FIELDS, min_size=len(COLUMNS), max_size=len(COLUMNS)).map(b",".join),
    st.lists(FIELDS, max_size=4).map(b",".join),
    st.text('",\n\r1a', max_size=24).map(str.encode),
    st.binary(max_size=24),
    st.just(csv_of(GOOD).splitlines()[1]),
)
TEXTS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n\r\n"]))).map(
    lambda pairs: b"".join(part for pair in pairs for part in pair)
)


def same(one: Read, other: Read) -> bool:
    return (
        one.rows_in == other.rows_in
        and repr(one.rows) == repr(other.rows)
        and one.dead_letters.equals(other.dead_letters)
    )


WAYS = st.tuples(
    st.sampled_from([1, 2, 7, 50_000]),
    st.sampled_from([None, 1, 100]),
    st.sampled_from([1, 3, 64, lines.CHUNK_BYTES]),
)


def check_a_way_to_read(path: Path, way: tuple[int, int | None, int], monkeypatch) -> Read:
    """Read a file whole, and in blocks, segments and chunks of these sizes."""
    whole = read(path)
    assert len(whole.transactions) + len(whole.dead_letters) == whole.rows_in
    positions = sorted([*whole.rows, *whole.dead])
    assert positions == list(range(whole.rows_in))
    block_rows, bytes_each, chunk_bytes = way
    with monkeypatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
        assert same(read(path, block_rows=block_rows, bytes_each=bytes_each), whole)
    return whole


@QUICK
@given(text=st.one_of(TEXTS, st.binary(max_size=99)), end=st.sampled_from([b"", b"\n"]), way=WAYS)
def test_any_csv_rows(text: bytes, end: bytes, way, tmp_path: Path, monkeypatch) -> None:
    path = write_text(tmp_path / "any.csv", csv_of() + text + end)
    whole = check_a_way_to_read(path, way, monkeypatch)
    if b'"' not in text:
        records = [line for line in text.split(b"\n") if line not in (b"", b"\r")]
        assert whole.rows_in == len(records)


@QUICK
@given(before=TEXTS, bad=LINES, after=st.integers(0, 3), data=st.data())
def test_a_bad_csv_row_costs_only_itself(before, bad, after, data, tmp_path: Path) -> None:
    good = [{**GOOD, "id": f"g{number}"} for number in range(4)]
    rows = csv_of(*good).splitlines(keepends=True)
    bad = bad.replace(b"\n", b"")
    place = data.draw(st.integers(1, len(rows)))
    path = tmp_path / "bad.csv"
    path.write_bytes(b"".join([*rows[:place], bad, b"\n", *rows[place:]]))
    result = [row["transaction_id"] for row in read(path).rows.values()]
    assert [id for id in result if id.startswith("g")] == ["g0", "g1", "g2", "g3"]


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(list(GOOD.values())),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
JSON_LINES = st.one_of(
    st.dictionaries(st.sampled_from(COLUMNS), JSON).map(lambda o: json.dumps({**GOOD, **o})),
    st.just(json.dumps(GOOD)),
    JSON.map(json.dumps),
    st.just(json.dumps(GOOD)[:-5]),
    st.just(json.dumps(GOOD) * 2),
    st.just(json.dumps({**GOOD, "mcc": "\ud800"})),
    st.just(json.dumps({**GOOD, "x": 1}).replace('"x": 1', '"x": ' + "[" * 300)),
    st.text(max_size=30),
).map(lambda text: text.replace("\n", " ").encode("utf-8", "surrogatepass"))


@QUICK
@given(
    text=st.one_of(
        st.binary(max_size=300),
        st.lists(st.one_of(JSON_LINES, st.binary(max_size=20)), max_size=8).map(b"\n".join),
    ),
    way=WAYS,
)
def test_any_bytes_as_json_lines(text: bytes, way, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(text)
    whole = check_a_way_to_read(path, way, monkeypatch)
    records = [line for line in text.split(b"\n") if line not in (b"", b"\r")]
    assert whole.rows_in == len(records)


@QUICK
@given(rows=st.lists(JSON_LINES, min_size=1, max_size=6))
def test_a_json_record_has_the_same_result_alone(rows: list[bytes], tmp_path: Path) -> None:
    rows = [row for row in rows if row not in (b"", b"\r")]
    together = read(write_text(tmp_path / "all.jsonl", b"".join(row + b"\n" for row in rows)))
    for position, row in enumerate(rows):
        alone = read(write_text(tmp_path / "one.jsonl", row + b"\n"))
        assert repr(alone.rows.get(0)) == repr(together.rows.get(position))
        dead, letter = alone.dead.get(0), together.dead.get(position)
        assert (dead is None) == (letter is None)
        if dead is not None:
            places = [where.pop("detail").partition(", ") for where in (dead, letter)]
            assert [line for line, _, _ in places] == ["line 1", f"line {position + 1}"]
            assert places[0][2] == places[1][2]
            assert {**dead, "position": 0, "source": ""} == {**letter, "position": 0, "source": ""}


NUMBERS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
]
TEXT = [*(pa.string(), pa.large_string(), pa.string_view()), *(pa.binary(), pa.large_binary())]
FLOATS = [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(20, 3), pa.decimal256(50, 3)]
TIMES = [
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp(unit, "UTC") for unit in ("ms", "us", "ns")),
    *(pa.timestamp("us", "Europe/Brussels"), pa.date32(), pa.date64()),
]
ODD = [
    *(pa.time32("s"), pa.time64("us"), pa.duration("us"), pa.list_(pa.int64())),
    *(pa.struct([("x", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.binary(4)),
]


def values_of(type: pa.DataType) -> st.SearchStrategy:
    """Return Arrow arrays of four values of `type` with arbitrary bits."""
    if pa.types.is_boolean(type):
        values = st.booleans()
    elif pa.types.is_integer(type):
        bits = type.bit_width
        signed = pa.types.is_signed_integer(type)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = st.one_of(st.integers(low, high), st.integers(0, 100))
    elif pa.types.is_floating(type):
        values = st.floats(width=type.bit_width)
    elif pa.types.is_decimal(type):
        values = st.decimals(
            -(10**15), 10**15, places=3, allow_nan=False, allow_infinity=False
        ).map(Decimal)
    elif pa.types.is_timestamp(type) or pa.types.is_date(type):
        bits = 32 if pa.types.is_date32(type) else 63
        numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) | st.integers(0, 10**6)
        if pa.types.is_date64(type):
            numbers = st.integers(-(10**8), 10**8).map(lambda day: day * 86_400_000)
        raw = pa.int32() if bits == 32 else pa.int64()
        return st.lists(st.none() | numbers, min_size=4, max_size=4).map(
            lambda row: pa.array(row, raw).cast(type)
        )
    else:
        text = st.one_of(st.binary(max_size=8), FIELDS)
        return st.lists(st.none() | text, min_size=4, max_size=4).map(
            lambda row: as_text(row, type)
        )
    return st.lists(st.none() | values, min_size=4, max_size=4).map(lambda row: pa.array(row, type))


def as_text(row: list[bytes | None], type: pa.DataType) -> pa.Array:
    """Return bytes as `type`, also if they are not UTF-8."""
    if pa.types.is_string(type):
        array = pa.array(row, pa.binary())
        return pa.Array.from_buffers(type, 4, array.buffers())
    if pa.types.is_large_string(type):
        array = pa.array(row, pa.large_binary())
        return pa.Array.from_buffers(type, 4, array.buffers())
    if pa.types.is_string_view(type):
        return pa.array([v and v.decode("utf-8", "replace") for v in row], type)
    return pa.array(row, type)


GOOD_ARRAYS = {name: pa.array([str(value)] * 4) for name, value in GOOD.items()}
ACCEPTED = [
    *((c, t) for c in ("id", "account", "shop", "currency") for t in NUMBERS + TEXT),
    *(("when", t) for t in NUMBERS + TEXT + FLOATS + TIMES),
    *((c, t) for c in ("amount",) for t in NUMBERS + TEXT + FLOATS),
    *((c, t) for c in ("fraud", "age", "risk") for t in [pa.bool_(), *NUMBERS, *TEXT, *FLOATS]),
    *((c, t) for c in ("mcc", "channel") for t in [pa.bool_(), *NUMBERS, *TEXT]),
]


@settings(QUICK, max_examples=200)
@given(data=st.data(), which=st.sampled_from(ACCEPTED), dictionary=st.booleans())
def test_any_arrow_values_of_an_accepted_type(data, which, dictionary, tmp_path: Path) -> None:
    column, type = which
    array = data.draw(values_of(type))
    if dictionary and not pa.types.is_string_view(type) and not pa.types.is_float16(type):
        array = array.dictionary_encode()
    table = pa.table({**GOOD_ARRAYS, column: array})
    path = tmp_path / "any.parquet"
    pq.write_table(table, path, row_group_size=3)
    whole = read(path)
    assert whole.rows_in == 4
    assert sorted([*whole.rows, *whole.dead]) == [0, 1, 2, 3]
    assert same(read(path, block_rows=1, bytes_each=1), whole)
    for letter in whole.dead.values():
        assert set(json.loads(letter["payload"])) == set(COLUMNS)
