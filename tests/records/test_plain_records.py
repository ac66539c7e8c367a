"""Plain records are read as the general way reads them, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.decisions.linked_values import reading
from beam_fraud.records.parse import parse
from beam_fraud.records.plain_records import FEW_ROWS, JsonArray, PlainRecords
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.raw import APPENDED, PAYLOAD, POSITION, Origin, with_origin

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LATEST = int(NOW.timestamp() * 1_000_000)
ORIGIN = Origin("predict", "jsonl")
RAW = with_origin(
    pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary()), (APPENDED, pa.int64())]), ORIGIN
)
OWN = Schema(
    "own",
    {
        "transaction_id": "id",
        "event_time": "at",
        "account_id": "card",
        "amount": "paid",
    },
    features=(FeatureColumn("lat"), FeatureColumn("mcc", "categorical")),
)
#: Also reads columns that only link cases.
LINKED = reading(OWN, ("device", "ip"))
SCHEMAS = {"handbook": HANDBOOK, "own": OWN, "linked": LINKED}

texts = st.one_of(
    st.sampled_from(
        ["a", "12", "12.0", "", " ", "NaN", "null", "None", "NA", "n/a", "1E+15", "é", "a.b"]
    ),
    st.text(max_size=4),
    st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
)
numbers = st.one_of(
    st.integers(-5, 5),
    st.floats(allow_nan=True),
    st.sampled_from([-0.0, 1e9, 1e300, 10**20, True, 2**53, 0.1]),
)
moments = st.one_of(
    st.datetimes(datetime(1980, 1, 1), datetime(2110, 1, 1)).map(str),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 3, 4)).map(datetime.isoformat),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 3, 4)).map(lambda at: f"{at}Z"),
    st.sampled_from(
        ["2026-02-30 00:00:00", "2026-01-01", "2026-01-01T24:00:00", "2026-01-01 00:00:00+01:00"]
    ),
    st.sampled_from(["2026-01-01T00:00:00.1234567", " 2026-01-01 00:00:00", 1_700_000_000, None]),
)
values = st.one_of(texts, numbers, moments, st.none(), st.lists(st.integers(), max_size=1))


def record_of(schema: Schema) -> st.SearchStrategy[bytes]:
    columns = schema.columns(labels="known")
    usual = {
        "transaction_id": texts,
        "event_time": moments,
        "account_id": st.one_of(texts, st.integers()),
        "merchant_id": texts,
        "amount": numbers,
        "label": st.sampled_from([None, 0, 1]),
    }
    roles = {column: role for role, column in schema.roles.items()}
    kinds = {
        column: st.one_of(usual.get(roles.get(column, ""), numbers), values)
        if column in roles
        else st.one_of(numbers, texts, values)
        for column in columns
    }
    return st.fixed_dictionaries({}, optional=kinds).map(lambda row: json.dumps(row).encode())


def generally(records: list[bytes], schema: Schema, labels: str) -> Arrived:
    positions = pa.array(range(7, 7 + len(records)), pa.int64())
    arrivals = pa.array([LATEST // 1000] * len(records), pa.int64())
    raw = pa.RecordBatch.from_arrays(
        [positions, pa.array(records, pa.binary()), arrivals], schema=RAW
    )
    parsed = parse(raw, schema, labels=labels)  # type: ignore[arg-type]
    return validate_arrivals(parsed, schema, labels=labels, ahead=0, now=LATEST)  # type: ignore[arg-type]


def check(records: list[bytes], schema: Schema, labels: str) -> bool:
    reader = PlainRecords.of(schema, labels, ORIGIN)  # type: ignore[arg-type]
    assert reader is not None
    plain = reader.read(records, 7, LATEST)
    together = as_array(records)
    of_array = None if together is None else reader.read(together, 7, LATEST)
    if plain is None:
        assert of_array is None
        return False
    checked = generally(records, schema, labels)
    assert not checked.faulty.any(), records
    for read in (plain, of_array):
        assert read is not None
        assert read.equals(checked.transactions, check_metadata=True), records
    assert not +checked.doubts
    return True


def as_array(records: list[bytes]) -> JsonArray | None:
    """Return records as an array, as `json.dumps` joins them; None if they are no JSON."""
    body = b"[" + b", ".join(records) + b"]"
    try:
        return JsonArray(body, msgspec.json.decode(body, type=list[msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("labels", ["ignored", "known"])
@given(data=st.data())
def test_the_result_is_that_of_the_general_way(name: str, labels: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    check(data.draw(st.lists(record_of(schema), min_size=1, max_size=3)), schema, labels)


def plain(row: int, **changed: object) -> bytes:
    at = NOW - timedelta(seconds=row, microseconds=row)
    fields = {
        "TRANSACTION_ID": f"t{row}",
        "TX_DATETIME": str(at.replace(tzinfo=None)),
        "CUSTOMER_ID": row,
        "TERMINAL_ID": "m-1",
        "TX_AMOUNT": 12.5 + row,
    }
    return json.dumps(fields | changed).encode()


def test_plain_records_are_read() -> None:
    assert check([plain(row) for row in range(FEW_ROWS)], HANDBOOK, "known")
    assert check([plain(1, TX_FRAUD=1), plain(2, TX_FRAUD=0), plain(3)], HANDBOOK, "known")
    assert check([plain(1, TX_FRAUD=1)], HANDBOOK, "ignored")
    assert check([plain(1, CUSTOMER_ID=20_130_901_000_400_001)], HANDBOOK, "known")


#: Values of a column that only links, as JSON, and what is read of each.
DEVICES: dict[bytes, str | None] = {
    b'"d-1"': "d-1",
    b'"two words"': "two words",
    b"12": "12",
    b'"12.0"': "12",
    b"true": "true",
    b"3.5": None,
    b'""': None,
    b'"NA"': None,
    b"null": None,
    b'{"id": "d-1"}': None,
    b'["d-1"]': None,
    b'"a\\u0000b"': None,
    b'"' + b"x" * 65 + b'"': "x" * 65,
    b'"' + b"x" * 300 + b'"': "x" * 256,
    b'"' + "é".encode() * 129 + b'"': "é" * 128,
    b'"x' + "é".encode() * 129 + b'"': "x" + "é" * 127,
    b"9" * 300: "9" * 256,
}
#: Values that only the general way reads, as absent.
UNDECODABLE = (b'"\xff"', b"1e999", b"NaN", b'[NaN, "x"]')


def with_device(row: int, device: bytes) -> bytes:
    at = (NOW - timedelta(seconds=row + 1)).isoformat()
    fields = {"id": f"t{row}", "at": at.replace("+00:00", "Z"), "card": "c", "paid": 1.5}
    known = json.dumps(fields | {"lat": 1.5, "mcc": "m"}).encode()
    return known[:-1] + b', "device": ' + device + b"}"


@pytest.mark.parametrize("times", [1, FEW_ROWS])
def test_no_value_of_a_column_that_only_links_is_a_fault(times: int) -> None:
    devices = list(DEVICES) * times
    records = [with_device(row, device) for row, device in enumerate(devices)]
    assert check(records, LINKED, "known")
    expected = list(DEVICES.values()) * times
    assert generally(records, LINKED, "known").transactions.column("device").to_pylist() == expected


def test_a_column_that_only_links_may_be_undecodable() -> None:
    records = [with_device(row, device) for row, device in enumerate(UNDECODABLE)]
    checked = generally(records, LINKED, "known")
    assert not checked.faulty.any()
    assert checked.transactions.column("device").null_count == len(records)


def test_a_path_that_only_links_may_lead_nowhere() -> None:
    schema = reading(
        replace(OWN, features=(*OWN.features, FeatureColumn("pos.kind", "categorical"))),
        ("device.id", "device.tags[1].id", "pos.place.id", "pos.kind.id"),
    )
    devices = (
        b'{"id": 7, "tags": [0, {"id": "x"}]}',
        b'"d"',
        b'{"id": {}, "tags": ["a"]}',
        b'{"id": NaN, "tags": {}}',
        b"3.5",
        b'{"id": "\xff"}',
    )
    records = [
        with_device(row, device)[:-1] + b', "pos": {"kind": "k", "place": ' + device + b"}}"
        for row, device in enumerate(devices)
    ]
    checked = generally(records, schema, "known")
    assert not checked.faulty.any()
    read = checked.transactions
    assert read.column("device.id").to_pylist() == ["7", *[None] * 5]
    assert read.column("device.tags[1].id").to_pylist() == ["x", *[None] * 5]
    assert read.column("pos.place.id").to_pylist() == ["7", *[None] * 5]
    assert read.column("pos.kind.id").null_count == len(devices)


def test_a_column_of_any_type_may_be_declared_to_link() -> None:
    good = generally([with_device(0, b"null"), with_device(1, b"null")], OWN, "known").transactions
    named = {"id": "transaction_id", "at": "event_time", "card": "account_id", "paid": "amount"}
    columns = {column: good.column(name) for column, name in named.items()}
    columns |= {name: good.column(name) for name in ("lat", "mcc", POSITION)}
    for device in (pa.array([["d"], None]), pa.array([3.5, 12.0]), pa.array([NOW, NOW])):
        rows = pa.RecordBatch.from_pydict(columns | {"device": device})
        check_columns("rows", rows.schema, LINKED, labels="known")
        rows = rows.replace_schema_metadata(with_origin(rows.schema, ORIGIN).metadata)
        checked = validate_arrivals(rows, LINKED, labels="known", ahead=None, now=None)
        assert not checked.faulty.any()
        read = checked.transactions.column("device").to_pylist()
        assert read == ([None, "12"] if pa.types.is_floating(device.type) else [None, None])


#: What a record has to lack to be plain.
CHANGES = pytest.mark.parametrize(
    "changed",
    [
        {"TX_AMOUNT": -1},
        {"TX_AMOUNT": "12"},
        {"TX_AMOUNT": True},
        {"CUSTOMER_ID": ""},
        {"CUSTOMER_ID": "12.0"},
        {"CUSTOMER_ID": None},
        {"TX_DATETIME": "2026-03-04 05:06:08"},
        {"TX_DATETIME": "1989-03-04 05:06:08"},
        {"TX_FRAUD": 2},
        {"TX_FRAUD": True},
        {"CUSTOMER_ID": 2**63},
        {"TERMINAL_ID": "12.0"},
        {"TERMINAL_ID": "NA"},
        {"TERMINAL_ID": ""},
        {"TERMINAL_ID": "m" * 65},
    ],
)


@CHANGES
def test_one_other_record_leaves_all_to_the_general_way(changed: dict[str, object]) -> None:
    assert not check([plain(1), plain(2, **changed)], HANDBOOK, "known")


@pytest.mark.parametrize(
    "written",
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%fZ"],
)
def test_many_plain_records_are_read_by_columns(written: str) -> None:
    def record(row: int, **changed: object) -> bytes:
        at = NOW - timedelta(hours=row, microseconds=row)
        return plain(row, TX_DATETIME=at.strftime(written), **changed)

    rows = [record(row) for row in range(FEW_ROWS + 40)]
    assert check(rows, HANDBOOK, "known")
    assert check([*rows[1:], record(0, TX_FRAUD=1), record(1, TX_FRAUD=0)], HANDBOOK, "known")
    assert check([*rows, record(1, TX_AMOUNT=7)], HANDBOOK, "ignored")
    # Other records of a column than most.
    assert not check([*rows, record(1, CUSTOMER_ID="seven")], HANDBOOK, "known")
    assert not check([*rows, plain(1, TX_DATETIME="2026-03-04T05:06:08.5")], HANDBOOK, "known")


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
def test_arrays_of_records_written_alike_are_read_as_by_the_general_way(
    name: str, data: st.DataObject
) -> None:
    schema = SCHEMAS[name]
    roles = {column: role for role, column in schema.roles.items()}
    ids = st.one_of(st.integers(-1, 10**19), st.from_regex(r"[A-Za-z0-9_-]{1,66}", fullmatch=True))
    plain_values = {
        "transaction_id": ids,
        "event_time": st.datetimes(datetime(2025, 1, 1), datetime(2026, 3, 4)).map(
            lambda at: at.isoformat(timespec="milliseconds")
        ),
        "amount": st.one_of(st.integers(0, 10**10), st.floats(0, 1e10), st.just(-0.0)),
        "label": st.sampled_from([0, 1, None]),
    }
    kinds = {
        column: plain_values.get(roles.get(column, ""), st.one_of(ids, st.floats(-9, 9)))
        for column in schema.columns(labels="known")
    }
    row = st.fixed_dictionaries(kinds).map(lambda one: json.dumps(one).encode())
    records = data.draw(st.lists(row, min_size=1, max_size=3))
    check([*records * FEW_ROWS, records[0]], schema, "known")


@CHANGES
def test_one_other_among_many_leaves_all_to_the_general_way(changed: dict[str, object]) -> None:
    rows = [plain(row, TX_DATETIME=f"2026-03-04 05:05:{row % 60:02}") for row in range(99)]
    assert check(rows, HANDBOOK, "known")
    other = {"TX_DATETIME": "2026-03-04 05:06:07"} | changed
    if set(changed) == {"TX_DATETIME"}:
        other["TX_DATETIME"] = "2026-02-30 05:06:07"
    assert not check([*rows, plain(99, **other)], HANDBOOK, "known")
    assert not check([plain(99, **other), *rows], HANDBOOK, "known")


@pytest.mark.parametrize("name", ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID"])
@pytest.mark.parametrize("broken", [b"\xff", b"\xc3"])
def test_bytes_that_are_no_text_leave_all_to_the_general_way(name: str, broken: bytes) -> None:
    usual: dict[str, object] = {"TX_DATETIME": "2026-03-04 05:05:07", "CUSTOMER_ID": "c"}
    rows = [plain(row, **usual) for row in range(99)]
    assert check(rows, HANDBOOK, "ignored")
    value = "2026-03-04 05:05:0@" if name == "TX_DATETIME" else "a@"
    other = plain(99, **usual | {name: value}).replace(b"@", broken)
    assert not check([other, *rows], HANDBOOK, "ignored")
    assert not check([*rows, other], HANDBOOK, "ignored")


def test_members_of_nested_objects_are_not_those_of_the_record() -> None:
    first = b'{"id":"t%d","at":"2026-03-04T05:05:07","card":"c","x":'
    last = b'"paid":7,"lat":1.5,"mcc":"m","y":2}'
    rows = [first % row + b"1," + last for row in range(99)]
    assert check(rows, OWN, "ignored")
    for begin, end in ((b'{"z":0,', b"}"), (b'[{"z":0,', b"]}")):
        nested = first % 99 + begin + last + end
        assert not check([*rows, nested], OWN, "ignored")
        assert not check([*rows, nested, first % 100 + b"1," + last], OWN, "ignored")


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
def test_many_records_are_read_as_by_the_general_way(name: str, data: st.DataObject) -> None:
    records = data.draw(st.lists(record_of(SCHEMAS[name]), min_size=1, max_size=3))
    check([*records * FEW_ROWS, records[0]], SCHEMAS[name], "known")


def test_a_schema_with_dress_has_no_reader() -> None:
    composed = Schema("own", OWN.roles, composites={"card": ("a", "b")})
    assert PlainRecords.of(composed, "ignored", ORIGIN) is None
