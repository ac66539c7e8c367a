"""A stateful step on Prism has one bundle of a shard at a time, and fails with two.

Prism splits a bundle that makes no progress for some tenths of a second, as one that reads a
history, and gives the rest to another bundle at once, whatever its keys.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import DebugOptions

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.errors import fraud_error_in
from beam_fraud.features.hashing import IdHash
from beam_fraud.runners import launch
from beam_fraud.runners.submission import Submission
from beam_fraud.state.shard import Delta, Effects
from beam_fraud.transforms.stateful import Stateful
from tests.stream_process import ROOT

pytestmark = pytest.mark.slow

#: Batches of one row, which Prism puts into one bundle.
BATCHES = 8
#: Seconds that the first shard waits for a second one: Prism splits after 0.2, on a busy machine
#: later. The short ones are for a second one that should not come.
SHORT_PATIENCE, PATIENCE = 2.0, 30.0


@dataclass
class Seen:
    """The calls of a test's shards; the worker is a thread of this process."""

    restored: list[int] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)
    counts: list[int] = field(default_factory=list)
    patience: float = SHORT_PATIENCE


SEEN = Seen()


@pytest.fixture(autouse=True)
def seen() -> Iterator[Seen]:
    """An empty record of calls."""
    SEEN.__init__()  # type: ignore[misc]
    yield SEEN
    SEEN.second.set()


class Counting:
    """Numbers the rows; starts slowly, as a step that reads a history does."""

    waiting = False
    needed_from = 0

    def restore(self, kept: Sequence[bytes]) -> Effects:
        self._rows = len(kept)
        SEEN.restored.append(self._rows)
        if len(SEEN.restored) > 1:
            SEEN.second.set()
        SEEN.second.wait(SEEN.patience)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        self._rows += len(batch)
        counted = pa.RecordBatch.from_pydict({"count": [self._rows]})
        return Effects([counted], [Delta(b"row")])

    def merge(self, kept: Sequence[bytes]) -> bytes:
        raise NotImplementedError

    tick = finish = merge


def counting(number: int) -> Counting:
    return Counting()


def note(batch: pa.RecordBatch) -> None:
    SEEN.counts += batch.column("count").to_pylist()


def run(submission: Submission, name: str) -> None:
    batches = [pa.RecordBatch.from_pydict({"account_id": ["a"]})] * BATCHES
    state = Stateful(
        make=counting,  # type: ignore[arg-type]
        key=("account_id",),
        shards=1,
        step="count",
        hashing=IdHash.random(),
        checkpoint=None,
        run=name,
        repeats_nothing=submission.repeats_nothing,
    )

    def build(pipeline: beam.Pipeline) -> None:
        created = pipeline | beam.Create(batches, reshuffle=False)
        _ = created | state | "Note" >> beam.Map(note)

    launch.run(submission, build)


def test_a_slow_shard_has_one_bundle_at_a_time(prism: tuple[str, ...], seen: Seen) -> None:
    run(Submission.of(prism, 1, streaming=True), "one")
    assert seen.restored == [0]
    assert sorted(seen.counts) == list(range(1, BATCHES + 1))


def run_with_splits(prism: Sequence[str]) -> NoReturn:
    """Run on a Prism without the experiment; print the failure and exit."""
    submission = Submission.of(prism, 1, streaming=True)
    submission.options.view_as(DebugOptions).experiments = []
    SEEN.patience = PATIENCE
    try:
        run(submission, "split")
    except RuntimeError as error:
        print(fraud_error_in(error), SEEN.restored, SEEN.counts, flush=True)
    # The bundle that was first is still at work.
    os._exit(0)


def test_two_bundles_of_a_shard_at_once_fail_the_run(prism: tuple[str, ...]) -> None:
    call = f"from {__name__} import run_with_splits; run_with_splits({prism!r})"
    # A process of its own, as Beam leaves the other bundle running.
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.startswith("shard 0 of count: the runner had two bundles of it at once")
    assert done.stdout.endswith(" [0] []\n")
