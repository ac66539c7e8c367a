"""The graph of a stream gives the same rows on every runner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.simulate.messages import handbook_messages
from benchmarks.hostile import hostile_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.stream_process import UNTIL_IDLE, Stream, stream_command, wait_until

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


@pytest.fixture
def stream(
    broker: Broker, published: str, bundle: Path, tmp_path: Path
) -> Iterator[Callable[..., Stream]]:
    """Makes processes that score the topic: name and further options in."""
    made = list[Stream]()

    def make(name: str, *options: str) -> Stream:
        options = ("--sink", f"parquet:{tmp_path / name}-flagged", "--roll-seconds=1", *options)
        # What is spread over shards reaches those of the next key out of order.
        options += ("--lateness", "30d")
        command = stream_command(broker, published, bundle, tmp_path / name, *options)
        made.append(Stream(command, tmp_path / name))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.kill()


Left = tuple[pa.Table, pa.Table, pa.Table, dict[str, object]]


def left(out: Path) -> Left:
    """What a stream has left: scores, dead letters, flagged rows, summary."""
    by = [("source", "ascending"), ("position", "ascending")]
    return (
        pq.read_table(out / "scores").sort_by("transaction_id"),
        pq.read_table(out / "dead_letters").sort_by(by),
        pq.read_table(f"{out}-flagged").sort_by("transaction_id"),
        json.loads((out / "summary.json").read_text("utf-8")),
    )


@pytest.fixture
def here(stream: Callable[..., Stream], tmp_path: Path) -> Left:
    """What the stream leaves that runs in its own process, without another runner."""
    one = stream("here", *UNTIL_IDLE)
    one.wait_for_end()
    return left(tmp_path / "here")


def assert_same(found: Left, expected: Left) -> None:
    for table, other in zip(found[:3], expected[:3], strict=True):
        assert table.equals(other)
    for name in ("rows_in", "rows_scored", "rows_flagged", "rows_dead", "rows_duplicate"):
        assert found[3][name] == expected[3][name]


def archived(out: Path) -> int:
    """Rows in the visible files of scores and dead letters."""
    parts = [*out.glob("scores/part-*.parquet"), *out.glob("dead_letters/part-*.parquet")]
    return sum(pq.read_metadata(part).num_rows for part in parts)


def stopped_when_all_is_archived(one: Stream, out: Path) -> Left:
    """What a stream leaves that gets a SIGTERM once it has written all rows."""
    assert wait_until(lambda: archived(out) >= ROWS + BAD or not one.runs)
    one.stop()
    one.wait_for_end()
    return left(out)


def test_this_machine_counts_every_row(here: Left) -> None:
    scores, dead, flagged, summary = here
    assert summary["rows_in"] == ROWS + ROWS // 10 + BAD
    assert summary["rows_scored"] == len(scores) == ROWS
    assert summary["rows_dead"] == len(dead) == BAD
    assert summary["rows_duplicate"] == ROWS // 10
    assert summary["rows_flagged"] == len(flagged) > 10
    assert len(flagged) == scores["flagged"].to_pylist().count(True)


@pytest.mark.slow
def test_prism_gives_the_same_rows(
    stream: Callable[..., Stream], prism: Path, here: Left, tmp_path: Path
) -> None:
    runner = ("--runner=PrismRunner", f"--prism_location={prism}", "--shards=3")
    stream("prism", *runner, "--until-idle", "3").wait_for_end()
    assert_same(left(tmp_path / "prism"), here)


@pytest.mark.slow
def test_prism_gives_the_same_rows_when_it_is_stopped(
    stream: Callable[..., Stream], prism: Path, here: Left, tmp_path: Path
) -> None:
    runner = ("--runner=PrismRunner", f"--prism_location={prism}", "--shards=3")
    one = stream("prism", *runner)
    assert_same(stopped_when_all_is_archived(one, tmp_path / "prism"), here)


@pytest.fixture
def flink(flink_job_server: str) -> tuple[str, ...]:
    """Options of a stream on Flink."""
    runner = ("--runner=PortableRunner", f"--job_endpoint={flink_job_server}", "--parallelism=2")
    return (*runner, "--environment_type=LOOPBACK", "--shards=3")


@pytest.mark.slow
def test_flink_gives_the_same_rows_when_it_is_stopped(
    stream: Callable[..., Stream], flink: tuple[str, ...], here: Left, tmp_path: Path
) -> None:
    one = stream("flink", *flink)
    assert_same(stopped_when_all_is_archived(one, tmp_path / "flink"), here)
