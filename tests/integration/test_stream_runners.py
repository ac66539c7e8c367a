"""The graph of a stream gives the same rows on every runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.commands.stream import StreamOptions, run
from beam_fraud.simulate.messages import handbook_messages
from benchmarks.hostile import hostile_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce

ROWS = 2_000
BAD = 20


@pytest.fixture(scope="session")
def published(broker: Broker, month: pa.Table) -> str:
    """A topic of two partitions: transactions, each tenth twice, and what is none."""
    name = "every-runner"
    broker.create_topic(name, 2)
    (first,) = handbook_messages(month.slice(0, ROWS).combine_chunks(), ROWS)
    keys = [key.encode() for key in first.keys]
    produce(broker, name, first.values, keys=keys)
    produce(broker, name, first.values[::10], keys=keys[::10])
    produce(broker, name, [message.payload for message in hostile_messages(BAD, 1, largest=5_000)])
    return name


Outcome = tuple[pa.Table, pa.Table, pa.Table, dict[str, object]]
Stream = Callable[..., Outcome]


@pytest.fixture
def streamed(broker: Broker, published: str, bundle: Path, tmp_path: Path) -> Stream:
    """Scores the topic on a runner: scores, dead letters, flagged rows, summary."""

    def stream(name: str, *beam_args: str) -> Outcome:
        out, flagged = tmp_path / name, tmp_path / f"{name}-flagged"
        options = StreamOptions(
            kafka=broker.bootstrap,
            topic=published,
            start="earliest",
            model=str(bundle),
            out=str(out),
            sink=f"parquet:{flagged}",
            # What is spread over shards reaches those of the next key out of order.
            lateness="30d",
            until_idle=3.0,
            shards=3 if beam_args else None,
            roll_seconds=1.0,
            beam_args=beam_args,
        )
        summary = run(options)
        by = [("source", "ascending"), ("position", "ascending")]
        return (
            pq.read_table(out / "scores").sort_by("transaction_id"),
            pq.read_table(out / "dead_letters").sort_by(by),
            pq.read_table(flagged).sort_by("transaction_id"),
            summary,
        )

    return stream


def assert_same(found: Outcome, expected: Outcome) -> None:
    for table, other in zip(found[:3], expected[:3], strict=True):
        assert table.equals(other)
    scores, dead, flagged, _ = found
    assert (len(scores), len(dead)) == (ROWS, BAD)
    assert len(flagged) == scores["flagged"].to_pylist().count(True) > 10


def test_this_machine_counts_every_row(streamed: Stream) -> None:
    scores, _, flagged, summary = streamed("here")
    assert summary["rows_in"] == ROWS + ROWS // 10 + BAD
    assert summary["rows_scored"] == len(scores) == ROWS
    assert summary["rows_dead"] == BAD
    assert summary["rows_duplicate"] == ROWS // 10
    assert summary["rows_flagged"] == len(flagged)


@pytest.mark.slow
def test_prism_gives_the_same_rows(streamed: Stream, prism: Path) -> None:
    found = streamed("prism", "--runner=PrismRunner", f"--prism_location={prism}")
    assert_same(found, streamed("here"))


@pytest.mark.slow
def test_flink_gives_the_same_rows(streamed: Stream, flink_job_server: str) -> None:
    found = streamed(
        "flink",
        "--runner=PortableRunner",
        f"--job_endpoint={flink_job_server}",
        "--environment_type=LOOPBACK",
        "--parallelism=2",
        "--checkpointing_interval=1000",
    )
    assert_same(found, streamed("here"))
