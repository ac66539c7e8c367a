"""The sink of BigQuery, over a stand-in of its REST interface: Beam's transform and Google's own
libraries run as they are."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.cli.commands import erase, score
from beam_fraud.cli.options import EraseOptions, ScoreOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.runners.submission import LOCAL_RUNNER
from beam_fraud.schema.stages import LATER_COLUMNS
from beam_fraud.sinks.base import ErasedRows
from beam_fraud.sinks.bigquery import client, table, tables
from beam_fraud.sinks.bigquery.sink import BigQuerySink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.transforms.write_flagged import WriteFlagged
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.flagged import START, flagged_batch
from tests.requirements import need_module
from tests.sinks.test_contract import (  # noqa: F401  the contract, with the fixture `place` below
    Place,
    test_a_flagged_row_comes_back_as_it_was_written,
    test_a_new_scoring_by_the_same_model_replaces_the_old,
    test_a_run_without_any_writer_can_be_read,
    test_a_writer_without_rows_is_no_harm,
    test_check_can_be_repeated,
    test_discard_after_commit_removes_nothing,
    test_hostile_names_are_only_text,
    test_rows_of_several_workers_are_complete,
    test_the_same_run_again_changes_nothing,
)

TEMP = "--temp_location=gs://bucket/temp"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need_module("google.cloud.bigquery", "gcp")
    need_module("duckdb", "bench")
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

    from tests.bigquery_stand_in import running

    with (
        running(tmp_path_factory.mktemp("account")) as (stand_in, environment),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        # No variable leads Beam's own client of load jobs elsewhere.
        patch.setattr(BigqueryV2, "BASE_URL", f"{stand_in.url}/bigquery/v2/")
        yield stand_in


@pytest.fixture
def bigquery(servers: Any) -> Any:
    """The stand-in, empty."""
    with servers.lock:
        for name in list(servers.tables):
            kind = "VIEW" if "view" in servers.tables[name] else "TABLE"
            servers.database.execute(f'DROP {kind} "{name}"')
        for held in (servers.tables, servers.objects, servers.jobs, servers.requests):
            held.clear()
        servers.refusals.clear()
        servers.inserted.clear()
        servers.load_failure = ""
    return servers


@pytest.fixture
def sink() -> BigQuerySink:
    result = parse_sink("bigquery:my-project.fraud")
    assert isinstance(result, BigQuerySink)
    return result


def load(sink: Any, run_id: str, *batches: Any, streaming: bool = False) -> None:
    """Pass batches through the graph's step."""
    options = PipelineOptions(
        [f"--runner={LOCAL_RUNNER}", TEMP, *(["--streaming"] if streaming else [])]
    )
    with beam.Pipeline(options=options) as pipeline:
        pipeline | beam.Create(list(batches)) | WriteFlagged(sink, run_id)


def run(sink: Any, run_id: str, *batches: Any) -> None:
    sink.check()
    sink.begin(run_id)
    load(sink, run_id, *batches)
    sink.commit(run_id)


class _Place(Place):
    """The sink of the contract; a transform writes the rows."""

    def __init__(self, stand_in: Any, sink: BigQuerySink) -> None:
        self._stand_in, self.sink = stand_in, sink

    def rows(self) -> list[dict[str, Any]]:
        rows = self._stand_in.rows("flagged_transactions")
        for row in rows:
            assert row.pop("written_at") > START
        return sorted(rows, key=lambda row: (row["transaction_id"], row["model_id"]))

    def run(self, run_id: str, *batches: Any) -> None:
        run(pickle.loads(pickle.dumps(self.sink)), run_id, *batches)


@pytest.fixture
def place(bigquery: Any, sink: BigQuerySink) -> _Place:
    return _Place(bigquery, sink)


def test_the_table_is_partitioned_and_clustered(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch())
    created = bigquery.tables["my-project.fraud.flagged_transactions"]
    assert created["timePartitioning"] == {"type": "DAY", "field": "event_time"}
    assert created["clustering"] == {"fields": ["account_id", "merchant_id"]}


