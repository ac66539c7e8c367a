"""Throughput of a stream of Avro in a registry's framing, beside the same transactions as JSON."""

from __future__ import annotations

import io
import json
import shutil
import statistics
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import fastavro
import pyarrow.parquet as pq

from beam_fraud.simulate.messages import Messages, handbook_messages
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.stream_load import Sender, send_all
from benchmarks.stream_run import Caught, catch_up, java_is_here, new_topic, running_broker
from benchmarks.table import Ratio, figure
from deploy.kafka.broker import Broker
from deploy.kafka.registry import schema_registry

#: Messages in each topic.
ROWS = 1_000_000
#: Bounds are for at least so many.
_BOUND_ROWS = 500_000
_AT_ONCE = 20_000
#: The columns of the simulator.
_AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Transaction",
    "fields": [
        {"name": "TRANSACTION_ID", "type": "long"},
        {"name": "TX_DATETIME", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "CUSTOMER_ID", "type": "long"},
        {"name": "TERMINAL_ID", "type": "long"},
        {"name": "TX_AMOUNT", "type": "double"},
        {"name": "TX_FRAUD", "type": "int"},
    ],
}


def measure_avro(plan: Plan, results: Results) -> None:
    """Read a topic of JSON and one of Avro to their ends; the broker shares the cores."""
    if not java_is_here("stream-avro"):
        return
    rows = min(ROWS, plan.inputs.rows)
    file = pq.ParquetFile(plan.inputs.stream(rows))
    plan.inputs.stream_bundle()
    with running_broker(plan) as broker, schema_registry() as registry:
        number = registry.add(json.dumps(_AVRO))
        options = ("--schema-registry", registry.url)
        json_messages = _filled(broker, handbook_messages(file.read(), _AT_ONCE))
        avro_messages = _filled(broker, _avro_messages(file, number))
        caught: dict[str, list[Caught]] = {"JSON": [], "Avro": []}
        for _ in range(plan.repeat):
            for form, topic, more in (
                ("JSON", json_messages, ()),
                ("Avro", avro_messages, options),
            ):
                caught[form].append(catch_up(plan, f"stream, {form}", broker, topic, rows, *more))
                shutil.rmtree(caught[form][-1].out)
    for form, runs in caught.items():
        case = Case(f"stream, {form}", rows, (), "hist_gradient_boosting")
        results.figures.append(figure(case, [one.run for one in runs]))
    of_json, of_avro = (statistics.median(one.rate for one in runs) for runs in caught.values())
    bound = 60 if rows >= _BOUND_ROWS else None
    name = "stream of Avro, thousand messages/s, first consumed to last scored"
    results.ratios.append(Ratio(name, of_avro / 1000, bound, False))
    results.ratios.append(Ratio("messages/s of Avro / of JSON, stream", of_avro / of_json))


def _filled(broker: Broker, blocks: Iterator[Messages]) -> str:
    topic = new_topic(broker)
    send_all(Sender(broker.bootstrap, topic), blocks)
    return topic


def _avro_messages(file: pq.ParquetFile, number: int) -> Iterator[Messages]:
    schema = fastavro.parse_schema(_AVRO)
    columns = [field["name"] for field in _AVRO["fields"]]
    for batch in file.iter_batches(_AT_ONCE, columns=columns):
        rows = batch.to_pylist()
        for row in rows:
            row["TX_DATETIME"] = row["TX_DATETIME"].replace(tzinfo=UTC)
        values = [_framed(schema, row, number) for row in rows]
        yield Messages(values, [str(row["CUSTOMER_ID"]) for row in rows])


def _framed(schema: Any, row: dict[str, Any], number: int) -> bytes:
    message = io.BytesIO()
    message.write(b"\0" + number.to_bytes(4, "big"))
    fastavro.schemaless_writer(message, schema, row)
    return message.getvalue()
