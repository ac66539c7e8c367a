"""Messages in a registry's framing: the records of JSON, however they are encoded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.records.labels import read_labels
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.kafka import registry as registry_module
from beam_fraud.sources.kafka.registry import RegistrySettings, SchemaRegistry
from beam_fraud.sources.raw import POSITION
from benchmarks.hostile import hostile_messages
from deploy.kafka.registry import StandIn, schema_registry
from tests.certificates import certificates
from tests.failing import fails
from tests.records.test_envelopes import raw_of

ROLES = """
[roles]
transaction_id = "id"
event_time = "at"
account_id = "card.number"
amount = "value"
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
"""
SCHEMA = schema_from_toml(ROLES)

CARD: dict[str, Any] = {
    "type": "record",
    "name": "Card",
    "namespace": "bank",
    "fields": [{"name": "number", "type": "string"}],
}
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Tx",
    "namespace": "bank",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "card", "type": CARD},
        {"name": "value", "type": "double"},
        {"name": "mcc", "type": ["null", "string"], "default": None},
    ],
}
JSON_SCHEMA = {"title": "Tx", "type": "object", "properties": {"id": {"type": "integer"}}}

rows = st.lists(
    st.builds(
        dict,
        id=st.integers(0, 2**62),
        at=st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)).map(
            lambda moment: moment.replace(tzinfo=UTC)
        ),
        card=st.builds(dict, number=st.text("0123456789", min_size=1, max_size=9)),
        value=st.floats(0, 1e6),
        mcc=st.none() | st.sampled_from(["5411", "7995"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row["id"],
)


@pytest.fixture(scope="module")
def registry() -> Iterator[StandIn]:
    with schema_registry() as stand_in:
        yield stand_in


def read(payloads: list[bytes | None], registry: StandIn, schema=SCHEMA) -> Arrived:
    settings = RegistrySettings(registry.url)
    parsed = parse(raw_of(payloads), schema, labels="ignored", registry=settings)
    checked = validate_arrivals(parsed, schema, labels="ignored", ahead=None, now=None)
    counted = len(checked.transactions) + len(checked.dead) + checked.skipped.total()
    assert counted == len(payloads)
    return checked


def plain(row: dict[str, Any]) -> bytes:
    return json.dumps({**row, "at": row["at"].isoformat()}).encode()


def as_json(values: list[dict[str, Any]]) -> pa.RecordBatch:
    parsed = parse(raw_of([plain(row) for row in values]), SCHEMA, labels="ignored")
    checked = validate_arrivals(parsed, SCHEMA, labels="ignored", ahead=None, now=None)
    assert not len(checked.dead)
    return checked.transactions


def message_type() -> tuple[Any, Any]:
    """Return the classes of transactions and cards in Protobuf, which refer to two other files."""
    card = FileDescriptorProto(name="bank/card.proto", package="bank", syntax="proto3")
    inner = card.message_type.add(name="Card")
    inner.field.add(name="number", number=1, type=FieldDescriptorProto.TYPE_STRING)
    file = FileDescriptorProto(name="bank/tx.proto", package="bank", syntax="proto3")
    file.dependency.extend(["bank/card.proto", "google/protobuf/timestamp.proto"])
    file.message_type.add(name="Unused")
    tx = file.message_type.add(name="Tx")
    kinds = FieldDescriptorProto
    tx.field.add(name="id", number=1, type=kinds.TYPE_UINT64)
    stamp = ".google.protobuf.Timestamp"
    tx.field.add(name="at", number=2, type=kinds.TYPE_MESSAGE, type_name=stamp)
    tx.field.add(name="card", number=3, type=kinds.TYPE_MESSAGE, type_name=".bank.Card")
    tx.field.add(name="value", number=4, type=kinds.TYPE_DOUBLE)
    tx.field.add(name="mcc", number=5, type=kinds.TYPE_STRING, proto3_optional=True, oneof_index=0)
    tx.oneof_decl.add(name="_mcc")
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(card)
    pool.Add(file)
    found = [GetMessageClass(pool.FindMessageTypeByName(f"bank.{name}")) for name in ("Tx", "Card")]
    return found[0], found[1]


TX, CARD_MESSAGE = message_type()


def protobuf_of(row: dict[str, Any]) -> Any:
    message = TX(id=row["id"], card=CARD_MESSAGE(**row["card"]), value=row["value"])
    message.at.FromDatetime(row["at"])
    if row["mcc"] is not None:
        message.mcc = row["mcc"]
    return message


def serialiser(form: str, registry: StandIn) -> Callable[[dict[str, Any]], bytes]:
    """Return Confluent's own serialiser, as producers use it."""
    client = SchemaRegistryClient({"url": registry.url})
    about = SerializationContext("orders", MessageField.VALUE)
    if form == "avro":
        avro = AvroSerializer(client, json.dumps(AVRO))
        return lambda row: avro(row, about)  # type: ignore[return-value]
    if form == "protobuf":
        of_type = ProtobufSerializer(TX, client, {"use.deprecated.format": False})
        return lambda row: of_type(protobuf_of(row), about)  # type: ignore[return-value]
    by_schema = JSONSerializer(json.dumps(JSON_SCHEMA), client)
    return lambda row: by_schema(  # type: ignore[return-value]
        {**row, "at": row["at"].isoformat()}, about
    )


