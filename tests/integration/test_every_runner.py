"""The same input gives the same rows on every runner: on this machine, on Prism and on Flink.

Flink is there twice: embedded in Beam's job server with this process as its worker (LOOPBACK), and
as a cluster of processes with a pool of Python workers (EXTERNAL).
"""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import batch
from beam_fraud.decisions.inputs import DECIDED_AT
from beam_fraud.simulate.messages import handbook_messages
from benchmarks.hostile import hostile_messages
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.chosen_ids import COLLIDING, COLLIDING_ACCOUNTS
from tests.integration.kafka import produce
from tests.outcome import assert_counted
from tests.stream_process import UNTIL_IDLE, Stream, archived, stream_command, wait_until

pytestmark = pytest.mark.slow

#: What differs from run to run: times, names, ids that the name of a channel is part of, and what
#: only this machine counts, where a stream follows its rules file.
OWN = (
    *("seconds", "rows_per_second", "run_id", "outputs", "latency_seconds"),
    "promotions_refused",
)
OWN_COLUMNS = (
    DECIDED_AT,
    "alert_id",
    "channel",
    "sent_at",
    "delivery_id",
    "dead_at",
    "replayed_at",
)
RULES = """
[[rule]]
name = "fast"
when = "account_count_1d >= 5 and amount > 60"
decision = "review"

[[rule]]
name = "huge"
when = "amount > 200"
decision = "decline"

[[rule]]
name = "small"
when = "amount < 0.5"
decision = "approve"

[[rule]]
name = "tried"
when = "amount > 20"
decision = "decline"
mode = "shadow"

[[rule]]
name = "staged"
when = "amount > 30"
decision = "review"
rollout = 7.5
"""
#: Rules that decide nothing, beside those.
SHADOW = """
[[rule]]
name = "stricter"
when = "account_count_1d >= 3 and amount > 50"
decision = "review"
"""
#: Messages of the stream: transactions, of which each tenth comes twice, and what is none.
ROWS, BAD = 2_000, 20


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES)
    path.with_name("shadow.toml").write_text(SHADOW)
    return path


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> list[str]:
    """Options of another runner."""
    return options_of(request.param, request)


def options_of(name: str, request: pytest.FixtureRequest) -> list[str]:
    if name == "processes":
        return ["--workers=2"]
    if name == "prism":
        return [*request.getfixturevalue("prism")]
    if name == "embedded":
        endpoint = request.getfixturevalue("flink_job_server")
        embedded = ["--runner=PortableRunner", f"--job_endpoint={endpoint}"]
        return [*embedded, "--environment_type=LOOPBACK", "--parallelism=2"]
    options: list[str] = request.getfixturevalue("flink_cluster").beam_options
    return [*options, "--parallelism=2", "--sdk_worker_parallelism=2"]


Rows = list[tuple[object, ...]]


@dataclass(frozen=True)
class Left:
    """The outputs of a run without what differs between runs."""

    #: Archived tables by branch, each in an order of its own.
    tables: dict[str, pa.Table]
    #: The summary.
    summary: dict[str, Any]
    #: Rows of the database by table.
    database: dict[str, Rows]
    #: Alerts as the channel got them.
    alerts: set[str]


def left(out: Path) -> Left:
    tables = {
        path.name: in_order(pq.read_table(path))
        for path in (*out.iterdir(), out.with_name(f"{out.name}-flagged"))
        if any(path.glob("part-*.parquet"))
    }
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    for figures in summary.get("shadows", {}).values():
        del figures["microseconds_per_row"]
    alerts = out.with_name(f"{out.name}.jsonl")
    lines = alerts.read_text("utf-8").splitlines() if alerts.exists() else []
    sent = {json.dumps({**json.loads(line), "alert_id": "", "channel": ""}) for line in lines}
    database = rows_of(out.with_name(f"{out.name}.db"))
    summary = {name: value for name, value in summary.items() if name not in OWN}
    return Left(tables, summary, database, sent)


def in_order(table: pa.Table) -> pa.Table:
    keys = ("source", "position") if "position" in table.column_names else ("transaction_id",)
    own = [name for name in table.column_names if name not in OWN_COLUMNS]
    return table.select(own).sort_by([(key, "ascending") for key in keys])


def rows_of(database: Path) -> dict[str, Rows]:
    if not database.exists():
        return {}
    result = {}
    with closing(sqlite3.connect(database)) as connection:
        for table in (
            *("flagged_transactions", "audited_transactions", "linked_values"),
            *("alerts", "dead_letters"),
        ):
            described = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
            columns = [name for (name,) in described if name not in OWN_COLUMNS]
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            result[table] = sorted(rows, key=repr)
    return result


