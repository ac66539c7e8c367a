"""Predictions without state: the parsing and validation of the pipeline, and a simple score."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import Schema
from beam_fraud.serve.http.access_log import AccessLogSettings
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.http.openapi import Api
from beam_fraud.serve.http.server import HttpServer
from beam_fraud.serve.http.tokens import TokenSource
from beam_fraud.serve.metrics import Metrics
from beam_fraud.serve.predictions import Call, Fault, Readiness
from beam_fraud.sources.raw import POSITION, Origin, with_origin

TOKEN = "correct-horse-battery-staple"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
#: A transaction of the handbook's schema.
GOOD = {
    "TRANSACTION_ID": "7",
    "TX_DATETIME": "2026-03-14T15:09:26Z",
    "CUSTOMER_ID": "596",
    "TERMINAL_ID": "3156",
    "TX_AMOUNT": 57.5,
}


@dataclass(frozen=True)
class StandInAnswers:
    """Answers as dictionaries."""

    rows: list[dict[str, Any]]

    @property
    def errors(self) -> int:
        return sum("error" in row for row in self.rows)

    def json(self, *, array: bool) -> bytes:
        return msgspec.json.encode(self.rows if array else self.rows[0])

    def ipc(self) -> bytes:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist([{"score": row.get("score")} for row in self.rows])
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    def problem(self) -> Fault:
        return Fault(**self.rows[0]["error"])


@dataclass
class StandIn:
    """Validates rows as the pipeline does; keeps what it was asked."""

    schema: Schema = HANDBOOK
    calls: list[Call] = field(default_factory=list)
    #: Raised instead of an answer.
    raises: Exception | None = None
    ready: Readiness = field(default_factory=lambda: Readiness(True))
    #: Answers wait for it.
    gate: asyncio.Event | None = None
    loop: asyncio.AbstractEventLoop | None = None
    ended: list[str] = field(default_factory=list)

    async def predict(self, call: Call) -> StandInAnswers:
        self.loop = asyncio.get_running_loop()
        self.calls.append(call)
        if self.gate is not None:
            await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        if call.table is not None:
            return StandInAnswers([self._answer({}, call)] * call.table.num_rows)
        return StandInAnswers([self._of(record, call) for record in call.records])

    def _of(self, record: bytes, call: Call) -> dict[str, Any]:
        good, dead = read(record, self.schema)
        if good:
            return self._answer(good[0], call)
        detail = dead[0]["detail"]
        column, _, _ = detail.partition(":")
        known = column in self.schema.columns(labels="ignored")
        error = {"code": dead[0]["reason"], "field": column if known else None, "detail": detail}
        return {"error": error}

    def _answer(self, row: dict[str, Any], call: Call) -> dict[str, Any]:
        answer = {
            "transaction_id": row.get("transaction_id"),
            "score": 0.25,
            "decision": "approve",
            "flagged": False,
            "rules": [],
            "reasons": [],
            "model_id": "stand-in@0",
        }
        return {**answer, "features": {"amount": row.get("amount")}} if call.features else answer

    def readiness(self) -> Readiness:
        return self.ready

    def about(self) -> dict[str, object]:
        return {"model_id": "stand-in@0"}

    def drain(self) -> None:
        self.ended.append("drain")

    def close(self) -> None:
        self.ended.append("close")


def read(record: bytes, schema: Schema) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parse and validate one record; return the transaction or the dead letter."""
    fields = pa.schema([pa.field(POSITION, pa.int64()), pa.field("@payload", pa.binary())])
    raw = pa.RecordBatch.from_arrays(
        [pa.array([0], pa.int64()), pa.array([record], pa.binary())],
        schema=with_origin(fields, Origin("serve", "jsonl")),
    )
    good, dead = validate(parse(raw, schema, labels="ignored"), schema, labels="ignored")
    return good.to_pylist(), dead.to_pylist()


@dataclass(frozen=True)
class Served:
    """A running server."""

    server: HttpServer
    predictions: StandIn
    metrics: Metrics

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def port(self) -> int:
        return self.server.port


@contextmanager
def served(
    predictions: StandIn | None = None,
    *,
    tokens: TokenSource | None = None,
    limits: Limits | None = None,
    listen: Listen | None = None,
    log: Path | None = None,
    form: str = "json",
) -> Iterator[Served]:
    """Run a server in a thread; on a free port, with the token `TOKEN`."""
    predictions = predictions or StandIn()
    metrics = Metrics()
    server = HttpServer(
        predictions,
        Api(predictions.schema, "ignored", "stand-in@0", ("amount",)),
        listen or Listen(port=0),
        limits=limits or Limits(),
        tokens=tokens or TokenSource(text=f"test={TOKEN}"),
        metrics=metrics,
        log=AccessLogSettings(form, log, on=log is not None),  # type: ignore[arg-type]
    )
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,))
    thread.start()
    try:
        assert started.wait(10)
        yield Served(server, predictions, metrics)
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