def test_rows_are_loaded_by_jobs_of_beam_and_merged_by_one_statement(
    bigquery: Any, sink: BigQuerySink
) -> None:
    run(sink, "r1", flagged_batch(["a", "b"]), flagged_batch(["c"]))
    jobs = [job["configuration"] for job in bigquery.asked("POST .*/jobs$")]
    [loaded] = [job["load"] for job in jobs if "load" in job]
    assert loaded["destinationTable"]["tableId"] == "flagged_transactions_run_r1"
    [query] = [job["query"]["query"] for job in jobs if "query" in job and "dryRun" not in job]
    assert query.startswith("MERGE INTO `my-project.fraud.flagged_transactions` ")
    assert {row["transaction_id"] for row in bigquery.rows("flagged_transactions")} == set("abc")


def test_the_table_of_a_run_is_removed_with_the_run(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch())
    assert bigquery.names() == ["flagged_transactions"]


def test_rows_of_two_models_are_two_rows(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a"]), flagged_batch(["a"], model_id="other@2"))
    rows = bigquery.rows("flagged_transactions")
    assert sorted(row["model_id"] for row in rows) == ["m@1", "other@2"]


def test_a_repeated_row_of_a_run_is_stored_once(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a", "b"]), flagged_batch(["b", "c"]))
    assert len(bigquery.rows("flagged_transactions")) == 3


def test_a_run_that_fails_leaves_nothing(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a"]))
    sink.begin("r2")
    load(sink, "r2", flagged_batch(["b"]))
    sink.discard("r2")
    assert [row["transaction_id"] for row in bigquery.rows("flagged_transactions")] == ["a"]
    assert bigquery.names() == ["flagged_transactions"]


def test_the_staged_table_of_a_killed_run_expires(bigquery: Any, sink: BigQuerySink) -> None:
    sink.begin("r1")
    staged = bigquery.tables["my-project.fraud.flagged_transactions_run_r1"]
    assert int(staged["expirationTime"]) > 0
    assert "expirationTime" not in bigquery.tables["my-project.fraud.flagged_transactions"]


def test_a_busy_server_is_retried(bigquery: Any, sink: BigQuerySink) -> None:
    sink.begin("r1")
    load(sink, "r1", flagged_batch())
    bigquery.refuse("POST .*/jobs", 503, times=2)
    sink.commit("r1")
    assert len(bigquery.rows("flagged_transactions")) == 3


def test_a_server_that_stays_down_is_one_line(
    bigquery: Any, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_CHECK_PATIENCE", 0.5)
    bigquery.refuse("GET", 503, times=1000)
    with pytest.raises(FraudError, match=r"^--sink bigquery:my-project\.fraud\.") as refused:
        sink.check()
    assert "\n" not in str(refused.value)


def test_a_missing_dataset_is_named_with_the_fix(bigquery: Any) -> None:
    with fails(Code.BIGQUERY_TABLE, "dataset other .* bq mk"):
        parse_sink("bigquery:my-project.other").check()


def test_a_foreign_table_is_refused(bigquery: Any, sink: BigQuerySink) -> None:
    reference = {"projectId": "my-project", "datasetId": "fraud", "tableId": sink.table.table}
    column = {"name": "transaction_id", "type": "INTEGER", "mode": "NULLABLE"}
    bigquery._create({"tableReference": reference, "schema": {"fields": [column]}})
    with fails(Code.BIGQUERY_TABLE, "'transaction_id' as NULLABLE INTEGER"):
        sink.check()
    bigquery._drop(str(sink.table))
    column = {"name": "other", "type": "STRING", "mode": "NULLABLE"}
    bigquery._create({"tableReference": reference, "schema": {"fields": [column]}})
    with fails(Code.BIGQUERY_TABLE, "lacks .* 'transaction_id'"):
        sink.check()


def test_tables_of_an_earlier_version_get_the_new_columns(
    bigquery: Any, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tuple(field for field in table.FIELDS if field["name"] not in LATER_COLUMNS)
    columns = tuple(field["name"] for field in old)
    with monkeypatch.context() as earlier_version:
        earlier_version.setattr(tables, "FIELDS", old)
        earlier_version.setattr(table, "COLUMNS", columns)
        sink.streaming(here=False).begin("old")
    stream = sink.streaming(here=False)
    stream.check()
    stream.begin("new")
    load(stream, "new", flagged_batch(["a"]), streaming=True)
    run(sink, "r1", flagged_batch(["b"]))
    for name in ("flagged_transactions", "latest_flagged_transactions"):
        row = bigquery.rows(name)[-1]
        assert (row["rules_id"], row["shadow_rules"]) == ("rules@1", ["tried"])


def test_check_changes_nothing(bigquery: Any, sink: BigQuerySink) -> None:
    sink.check()
    assert bigquery.names() == []


def test_missing_credentials_are_reported_with_the_fix(
    bigquery: Any, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with fails(Code.BIGQUERY_ACCESS, "gcloud auth .*GOOGLE_APPLICATION_CREDENTIALS"):
        sink.check()


def test_the_files_that_are_loaded_are_removed(bigquery: Any, sink: BigQuerySink) -> None:
    bigquery.objects["bucket/temp/other"] = b"of someone else"
    run(sink, "r1", flagged_batch())
    assert len(bigquery.asked("^DELETE /storage/")) == 1
    assert list(bigquery.objects) == ["bucket/temp/other"]
    assert len(bigquery.rows("flagged_transactions")) == 3


def test_files_that_cannot_be_removed_do_not_fail_the_run(
    bigquery: Any, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("apache_beam.io.filesystems.FileSystems.delete", fail)
    run(sink, "r1", flagged_batch())
    assert len(bigquery.rows("flagged_transactions")) == 3


def test_a_missing_permission_for_jobs_is_reported_before_the_run(
    bigquery: Any, sink: BigQuerySink
) -> None:
    bigquery.refuse("POST .*/jobs", 403, times=10)
    with pytest.raises(FraudError, match=r"^--sink bigquery:my-project\.fraud\..*: Refused by"):
        sink.check()


def test_a_missing_bucket_is_reported_before_the_run(bigquery: Any, sink: BigQuerySink) -> None:
    sink.check_options(PipelineOptions([TEMP]))
    with fails(Code.BIGQUERY_ACCESS, "--temp_location gs://other/x: ") as message:
        sink.check_options(PipelineOptions(["--temp_location=gs://other/x"]))
    assert "\n" not in str(message.value)


def test_a_run_cannot_load_without_a_bucket(bigquery: Any, sink: BigQuerySink) -> None:
    with fails(Code.OPTION_MISSING, "--temp_location gs://BUCKET/DIR", kind=UsageError):
        beam.Pipeline() | beam.Create([flagged_batch()]) | WriteFlagged(sink, "r1")


def test_a_stream_appends_and_the_view_has_each_key_once(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a", "b"], score=0.8))
    streamed = sink.streaming(here=False)
    streamed.check()
    streamed.begin("s1")
    load(streamed, "s1", flagged_batch(["b"], score=0.9), flagged_batch(["c"]), streaming=True)
    # A runner that does a bundle again.
    load(streamed, "s1", flagged_batch(["c"]), streaming=True)
    streamed.commit("s1")
    streamed.discard("s1")
    assert len(bigquery.rows("flagged_transactions_stream")) == 3
    result = {r["transaction_id"]: r["score"] for r in bigquery.rows("latest_flagged_transactions")}
    assert len(bigquery.rows("latest_flagged_transactions")) == 3
    assert result == {"a": 0.8, "b": 0.9, "c": 0.9}
    # The next start finds all of it.
    streamed.check()
    streamed.begin("s2")


def test_refused_rows_of_a_stream_are_retried(bigquery: Any, sink: BigQuerySink) -> None:
    streamed = sink.streaming(here=False)
    streamed.begin("s1")
    bigquery.refuse("insertAll", 500, times=1)
    bigquery.refuse("insertAll", 403, times=1)
    load(streamed, "s1", flagged_batch(), streaming=True)
    assert len(bigquery.rows("flagged_transactions_stream")) == 3


@pytest.fixture
def options(tmp_path: Path) -> ScoreOptions:
    """Five transactions, all flagged."""
    file = tmp_path / "day.csv"
    file.write_text("id,t,a\n" + "".join(f"x{i},2024-01-0{i}T00:00:00Z,{i}\n" for i in range(1, 6)))
    model = bundle(tmp_path / "model")
    return ScoreOptions(files=(str(file),), model=model, out=str(tmp_path / "out"))


def test_a_row_larger_than_a_request_is_reported_and_the_others_are_inserted(
    bigquery: Any, sink: BigQuerySink, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = sink.streaming(here=False)
    streamed.begin("s1")
    load(streamed, "s1", flagged_batch(["a"], account="x" * 10_000_000), streaming=True)
    load(streamed, "s1", flagged_batch(["b"]), streaming=True)
    assert [row["transaction_id"] for row in bigquery.rows("flagged_transactions_stream")] == ["b"]
    message = [r.getMessage() for r in caplog.records if r.name.startswith("beam_fraud")]
    assert message == [
        f"BigQuery table {sink.table.stream}: a row is too large; it is in the scores only"
    ]


def test_score_writes_to_bigquery_and_keeps_its_alerts_beside_its_outputs(
    bigquery: Any, options: ScoreOptions, tmp_path: Path
) -> None:
    options = replace(
        options,
        sink="bigquery:my-project.fraud.cases",
        alerts=(f"file:{tmp_path}/alerts.jsonl",),
        beam_args=(TEMP,),
    )
    summary = score.run(options)
    assert len(bigquery.rows("cases")) == summary["rows_flagged"] == 5
    assert summary["alerts"]["sent"] == 5
    assert summary["outputs"]["sink"] == "bigquery:my-project.fraud.cases"
    assert (tmp_path / "out/outbox.db").exists()
    bigquery.requests.clear()
    with pytest.raises(UsageError, match="--temp_location"):
        score.run(replace(options, beam_args=(), dry_run=True))
    elsewhere = ("--runner=PrismRunner", f"--prism_location={sys.executable}", TEMP)
    assert score.run(replace(options, beam_args=elsewhere, dry_run=True))["dry_run"]
    assert bigquery.asked("^(POST|DELETE) .*/tables") == []
    assert bigquery.names() == ["cases"]
    assert len(bigquery.rows("cases")) == 5


def test_a_failed_load_reports_the_reason_in_one_line_and_leaves_nothing(
    bigquery: Any, options: ScoreOptions, tmp_path: Path
) -> None:
    bigquery.load_failure = "Cannot read in location 'eu' and write in location US"
    arguments = replace(options, sink="bigquery:my-project.fraud", beam_args=(TEMP,))
    with pytest.raises(FraudError) as failed:
        score.run(arguments)
    why = "rows cannot be loaded (Cannot read in location 'eu' and write in location US)"
    assert str(failed.value) == f"--sink bigquery:my-project.fraud.flagged_transactions: {why}"
    assert bigquery.names() == ["flagged_transactions"]
    assert not (tmp_path / "out/scores").exists()
    bigquery.load_failure = ""
    assert score.run(arguments)["rows_flagged"] == 5
    assert len(bigquery.rows("flagged_transactions")) == 5


def test_rows_of_an_account_are_deleted_from_every_table(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a"]), flagged_batch(["b"], account="b"))
    streamed = sink.streaming(here=False)
    streamed.begin("s1")
    load(streamed, "s1", flagged_batch(["c", "d"]), streaming=True)
    # A run that was killed.
    sink.begin("r2")
    load(sink, "r2", flagged_batch(["e"]))
    held = {"flagged_transactions": 1, "flagged_transactions_stream": 2}
    held["flagged_transactions_run_r2"] = 1
    erased = ErasedRows(held, {"a"})
    assert sink.erase(["a", "x' OR TRUE --"], dry_run=True) == erased
    assert sink.erase(["a", "x' OR TRUE --"]) == erased
    assert [row["transaction_id"] for row in bigquery.rows("latest_flagged_transactions")] == ["b"]
    assert bigquery.rows("flagged_transactions_run_r2") == []
    again = erase.run(EraseOptions(accounts=("a",), sinks=(sink.describe(),)))
    assert again["total"] == 0
    assert "fortnight" in str(again["notes"])


def test_rows_of_an_earlier_time_are_deleted(bigquery: Any, sink: BigQuerySink) -> None:
    run(sink, "r1", flagged_batch(["a", "b", "c"]))
    later = START + timedelta(minutes=1)
    assert sink.erase((), later) == ErasedRows({"flagged_transactions": 1})
    rows = bigquery.rows("flagged_transactions")
    assert sorted(row["transaction_id"] for row in rows) == ["b", "c"]


def test_a_failed_drop_is_only_logged(
    bigquery: Any,
    sink: BigQuerySink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink.begin("r1")
    bigquery.refuse("DELETE", 403)
    with caplog.at_level(logging.WARNING):
        sink.discard("r1")
    assert "flagged_transactions_run_r1 expires by itself" in caplog.text
    assert client.PATIENCE > 0
