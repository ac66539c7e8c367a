"""A refused call of a stream is one line and an exit code, and changes no files."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import StreamOptions, TrainOptions
from beam_fraud.simulate.messages import handbook_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.stream_process import Stream, stream_command, wait_until

pytestmark = pytest.mark.slow

ROWS = 200
#: The handbook's transactions with a single feature.
LEAN = """
name = "lean"
[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
label = "TX_FRAUD"
[[velocity]]
key = "account_id"
windows = ["1d"]
aggregates = ["count"]
"""
Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that makes a failing call and returns its line."""

    def call(code: int, *args: object) -> str:
        capsys.readouterr()
        assert main([str(arg) for arg in args]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("beam-fraud: ")
        assert "internal error" not in printed.err
        return printed.err.rstrip()

    return call


@pytest.fixture(scope="module")
def published(broker: Broker, month: pa.Table) -> str:
    """A topic of 200 transactions."""
    name = "refusals"
    broker.create_topic(name)
    (block,) = handbook_messages(month.slice(0, ROWS).combine_chunks(), ROWS)
    produce(broker, name, block.values)
    return name


def options_of(
    broker: Broker, topic: str, bundle: Path, out: Path, **more: object
) -> StreamOptions:
    return StreamOptions(
        kafka=broker.bootstrap,
        topic=topic,
        model=str(bundle),
        out=str(out),
        start="earliest",
        until_idle=0.5,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def left(
    broker: Broker, published: str, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The outputs `out` and `flagged` of a stream over the topic."""
    directory = tmp_path_factory.mktemp("left")
    sink = f"parquet:{directory / 'flagged'}"
    summary = run(options_of(broker, published, bundle, directory / "out", sink=sink))
    assert summary["rows_scored"] == ROWS
    return directory


@pytest.fixture
def out(left: Path, tmp_path: Path) -> Path:
    """A copy of the stream's directory, which the test may change."""
    shutil.copytree(left / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def base(broker: Broker, published: str, bundle: Path) -> list[object]:
    """Options of a valid call without `--out`."""
    kafka = ["stream", "--kafka", broker.bootstrap, "--topic", published]
    return [*kafka, "--model", bundle, "--start", "earliest", "--until-idle", "0.5"]


def instead(call: list[object], *more: object) -> list[object]:
    """Return the call with other and further options."""
    value = dict(zip(more[::2], more[1::2], strict=True))
    pairs = zip(call[1::2], call[2::2], strict=True)
    return [call[0], *(part for one in (dict(pairs) | value).items() for part in one)]


def contents(directory: Path) -> dict[str, bytes]:
    result = (path for path in directory.rglob("*.parquet") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in result}


def test_only_its_own_stream_resumes_a_state(
    refused: Refused,
    base: list[object],
    out: Path,
    topic: Callable[..., str],
    bundle: Path,
    month: pa.Table,
    inbox: Path,
) -> None:
    schema, transactions = out.with_name("lean.toml"), out.with_name("month.parquet")
    schema.write_text(LEAN)
    pq.write_table(month, transactions)
    lean = out.with_name("lean")
    train(
        TrainOptions(
            files=(str(transactions),), schema=str(schema), model="logistic", out=str(lean)
        )
    )
    before = contents(out)
    watching = ["stream", "--watch", inbox, "--model", bundle]
    for args, message in (
        (instead(base, "--topic", topic()), "another source (topic "),
        (instead(base, "--model", lean), "another set of velocity definitions ("),
        ([*base, "--shards", 2], "another number of shards (1, now 2)"),
        ([*base, "--lateness", "2h"], "another lateness (3600 s, now 7200 s)"),
        ([*base, "--reorder", 20], "another order (of arrival, now by event time)"),
        (watching, "another source (topic "),
    ):
        line = refused(1, *args, "--out", out)
        assert message in line
        assert line.endswith("or remove all of this one to start again [BF711]")
        assert str(out) in line
    for command in (["score", transactions, "--model", bundle], ["features", transactions]):
        schema_of = ["--schema", "handbook"] if command[0] == "features" else []
        line = refused(1, *command, *schema_of, "--out", out)
        assert f"--out {out}: has files of a stream" in line
    assert contents(out) == before


def lose_state(out: Path) -> None:
    for path in (out / "stream").glob("state.db*"):
        path.unlink()


def empty(out: Path) -> None:
    lose_state(out)
    (out / "stream/state.db").touch()


def garbage(out: Path) -> None:
    (out / "stream/state.db").write_bytes(b"no database" * 1_000)


def cut(out: Path) -> None:
    file = out / "stream/state.db"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change(statement: str) -> Callable[[Path], None]:
    def changed(out: Path) -> None:
        with closing(sqlite3.connect(out / "stream/state.db")) as connection, connection:
            connection.execute(statement)

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_state, "files of a stream whose state is missing"),
        (lambda out: shutil.rmtree(out / "stream"), "has files that no stream wrote"),
        (empty, "/scores: has files of another stream, or of one whose state is lost"),
        (garbage, "state.db: the stream's state is damaged (file is not a database)"),
        (cut, "state.db: the stream's state is damaged (database disk image is malformed)"),
        (change("UPDATE deltas SET data = x'00ff'"), "the stream's state is damaged"),
        (change("UPDATE positions SET position = 'x'"), "the stream's state is damaged"),
        (change("UPDATE about SET value = '0' WHERE name = 'version'"), "another version"),
    ],
)
def test_a_stream_without_its_state_is_refused(
    refused: Refused,
    base: list[object],
    out: Path,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    spoil(out)
    before = contents(out)
    assert message in refused(1, *base, "--out", out)
    assert contents(out) == before


def test_flagged_rows_of_another_stream_are_not_changed(
    refused: Refused, base: list[object], left: Path, out: Path, tmp_path: Path
) -> None:
    before = contents(left)
    assert contents(left / "flagged")
    # The copy of the stream has written to no place but the one that it was begun with.
    others = shutil.copytree(left / "flagged", tmp_path / "others")
    new = tmp_path / "new"
    for sink, directory in ((left / "flagged", new), (left / "out/scores", new), (others, out)):
        line = refused(1, *base, "--sink", f"parquet:{sink}", "--out", directory)
        assert f"{sink}: has files of another stream" in line
    assert contents(left) == before
    assert contents(others) == contents(left / "flagged")


def test_a_moved_stream_resumes(
    broker: Broker, published: str, bundle: Path, out: Path, tmp_path: Path
) -> None:
    moved, sink = out.rename(tmp_path / "moved"), f"parquet:{tmp_path / 'elsewhere'}"
    for _ in range(2):
        summary = run(options_of(broker, published, bundle, moved, sink=sink))
        assert summary["rows_in"] == 0
    assert pq.read_table(moved / "scores").num_rows == ROWS


def test_one_stream_at_a_time(
    refused: Refused, base: list[object], out: Path, broker: Broker, published: str, bundle: Path
) -> None:
    running = Stream(stream_command(broker, published, bundle, out), out)
    try:
        running.start()
        wait_until(lambda: "reading topic" in running.said())
        assert f"--out {out}: a stream is running there" in refused(1, *base, "--out", out)
    finally:
        running.kill()


def test_out_must_be_a_directory_for_a_stream(
    refused: Refused, base: list[object], bundle: Path, month: pa.Table, tmp_path: Path
) -> None:
    file = tmp_path / "month.parquet"
    pq.write_table(month.slice(0, 100), file)
    assert main(["score", str(file), "--model", str(bundle), "--out", str(tmp_path / "s")]) == 0
    assert "scores has files that no stream wrote" in refused(1, *base, "--out", tmp_path / "s")
    assert f"{file} is a file, give a directory" in refused(1, *base, "--out", file)
    line = "--out gs://a/b: a stream on this machine keeps its state there; give a local directory"
    assert line in refused(2, *base, "--out", "gs://a/b")


def test_a_watched_directory_is_no_output_of_the_stream(
    refused: Refused, bundle: Path, inbox: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/scores").mkdir(parents=True)
    (tmp_path / "flagged").mkdir()
    for watched, out, *more in (
        (inbox, inbox),
        (tmp_path / "out/scores", tmp_path / "out"),
        (tmp_path / "flagged", tmp_path / "o", "--sink", f"parquet:{tmp_path / 'flagged'}"),
        (inbox, tmp_path / "o", "--alert", f"file:{inbox / 'alerts.jsonl'}"),
        (inbox, tmp_path / "o", "--sink", f"sqlite:///{inbox / 'flagged.db'}"),
    ):
        args = ["stream", "--watch", watched, "--model", bundle, "--out", out, *more]
        line = refused(2, *args)
        assert line.startswith(f"beam-fraud: --watch {watched}: ")
    assert list(inbox.iterdir()) == []


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_the_broker_and_its_topics_must_exist(
    refused: Refused, base: list[object], tmp_path: Path
) -> None:
    to = ("--out", tmp_path / "out")
    for option in ("--topic", "--labels-topic", "--out-topic", "--dead-letter-topic"):
        line = refused(1, *instead(base, option, "nowhere"), *to)
        assert "there is no topic 'nowhere'" in line
        assert "kafka-topics.sh --create" in line
    assert "Invalid topic" in refused(1, *instead(base, "--topic", "a b"), *to)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{bound.getsockname()[1]}"
        line = refused(1, *instead(base, "--kafka", dead), *to)
    assert f"Kafka {dead}: no broker answers" in line
    with taken_port() as port:
        line = refused(1, *base, "--metrics-port", port, *to)
    assert f"--metrics-port {port}: cannot listen there (Address already in use)" in line


@pytest.mark.parametrize(
    ("code", "args", "message"),
    [
        (1, ["--model", "nothing"], "nothing: not a model bundle"),
        (2, ["--watch", "."], "--watch: not together with --kafka; give one of them"),
        (2, ["--kafka", "rubbish"], "--kafka: brokers are written HOST:PORT"),
        (2, ["--kafka", "127.0.0.1:99999"], "--kafka: brokers are written HOST:PORT"),
        (2, ["--topic", ""], "--topic: the value is empty"),
        (2, ["--start", "rubbish"], "--start rubbish: write earliest, latest, committed or"),
        (2, ["--start", "2024-13-01"], "--start 2024-13-01: write earliest"),
        (2, ["--kafka-config", "rubbish"], "--kafka-config: a property is written KEY=VALUE"),
        (2, ["--kafka-config", "rubbish=1"], 'No such configuration property: "rubbish"'),
        (2, ["--kafka-config", "fetch.min.bytes=x"], 'Invalid value for .*"fetch.min.bytes"'),
        (2, ["--kafka-config", "group.id="], "--kafka-config group.id: the value is empty"),
        (2, ["--kafka-config", "enable.auto.commit=true"], "the stream sets it itself"),
        (2, ["--kafka-config", "sasl.password=x"], "a secret on the command line"),
        (1, ["--kafka-config", "client.id=env:NOT_THERE"], "the variable NOT_THERE is not set"),
        (1, ["--kafka-properties", "nothing"], "--kafka-properties .*No such file"),
        (2, ["--lateness", "soon"], "--lateness: 'soon' is not a duration"),
        (2, ["--max-ahead", "1"], "--max-ahead: '1' is not a duration"),
        (2, ["--dedupe-horizon", "-1d"], "--dedupe-horizon: '-1d' is not a duration"),
        (1, ["--history", "nothing"], "nothing: no such file"),
        (2, ["--sink", "redis://x"], "--sink: unknown scheme"),
        (2, ["--runner", "Nobody"], "Nobody"),
        (2, ["--direct_num_workers", "2"], "a stream on this machine runs in one process"),
    ],
)
def test_invalid_calls_are_refused_before_anything_is_written(
    refused: Refused,
    base: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    call = instead(base, *args)
    line = refused(code, *call, "--out", "out")
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give --kafka HOST:PORT and --topic, or --watch DIR"),
        (["--topic", "t"], "give --kafka HOST:PORT and --topic, or --watch DIR"),
        (["--kafka", "127.0.0.1:9"], "--topic: say which topic the transactions are in"),
        (["--watch", ".", "--topic", "t"], "--topic: needs --kafka HOST:PORT, not --watch"),
        (["--watch", ".", "--start", "x"], "--start: needs --kafka HOST:PORT, not --watch"),
    ],
)
def test_a_call_names_one_source(
    refused: Refused, tmp_path: Path, args: list[str], message: str
) -> None:
    line = refused(2, "stream", "--model", "m", "--out", tmp_path / "out", *args)
    assert line.startswith(f"beam-fraud: {message} [BF10")


def test_a_start_before_all_times_is_the_beginning(
    broker: Broker, published: str, bundle: Path, tmp_path: Path
) -> None:
    for number, start in enumerate(("0001-01-01", "1969-12-31T23:59:59.999")):
        options = options_of(broker, published, bundle, tmp_path / str(number))
        options = StreamOptions(**{**vars(options), "start": start})
        assert run(options)["rows_scored"] == ROWS