@pytest.mark.parametrize("form", ["avro", "protobuf", "json"])
@given(values=rows)
@settings(max_examples=15, deadline=None)
def test_messages_of_every_form_are_the_same_transactions(
    form: str, registry: StandIn, values: list[dict[str, Any]]
) -> None:
    encode = serialiser(form, registry)
    checked = read([encode(row) for row in values], registry)
    assert not len(checked.dead), checked.dead.to_pylist()
    assert checked.transactions.equals(as_json(values))


@given(values=rows, data=st.data())
@settings(max_examples=15, deadline=None)
def test_forms_tombstones_and_damage_mix(
    registry: StandIn, values: list[dict[str, Any]], data: st.DataObject
) -> None:
    encoders = [serialiser(form, registry) for form in ("avro", "protobuf", "json")]
    payloads: list[bytes | None] = []
    good = []
    for row in values:
        whole = data.draw(st.sampled_from([*encoders, plain]))(row)
        kind = data.draw(st.sampled_from(["whole", "whole", "cut", "none", "unknown"]))
        if kind == "whole":
            good.append(row)
            payloads.append(whole)
        elif kind == "cut":
            payloads.append(whole[: data.draw(st.integers(1, 6))])
        else:
            payloads.append(None if kind == "none" else b"\0\0\xff\xff\xff" + whole[5:])
    checked = read(payloads, registry)
    assert checked.skipped.total() == payloads.count(None)
    assert checked.transactions.column("transaction_id").to_pylist() == [str(r["id"]) for r in good]
    if good:
        columns = ["event_time", "account_id", "amount", "mcc"]
        assert checked.transactions.select(columns).equals(as_json(good).select(columns))


def avro(number: int, schema: dict[str, Any], row: dict[str, Any]) -> bytes:
    import io

    import fastavro

    message = io.BytesIO()
    fastavro.schemaless_writer(message, fastavro.parse_schema(schema), row)
    return struct.pack(">bI", 0, number) + message.getvalue()


ROW = {
    "id": 1,
    "at": datetime(2024, 2, 8, 6, tzinfo=UTC),
    "card": {"number": "7"},
    "value": 1.5,
    "mcc": "5411",
}


def test_a_schema_refers_to_others(registry: StandIn) -> None:
    registry.add(json.dumps(CARD), subject="card")
    fields = [
        f if f["name"] != "card" else {"name": "card", "type": "bank.Card"} for f in AVRO["fields"]
    ]
    number = registry.add(
        json.dumps({**AVRO, "fields": fields}), references=[("bank.Card", "card")]
    )
    checked = read([avro(number, AVRO, ROW)], registry)
    assert checked.transactions.drop_columns([POSITION]).equals(
        as_json([ROW]).drop_columns([POSITION])
    )


