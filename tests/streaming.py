"""Runs a stream on the local runner and collects its raw batches in files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.unbounded_source import UnboundedSource
from apache_beam.runners.runner import PipelineResult

from beam_fraud.runners.launch import run
from beam_fraud.runners.submission import Submission
from beam_fraud.sources.kafka.source import KafkaSource
from beam_fraud.sources.raw import PAYLOAD, POSITION, origin_of
from beam_fraud.transforms.read_stream import ReadStream

#: Seconds that a test waits for what must come.
PATIENCE = 60.0


class Collect(beam.DoFn):
    """Writes each batch to its own file, named in the order of writing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def process(self, batch: pa.RecordBatch) -> None:
        path = self._directory / f"{time.monotonic_ns():020}.part"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        path.rename(path.with_suffix(".arrow"))


def read_stream(source: UnboundedSource, directory: Path) -> PipelineResult:
    """Run a stream to its end."""
    directory.mkdir(parents=True, exist_ok=True)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | ReadStream(source, str(directory)) | beam.ParDo(Collect(directory))

    return run(Submission.of([], 1), build)


def collected(directory: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Return positions and payloads by source, in the order of arrival."""
    result: dict[str, list[tuple[int, bytes]]] = {}
    for path in sorted(directory.glob("*.arrow")):
        with pa.OSFile(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        rows = zip(
            batch.column(POSITION).to_pylist(), batch.column(PAYLOAD).to_pylist(), strict=True
        )
        result.setdefault(origin_of(batch).source, []).extend(rows)
    return result


def payloads(directory: Path) -> list[bytes]:
    """The payloads of all rows, sorted."""
    return sorted(payload for rows in collected(directory).values() for _, payload in rows)


@contextmanager
def streaming(source: KafkaSource, directory: Path) -> Iterator[None]:
    """Run a stream during the `with` block, and stop it at the end."""
    stop = directory.parent / f"{directory.name}.stop"
    stop.unlink(missing_ok=True)
    raised: list[BaseException] = []

    def target() -> None:
        try:
            read_stream(replace(source, stop_file=str(stop)), directory)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        stop.touch()
        thread.join(PATIENCE)
    assert not thread.is_alive(), "the stream has not stopped"
    if raised:
        raise raised[0]


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