def assert_same(found: Left, expected: Left) -> None:
    assert found.summary == expected.summary
    assert found.tables.keys() == expected.tables.keys()
    for name, table in expected.tables.items():
        assert found.tables[name].equals(table), name
    assert found.database == expected.database
    assert found.alerts == expected.alerts


# Files


@dataclass(frozen=True)
class Files:
    """Parquet and CSV files with bad rows and repeated ids, and their history."""

    directory: Path
    before: Path


@pytest.fixture(scope="module")
def files(month: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("files")
    before = tmp_path_factory.mktemp("history") / "before.parquet"
    pq.write_table(month.slice(0, 6_000), before)
    with_repeats = pa.concat_tables([month.slice(6_000, 8_000), month.slice(6_500, 40)])
    pq.write_table(with_repeats, directory / "a.parquet", row_group_size=1_500)
    pyarrow.csv.write_csv(month.slice(14_000), directory / "b.csv")
    lines = (directory / "b.csv").read_text().splitlines()
    lines[100:100] = ["not,enough", '990002,"never",1,2,5.0,0,0', lines[50]]
    # Of one moment and merchant; they hash alike without a key, as do their accounts.
    _, at, _, *others = lines[60].split(",")
    for chosen in zip(COLLIDING, COLLIDING_ACCOUNTS, strict=True):
        lines.append(",".join((chosen[0], at, chosen[1], *others)))
    (directory / "b.csv").write_text("\n".join(lines) + "\n")
    return Files(directory, before)


@pytest.fixture(autouse=True)
def _parts_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide even small files among workers."""
    monkeypatch.setattr(batch, "_MIN_SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(batch, "_CLUSTER_SEGMENT_BYTES", 100_000)


def score_command(files: Files, bundle: Path, rules: Path, out: Path) -> list[str]:
    command = ["score", str(files.directory), "--history", str(files.before)]
    command += ["--model", str(bundle), "--rules", str(rules), "--out", str(out)]
    command += ["--shadow", str(rules.with_name("shadow.toml"))]
    return [*command, "--alert", f"file:{out}.jsonl"]


def score(files: Files, bundle: Path, rules: Path, out: Path, *options: str) -> Left:
    out.mkdir()
    assert main([*score_command(files, bundle, rules, out), *options]) == 0
    return left(out)


def score_to_database(files: Files, bundle: Path, rules: Path, out: Path, *options: str) -> Left:
    sink = ("--sink", f"sqlite:///{out}.db", "--audit-share=2%", "--link=TX_FRAUD_SCENARIO")
    return score(files, bundle, rules, out, *sink, *options)


def score_to_parquet(files: Files, bundle: Path, rules: Path, out: Path, *options: str) -> Left:
    sink = ("--sink", f"parquet:{out}-flagged", "--dedupe=run")
    return score(files, bundle, rules, out, *sink, *options)


def compute(files: Files, out: Path, *options: str) -> Left:
    command = ["features", str(files.directory), "--history", str(files.before)]
    assert main([*command, "--schema", "handbook", "--out", str(out), *options]) == 0
    return left(out)


@pytest.fixture(scope="module")
def scored_to_database(
    files: Files, bundle: Path, rules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Left:
    return score_to_database(files, bundle, rules, tmp_path_factory.mktemp("here") / "out")


@pytest.fixture(scope="module")
def scored_to_parquet(
    files: Files, bundle: Path, rules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Left:
    return score_to_parquet(files, bundle, rules, tmp_path_factory.mktemp("here") / "out")


@pytest.fixture(scope="module")
def computed(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Left:
    return compute(files, tmp_path_factory.mktemp("here") / "out")


def test_this_process_scores_every_row(scored_to_database: Left, month: pa.Table) -> None:
    result = scored_to_database
    rows = month.num_rows - 6_000 + len(COLLIDING)
    assert result.summary["rows_in"] == rows + 40 + 3
    assert result.summary["rows_scored"] == result.tables["scores"].num_rows == rows
    assert result.summary["rows_dead"] == result.tables["dead_letters"].num_rows == 2
    assert result.summary["rows_duplicate"] == 41
    assert result.summary["history_rows"] == 6_000
    fired = result.summary["rules"]
    assert all(rule["fired"] for rule in fired.values())
    (figures,) = result.summary["shadows"].values()
    assert figures["rows"] == result.tables["shadow"].num_rows == rows
    assert 0 < figures["flagged_agreement"] < figures["agreement"] < 1
    in_shadow = [names for names in result.tables["scores"]["shadow_rules"].to_pylist() if names]
    assert in_shadow == [["tried"]] * fired["tried"]["fired"]
    assert 0 < fired["staged"]["share"] < 0.2 < fired["tried"]["share"]
    flagged = result.database["flagged_transactions"]
    assert len(flagged) == result.summary["rows_flagged"] == len(result.alerts) > 100
    assert result.tables["scores"]["flagged"].to_pylist().count(True) == len(flagged)
    assert any(result.tables["scores"]["reasons"].to_pylist())
    audited = result.database["audited_transactions"]
    assert len(audited) == result.summary["rows_audited"]
    assert 0.01 < len(audited) / (rows - len(flagged)) < 0.03
    assert not {row[0] for row in audited} & {row[0] for row in flagged}
    linked = result.database["linked_values"]
    assert {row[0] for row in linked} == {row[0] for row in (*audited, *flagged)}
    assert {row[1] for row in linked} == {"TX_FRAUD_SCENARIO"}
    # They are explained like flagged ones.
    scores = result.tables["scores"]
    explained = scores.filter(pc.greater(pc.list_value_length(scores["reasons"]), 0))
    assert {row[0] for row in audited} <= set(explained["transaction_id"].to_pylist())


# Both Flinks run one job; the embedded one is in the next test.
#: What the cluster shows is not shown again by Flink in the job server's process, but by the soak.
EMBEDDED = pytest.param("embedded", marks=pytest.mark.soak)


@pytest.mark.parametrize("runner", ["processes", "prism", "cluster"], indirect=True)
def test_score_gives_the_same_rows_and_alerts(
    runner: list[str],
    files: Files,
    bundle: Path,
    rules: Path,
    tmp_path: Path,
    scored_to_database: Left,
) -> None:
    result = score_to_database(files, bundle, rules, tmp_path / "out", *runner)
    assert_same(result, scored_to_database)


@pytest.mark.parametrize(
    "runner",
    [pytest.param("processes", marks=pytest.mark.soak), "prism", EMBEDDED],
    indirect=True,
)
def test_score_gives_the_same_files_of_flagged_rows(
    runner: list[str],
    files: Files,
    bundle: Path,
    rules: Path,
    tmp_path: Path,
    scored_to_parquet: Left,
) -> None:
    assert scored_to_parquet.tables["out-flagged"].num_rows > 100
    result = score_to_parquet(files, bundle, rules, tmp_path / "out", *runner)
    assert_same(result, scored_to_parquet)


# Its graph is a part of that of `score`, which runs on Flink above.
@pytest.mark.parametrize(
    "runner", [pytest.param("processes", marks=pytest.mark.soak), "prism"], indirect=True
)
def test_features_gives_the_same_table(
    runner: list[str], files: Files, tmp_path: Path, computed: Left
) -> None:
    assert computed.tables["features"].num_rows == computed.summary["rows_out"] > 10_000
    assert_same(compute(files, tmp_path / "out", *runner), computed)


@pytest.mark.soak
def test_an_interrupted_run_ends_on_the_cluster_as_well(
    flink_cluster: FlinkCluster, files: Files, bundle: Path, rules: Path, tmp_path: Path
) -> None:
    before = set(jobs(flink_cluster))
    command = score_command(files, bundle, rules, tmp_path / "out")
    one = Stream([*command, *flink_cluster.beam_options], tmp_path / "out")
    one.start()
    try:
        assert one.wait_until(lambda: "RUNNING" in jobs(flink_cluster).values())
        one.stop()
        assert one.wait_for_code() == 128 + signal.SIGTERM, one.said()
    finally:
        one.kill()
    (job,) = set(jobs(flink_cluster)) - before
    assert wait_until(lambda: jobs(flink_cluster)[job] == "CANCELED")
    assert not list((tmp_path / "out").glob("**/*.parquet"))


def jobs(cluster: FlinkCluster) -> dict[str, str]:
    """Return Flink's jobs with their states."""
    return {job["jid"]: job["state"] for job in cluster.get("/jobs/overview")["jobs"]}


# Streams


@pytest.fixture(scope="module")
def published(broker: Broker, month: pa.Table) -> str:
    """A topic of two partitions."""
    name = "every-runner"
    broker.create_topic(name, 2)
    (first,) = handbook_messages(month.slice(0, ROWS).combine_chunks(), ROWS)
    keys = [key.encode() for key in first.keys]
    # With the column that links cases.
    values = [one[:-1] + b',"TX_FRAUD_SCENARIO":2}' for one in first.values]
    produce(broker, name, values, keys=keys)
    produce(broker, name, values[::10], keys=keys[::10])
    last = json.loads(values[-1])
    for id, account in zip(COLLIDING, COLLIDING_ACCOUNTS, strict=True):
        chosen = {**last, "TRANSACTION_ID": id, "CUSTOMER_ID": account}
        produce(broker, name, [json.dumps(chosen).encode()], keys=[account.encode()])
    produce(broker, name, [message.payload for message in hostile_messages(BAD, 1, largest=5_000)])
    return name


MakeStream = Callable[..., Stream]


@pytest.fixture(scope="module")
def make_stream(broker: Broker, published: str, bundle: Path, rules: Path) -> Iterator[MakeStream]:
    """Return a function that starts a stream over the topic with an output and further options."""
    created = list[Stream]()

    def make(out: Path, *options: str) -> Stream:
        places = ("--sink", f"sqlite:///{out}.db", "--alert", f"file:{out}.jsonl")
        places += ("--audit-share=2%", "--monitor", "--keep-features", "--link=TX_FRAUD_SCENARIO")
        # What is spread over shards reaches those of the next key out of order.
        beside = ("--rules", str(rules), "--shadow", str(rules.with_name("shadow.toml")))
        own = (*places, *beside, "--roll-seconds=1", "--lateness=30d")
        created.append(Stream(stream_command(broker, published, bundle, out, *own, *options), out))
        created[-1].start()
        return created[-1]

    yield make
    for one in created:
        one.kill()


@pytest.fixture(scope="module")
def streamed(make_stream: MakeStream, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The outputs of a stream in its own process, without another runner."""
    out = tmp_path_factory.mktemp("here") / "out"
    make_stream(out, *UNTIL_IDLE).wait_for_end()
    return left(out)


def test_this_process_scores_every_message(streamed: Left) -> None:
    summary = streamed.summary
    once = ROWS + len(COLLIDING)
    assert summary["rows_in"] == once + ROWS // 10 + BAD
    assert summary["rows_scored"] == streamed.tables["scores"].num_rows == once
    assert summary["rows_dead"] == streamed.tables["dead_letters"].num_rows == BAD
    assert summary["rows_duplicate"] == ROWS // 10
    assert streamed.tables["shadow"].num_rows == once
    flagged = streamed.database["flagged_transactions"]
    assert summary["rows_flagged"] == len(flagged) == len(streamed.alerts) > 10
    audited = streamed.database["audited_transactions"]
    assert summary["rows_audited"] == len(audited) > 10
    linked = streamed.database["linked_values"]
    assert {row[0] for row in linked} == {row[0] for row in (*audited, *flagged)}
    assert streamed.tables["scores"]["flagged"].to_pylist().count(True) == len(flagged)


def test_prism_ends_an_idle_stream(
    make_stream: MakeStream,
    bundle: Path,
    tmp_path: Path,
    streamed: Left,
    request: pytest.FixtureRequest,
) -> None:
    options = (*options_of("prism", request), "--shards=3", "--until-idle", "3")
    one = make_stream(tmp_path / "out", *options)
    one.wait_for_end()
    assert "Traceback" not in one.said()
    assert "the monitor" not in one.said(), "it failed"
    assert_same(left(tmp_path / "out"), streamed)
    assert assert_counted(tmp_path / "out", bundle) == ROWS + len(COLLIDING)


@pytest.mark.parametrize("name", ["prism", EMBEDDED, "cluster"])
def test_a_stopped_stream_leaves_the_same_rows_and_alerts(
    name: str,
    make_stream: MakeStream,
    bundle: Path,
    tmp_path: Path,
    streamed: Left,
    request: pytest.FixtureRequest,
) -> None:
    out = tmp_path / "out"
    one = make_stream(out, *options_of(name, request), "--shards=3")
    assert one.wait_until(lambda: archived(out) >= ROWS + len(COLLIDING) + BAD)
    one.stop()
    one.wait_for_end()
    assert_same(left(out), streamed)
    assert assert_counted(out, bundle) == ROWS + len(COLLIDING)
    if name == "cluster":
        cluster = request.getfixturevalue("flink_cluster")
        assert wait_until(lambda: "RUNNING" not in jobs(cluster).values())
        log = cluster.parts["task manager 1"].log.read_text("utf-8")
        assert "BatchElements statistics" not in log, "a line for every bundle"