def test_other_types_of_avro_and_of_later_versions_are_read(registry: StandIn) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    types = {
        "id": {"type": "string", "logicalType": "uuid"},
        "at": {"type": "int", "logicalType": "date"},
        "value": decimal,
        "mcc": {"type": "enum", "name": "Mcc", "symbols": ["A5411", "B"]},
    }
    fields = [{"name": f["name"], "type": types.get(f["name"], f["type"])} for f in AVRO["fields"]]
    later = {**AVRO, "fields": [*fields, {"name": "new", "type": "string"}]}
    number, before = registry.add(json.dumps(later)), registry.add(json.dumps(AVRO))
    key = "01234567-89ab-cdef-0123-456789abcdef"
    row = {**ROW, "id": key, "at": date(2024, 2, 8), "value": Decimal("12.50"), "mcc": "A5411"}
    messages = [avro(number, later, {**row, "new": "x"}), avro(before, AVRO, ROW)]
    (first,) = read(messages[:1], registry).transactions.to_pylist()
    assert (first["transaction_id"], first["amount"], first["mcc"]) == (key, 12.5, "A5411")
    assert first["event_time"] == datetime(2024, 2, 8, tzinfo=UTC)
    both = read(messages, registry)
    assert both.transactions.column("amount").to_pylist() == [12.5, 1.5]
    assert both.transactions.column("transaction_id").to_pylist() == [key, "1"]


def test_changes_by_debezium_in_avro(registry: StandIn) -> None:
    schema = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", AVRO], "default": None},
            {"name": "after", "type": ["null", "bank.Tx"], "default": None},
            {"name": "op", "type": "string"},
        ],
    }
    number = registry.add(json.dumps(schema))
    changes = [
        {"after": ROW, "op": "c"},
        {"before": ROW, "after": ROW, "op": "u"},
        {"before": ROW, "op": "d"},
    ]
    unwrapped = schema_from_toml(f'{ROLES}\n[source]\nunwrap = "debezium"\n')
    checked = read([*(avro(number, schema, c) for c in changes), None], registry, unwrapped)
    assert checked.transactions.drop_columns([POSITION]).equals(
        as_json([ROW]).drop_columns([POSITION])
    )
    assert dict(checked.skipped) == {"correction": 1, "tombstone": 2}


@pytest.mark.parametrize(
    ("column", "type", "value"),
    [
        ("value", {"type": "array", "items": "double"}, [1.0]),
        ("value", "boolean", True),
        ("value", {"type": "int", "logicalType": "date"}, date(2024, 1, 1)),
        ("id", {"type": "array", "items": "long"}, [1]),
        ("id", "double", 1.5),
        ("at", "boolean", True),
        ("mcc", {"type": "map", "values": "int"}, {"a": 1}),
    ],
)
def test_values_of_a_wrong_type_are_dead_letters(
    registry: StandIn, column: str, type: Any, value: Any
) -> None:
    fields = [{"name": column, "type": type} if f["name"] == column else f for f in AVRO["fields"]]
    schema = {**AVRO, "fields": fields}
    message = avro(registry.add(json.dumps(schema)), schema, {**ROW, column: value})
    (dead,) = read([message], registry).dead.to_pylist()
    assert dead["reason"] in ("wrong_type", "unparseable_time")
    assert column in dead["detail"]
    assert dead["payload"] == message


def test_a_number_that_the_registry_does_not_have_costs_only_its_messages(
    registry: StandIn,
) -> None:
    number = registry.add(json.dumps(AVRO))
    asked = len(registry.asked)
    checked = read([avro(9_999, AVRO, ROW), avro(number, AVRO, ROW)], registry)
    assert (len(checked.transactions), len(checked.dead)) == (1, 1)
    read([avro(9_999, AVRO, ROW)] * 3, registry)
    # It is asked once for each number.
    assert len(registry.asked) == asked + 2


def test_labels_are_read_by_their_schema(registry: StandIn) -> None:
    schema = {
        "type": "record",
        "name": "Label",
        "fields": [
            {"name": "transaction_id", "type": "string"},
            {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "label", "type": "boolean"},
            {"name": "labelled_at", "type": "string"},
        ],
    }
    number = registry.add(json.dumps(schema))
    row = {"transaction_id": "t1", "event_time": ROW["at"], "label": True}
    message = avro(number, schema, {**row, "labelled_at": "2024-02-09T00:00:00Z"})
    labels, dead = read_labels(raw_of([message]), RegistrySettings(registry.url))
    assert not len(dead)
    (label,) = labels.to_pylist()
    assert (label["transaction_id"], label["label"], label["event_time"]) == ("t1", 1, ROW["at"])


