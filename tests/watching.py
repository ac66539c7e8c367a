"""Run a stream over a watched directory as the graph does; die where a test says so."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.unbounded_source import ReadFromUnboundedSource

from beam_fraud.runners.launch import run
from beam_fraud.runners.submission import Submission
from beam_fraud.sources.raw import POSITION, origin_of
from beam_fraud.sources.watch.position import WATCH, WatchPosition
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.transforms.parse import DEAD, VALID, Parse, Validate


class Collect(beam.DoFn):
    """Appends each row to a file as a JSON record."""

    def __init__(self, to: Path, die_at: int | None, moves: tuple[tuple[Path, Path], ...]) -> None:
        self._to = to
        self._die_at = die_at
        self._moves = list(moves)
        self._batches = 0

    def process(self, batch: pa.RecordBatch) -> Iterator[None]:
        self._batches += 1
        if self._batches == self._die_at:
            os._exit(9)
        if self._moves:
            source, target = self._moves.pop()
            source.rename(target)
        with self._to.open("a") as file:
            for row in rows_of(batch):
                file.write(json.dumps(row) + "\n")
        yield from ()


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of transactions or dead letters with their sources."""
    if POSITION not in batch.schema.names:
        return [{**row, "payload": row["payload"].decode()} for row in batch.to_pylist()]
    origin = origin_of(batch)
    positions, ids = batch.column(POSITION), batch.column("transaction_id")
    return [
        {"source": origin.source, "position": p, "id": id, "appended": origin.appended}
        for p, id in zip(positions.to_pylist(), ids.to_pylist(), strict=True)
    ]


def stream(
    source: WatchSource,
    out: Path,
    *,
    die_at: int | None = None,
    moves: tuple[tuple[Path, Path], ...] = (),
    batches_a_bundle: int = 2,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read the dropped files until the source ends; the checkpoint is in `out`.

    Args:
      source: what to read.
      out: where what comes is collected.
      die_at: the process dies when this batch of transactions comes.
      moves: files that are moved when the first batches come, the last of them first.
      batches_a_bundle: batches between two commits.

    Returns:
      The transactions and the dead letters of all runs.
    """
    state = out / "state.db"
    good, dead = out / "good.jsonl", out / "dead.jsonl"
    checkpoint = LocalCheckpoint.at(state)
    source = replace(source, checkpoint=state, positions=checkpoint.positions().get(WATCH))

    def build(pipeline: beam.Pipeline) -> None:
        read = ReadFromUnboundedSource(source, 0.01, batches_a_bundle, 0.2)
        checked = (
            pipeline
            | read
            | Parse(source.schema, source.labels)
            | Validate(source.schema, source.labels)
        )
        _ = checked[VALID] | "Good" >> beam.ParDo(Collect(good, die_at, moves))
        _ = checked[DEAD] | "Dead" >> beam.ParDo(Collect(dead, None, ()))

    try:
        run(Submission.of([], 1), build)
    finally:
        checkpoint.close()
    return _read(good), _read(dead)


def position_in(out: Path) -> WatchPosition:
    """Return the last committed position."""
    checkpoint = LocalCheckpoint(out / "state.db")
    try:
        return WatchPosition.decode(checkpoint.positions()[WATCH])
    finally:
        checkpoint.close()


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