def test_protobuf_as_text_is_refused_in_one_line(registry: StandIn) -> None:
    message = serialiser("protobuf", registry)(ROW)
    with fails(Code.REGISTRY_REFUSED, "serialised"), schema_registry() as other:
        other.text_only, other.schemas, other.subjects = True, registry.schemas, registry.subjects
        read([message], other)


def test_a_login_and_tls_are_used_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificates(tmp_path)
    monkeypatch.setenv("REGISTRY_LOGIN", "reader:s3cret-word")
    with schema_registry(made.context) as stand_in:
        stand_in.login = "reader:s3cret-word"
        properties = (
            ("ssl.ca.location", str(made.ca_file)),
            ("basic.auth.user.info", "env:REGISTRY_LOGIN"),
        )
        SchemaRegistry(RegistrySettings(stand_in.url, properties)).check()
        stand_in.login = "reader:another"
        with pytest.raises(FraudError) as refused:
            SchemaRegistry(RegistrySettings(stand_in.url, properties)).check()
    assert refused.value.code == Code.REGISTRY_REFUSED
    assert "s3cret-word" not in str(refused.value)


def test_a_registry_that_is_silent_is_asked_again(
    registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_PAUSE", 0.01)
    number = registry.add(json.dumps(AVRO))
    client = SchemaRegistry(RegistrySettings(registry.url, (("max.retries", "0"),)))
    registry.broken = 503
    answers = iter([503, 503, None])
    monkeypatch.setattr(
        registry_module.time, "sleep", lambda _: setattr(registry, "broken", next(answers))
    )
    assert client.schema(number) is not None
    registry.broken = 503
    monkeypatch.setattr(registry_module.time, "sleep", lambda _: None)
    monkeypatch.setattr(registry_module, "PATIENCE", 0.0)
    silent = SchemaRegistry(RegistrySettings(registry.url, (("max.retries", "0"),)))
    with fails(Code.REGISTRY_SILENT, registry.url):
        silent.check()
    registry.broken = None


@pytest.mark.parametrize(
    ("url", "properties", "code"),
    [
        ("registry:8081", (), Code.OPTION_VALUE),
        ("http://me:secret@registry", (), Code.OPTION_VALUE),
        ("http://registry", (("basic.auth.user.info", "me:secret"),), Code.SECRET_EXPOSED),
        ("http://registry", (("subject.name.strategy", "x"),), Code.KAFKA_PROPERTY),
        ("http://registry", (("url", "x"),), Code.KAFKA_PROPERTY),
    ],
)
def test_wrong_settings_are_a_wrong_call(
    url: str, properties: tuple[tuple[str, str], ...], code: Code
) -> None:
    with pytest.raises(UsageError) as refused:
        RegistrySettings(url, properties)
    assert refused.value.code == code
    assert "secret" not in str(refused.value).replace("a secret", "")


def test_an_unknown_property_is_a_wrong_call() -> None:
    with fails(Code.KAFKA_PROPERTY, "colour"):
        SchemaRegistry(RegistrySettings("http://registry", (("colour", "red"),)))


def test_hostile_messages_cost_only_themselves(registry: StandIn) -> None:
    number = registry.add(json.dumps(AVRO))
    frame = struct.pack(">bI", 0, number)
    good = avro(number, AVRO, ROW)
    hostile = [one.payload for one in hostile_messages(300, seed=5)]
    payloads = [good, *(frame + payload for payload in hostile), *hostile, good]
    for unwrap in ("", '[source]\nunwrap = "debezium"\n', '[source]\nunwrap = "cloudevents"\n'):
        checked = read(payloads, registry, schema_from_toml(f"{ROLES}\n{unwrap}"))
        if "debezium" not in unwrap:
            assert checked.transactions.column("transaction_id").to_pylist() == ["1", "1"]
