"""Flagged rows and all scores in Iceberg tables: one commit a run, which a repeat replaces."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.transforms import IdentityTransform

from beam_fraud.cli.commands import erase, replay, score
from beam_fraud.cli.options import EraseOptions, ReplayOptions, ScoreOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.stages import LATER_COLUMNS, SCORED
from beam_fraud.sinks.iceberg.run import IcebergRun
from beam_fraud.sinks.iceberg.sink import IcebergSink
from beam_fraud.sinks.iceberg.table import COLUMNS
from beam_fraud.sinks.url import parse_archive, parse_sink
from beam_fraud.storage.staging import Staging
from tests.cli.test_commands_replay import export
from tests.cli.test_commands_score import bundle
from tests.earlier import earlier
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.object_store import KeptObjects

#: Approves the first two rows of `options`.
RULES = '[[rule]]\nname = "small"\nwhen = "amount < 3"\ndecision = "approve"\n'
ARCHIVE = "iceberg:default/lake.bank.scores"


@pytest.fixture
def sink(iceberg_table: str, tmp_path: Path) -> IcebergSink:
    return sink_of(tmp_path / "out", iceberg_table)


@pytest.fixture
def options(iceberg_table: str, tmp_path: Path) -> ScoreOptions:
    """A run that scores five rows and flags three."""
    (tmp_path / "rules.toml").write_text(RULES)
    return ScoreOptions(
        files=(day(tmp_path, 5),),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "out"),
        rules=str(tmp_path / "rules.toml"),
        sink=iceberg_table,
        archive=ARCHIVE,
    )


def day(directory: Path, rows: int) -> str:
    file = directory / "day.csv"
    lines = (f"x{i},2024-01-0{i}T00:00:00Z,{i}\n" for i in range(1, rows + 1))
    file.write_text("id,t,a\n" + "".join(lines))
    return str(file)


def sink_of(out: Path, url: str = "iceberg:shop.flagged") -> IcebergSink:
    sink = parse_sink(url).for_run(out)
    assert isinstance(sink, IcebergSink)
    return sink


def run(sink: IcebergSink, run_id: str, *ids: str) -> None:
    begin(sink, run_id, *ids)
    sink.commit(run_id)


def begin(sink: IcebergSink, run_id: str, *ids: str) -> None:
    sink.check()
    sink.begin(run_id)
    if ids:
        writer = sink.open(run_id)
        writer.write(flagged_batch(ids))
        writer.close()


def rows(name: str = "shop.flagged") -> list[dict[str, Any]]:
    table = load_catalog().load_table(name).scan().to_arrow()
    return sorted(table.to_pylist(), key=lambda row: (row["run_output"], row["transaction_id"]))


def ids(name: str = "shop.flagged") -> list[str]:
    return [row["transaction_id"] for row in rows(name)]


def data(directory: Path) -> set[str]:
    return {file.name for file in directory.glob("lake/**/*.parquet")}


def test_flagged_rows_and_all_scores_go_to_tables_that_the_run_creates(
    options: ScoreOptions, tmp_path: Path
) -> None:
    summary = score.run(options)
    assert (summary["rows_scored"], summary["rows_flagged"]) == (5, 3)
    outputs = summary["outputs"]
    assert isinstance(outputs, dict)
    assert (outputs["sink"], outputs["archive"]) == ("iceberg:shop.flagged", ARCHIVE)
    assert (ids(), ids("lake.bank.scores")) == (["x3", "x4", "x5"], ["x1", "x2", "x3", "x4", "x5"])
    assert {row["run_output"] for row in rows()} == {str(tmp_path / "out")}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"scores", "dead_letters", "rules", "summary.json"}


def test_the_same_run_again_changes_nothing_and_other_runs_keep_their_rows(
    options: ScoreOptions, tmp_path: Path
) -> None:
    run(sink_of(tmp_path / "other"), "r0", "t0")
    score.run(options)
    before = rows(), rows("lake.bank.scores")
    assert (len(before[0]), len(before[1])) == (4, 5)
    score.run(options)
    assert (rows(), rows("lake.bank.scores")) == before
    score.run(replace(options, files=(day(tmp_path, 1),)))
    assert (ids(), ids("lake.bank.scores")) == (["t0"], ["x1"])


def test_a_run_at_a_url_writes_to_tables(
    options: ScoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    score.run(replace(options, out="kept://bucket/out"))
    assert (len(rows()), len(rows("lake.bank.scores"))) == (3, 5)
    assert {row["run_output"] for row in rows()} == {"kept://bucket/out"}
    assert not list((tmp_path / "temporary").glob("*iceberg*"))


def test_a_name_of_the_run_replaces_its_rows_from_everywhere(
    iceberg_table: str, tmp_path: Path
) -> None:
    url = f"{iceberg_table}?run=day%2001"
    run(sink_of(tmp_path / "a", url), "r1", "t1", "t2")
    run(sink_of(tmp_path / "b", url), "r2", "t3")
    assert [(row["transaction_id"], row["run_output"]) for row in rows()] == [("t3", "day 01")]


def test_a_commit_reads_no_file_that_it_replaces(
    sink: IcebergSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sink, "r1", "t1")
    monkeypatch.setattr("pyiceberg.io.pyarrow.ArrowScan.to_table", lambda *given, **named: 1 / 0)
    run(sink, "r2", "t2")
    monkeypatch.undo()


def test_what_is_written_is_read_by_ids_of_columns(sink: IcebergSink) -> None:
    run(sink, "r1", "t1")
    table = load_catalog().load_table("shop.flagged")
    with table.update_schema() as changed:
        changed.rename_column("amount", "value")
    assert rows()[0]["value"] == 12.5


def test_a_failed_run_leaves_the_tables_and_no_files(options: ScoreOptions, tmp_path: Path) -> None:
    score.run(options)
    before, files = rows(), data(tmp_path)
    Path(options.files[0]).write_text("id,t,a\nx1,2024-01-01,ten\n")
    with fails(Code.ROWS_INVALID):
        score.run(options)
    assert (rows(), data(tmp_path)) == (before, files)
    assert not list((tmp_path / "out").glob(".*"))


def test_a_commit_that_fails_leaves_the_table_and_no_files(
    sink: IcebergSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sink, "r1", "t1")
    before, files = rows(), data(tmp_path)
    begin(sink, "r2", "t2")

    def fail(*given: object) -> None:
        assert data(tmp_path) > files
        raise CommitFailedException("branch main has changed")

    monkeypatch.setattr(IcebergRun, "_commit", fail)
    with fails(Code.ICEBERG_COMMIT, "--sink iceberg:shop.flagged: .*branch main has changed"):
        sink.commit("r2")
    sink.discard("r2")
    assert (rows(), data(tmp_path)) == (before, files)


def test_a_full_disk_under_the_table_leaves_it_as_it_was(
    sink: IcebergSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sink, "r1", "t1")
    files = data(tmp_path)
    begin(sink, "r2", "t2")

    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("beam_fraud.sinks.iceberg.run.ParquetBlockWriter.close", fail)
    with fails(Code.OUTPUT_UNWRITABLE, "--sink iceberg:shop.flagged: .*No space left.*make room"):
        sink.commit("r2")
    sink.discard("r2")
    assert (ids(), data(tmp_path)) == (["t1"], files)


@pytest.mark.parametrize("lands", [False, True])
def test_a_commit_without_an_answer_keeps_its_files_until_the_next_run(
    sink: IcebergSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    run(sink, "r1", "t1")
    begin(sink, "r2", "t2")
    commit = "pyiceberg.catalog.sql.SqlCatalog.commit_table"
    catalog = type(load_catalog())
    answered = catalog.commit_table

    def cut(*given: Any) -> None:
        if lands:
            answered(*given)
        raise ConnectionError("connection reset at rest://me:hunter2@host")

    monkeypatch.setattr(commit, cut)
    with fails(Code.ICEBERG_COMMIT, "unknown") as failed:
        sink.commit("r2")
    assert "hunter2" not in str(failed.value)
    monkeypatch.setattr(commit, answered)
    sink.discard("r2")
    assert len(data(tmp_path)) == 2
    sink.begin("r3")
    assert (ids(), len(data(tmp_path))) == ((["t2"], 2) if lands else (["t1"], 1))


def test_the_next_run_removes_what_a_killed_one_has_copied_for_nothing(
    sink: IcebergSink, tmp_path: Path
) -> None:
    run(sink, "r1", "t1")
    script = f"""
import os
from pathlib import Path
from beam_fraud.sinks.iceberg.run import IcebergRun
from tests.sinks.test_iceberg import run, sink_of

IcebergRun._commit = lambda *given: os._exit(9)
run(sink_of(Path({str(tmp_path / "out")!r})), "r2", "t2")
"""
    died = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert died.returncode == 9
    assert (ids(), len(data(tmp_path))) == (["t1"], 2)
    sink.begin("r3")
    assert (ids(), len(data(tmp_path))) == (["t1"], 1)


@pytest.mark.parametrize("renamed", [False, True])
def test_files_of_another_table_are_never_removed(
    sink: IcebergSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    # A run that is killed right after its commit, and one into another table.
    with monkeypatch.context() as patched:
        patched.setattr(Staging, "remove", lambda staging: 1 / 0)
        begin(sink, "r1", "t1")
        with pytest.raises(ZeroDivisionError):
            sink.commit("r1")
    Staging(sink.rows.work, "r1").release()
    other = sink_of(tmp_path / "out", "iceberg:shop.other")
    if renamed:
        load_catalog().rename_table("shop.flagged", "shop.kept")
        other = sink
    run(other, "r2", "t2")
    assert ids("shop.kept" if renamed else "shop.flagged") == ["t1"]


@pytest.mark.parametrize("name", ["", "?run=same"])
def test_of_two_runs_that_commit_at_once_none_is_lost(
    iceberg_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first = sink_of(tmp_path / "first", iceberg_table + name)
    second = sink_of(tmp_path / "second", iceberg_table + name)
    run(first, "r0", "t0")
    begin(second, "r2", "t2")
    commit, between = IcebergRun._commit, [lambda: run(first, "r1", "t1")]

    def commit_between(*given: Any) -> None:
        # The other commits after this one has read the table.
        if between:
            monkeypatch.setattr(IcebergRun, "_commit", commit)
            between.pop()()
        commit(*given)

    monkeypatch.setattr(IcebergRun, "_commit", commit_between)
    second.commit("r2")
    assert ids() == (["t2"] if name else ["t1", "t2"])


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (COLUMNS.remove(1), "lacks the column 'event_time'"),
        (COLUMNS.append(pa.field("region", pa.string())), "'region'"),
        (COLUMNS.set(5, pa.field("score", pa.float32(), nullable=False)), "'score' of float"),
        (COLUMNS.set(8, pa.field("rules", pa.list_(pa.int64()))), "'rules'"),
        (COLUMNS.set(2, pa.field("account_id", pa.string(), nullable=False)), "'account_id'"),
        (SCORED, "'run_output'"),
    ],
)
def test_a_table_with_other_columns_is_refused_before_the_run(
    sink: IcebergSink, columns: pa.Schema, named: str
) -> None:
    catalog = load_catalog()
    catalog.create_namespace("shop")
    catalog.create_table("shop.flagged", columns)
    with fails(Code.ICEBERG_TABLE, f"--sink iceberg:shop.flagged: the table .*{named}"):
        sink.check()


def test_a_partitioned_table_is_refused(sink: IcebergSink) -> None:
    catalog = load_catalog()
    catalog.create_namespace("shop")
    with catalog.create_table("shop.flagged", COLUMNS).update_spec() as changed:
        changed.add_field("account_id", IdentityTransform(), "by_account")
    with fails(Code.ICEBERG_TABLE, "partitioned by 'by_account'"):
        sink.check()


def test_a_table_of_the_same_columns_in_another_order_is_taken(sink: IcebergSink) -> None:
    catalog = load_catalog()
    catalog.create_namespace("shop")
    catalog.create_table("shop.flagged", pa.schema(list(COLUMNS)[::-1]))
    for number in range(2):
        run(sink, f"r{number}", "t1")
    assert rows()[0]["amount"] == 12.5


def test_a_table_of_an_earlier_version_gets_the_new_columns(sink: IcebergSink) -> None:
    catalog = load_catalog()
    catalog.create_namespace("shop")
    names = [name for name in COLUMNS.names if name not in LATER_COLUMNS]
    old = pa.schema([COLUMNS.field(name) for name in names])
    table = catalog.create_table("shop.flagged", old)
    written = pa.Table.from_batches([earlier(flagged_batch(["old"]))])
    table.append(written.append_column(COLUMNS.field("run_output"), pa.array(["before"])))
    sink.check()
    assert catalog.load_table("shop.flagged").schema().as_arrow().names == names
    run(sink, "r1", "x", "y")
    run(sink, "r2", "x")
    named = {row["transaction_id"]: (row["rules_id"], row["shadow_rules"]) for row in rows()}
    assert named == {"old": (None, None), "x": ("rules@1", ["tried"])}


def test_the_table_is_an_input_of_score(options: ScoreOptions, tmp_path: Path) -> None:
    score.run(options)
    roles = {"transaction_id": "transaction_id", "event_time": "event_time", "amount": "amount"}
    again = replace(
        options,
        files=(str(tmp_path / "lake/lake.bank/scores"),),
        model=bundle(tmp_path / "again", roles),
        out=str(tmp_path / "scored"),
        rules=None,
        sink=None,
        archive=None,
    )
    summary = score.run(again)
    assert (summary["rows_in"], summary["rows_scored"]) == (5, 5)


def test_replayed_rows_are_added(options: ScoreOptions, tmp_path: Path) -> None:
    file = Path(options.files[0])
    file.write_text(file.read_text() + "x6,2024-01-06,ten\n")
    score.run(options)
    again = ReplayOptions(
        out=options.out,
        results=str(tmp_path / "again"),
        model=options.model,
        repaired=str(export(tmp_path, ten="10")),
        sink=options.sink,
        archive=ARCHIVE,
    )
    assert replay.run(again)["rows_scored"] == 1
    assert (len(rows()), len(rows("lake.bank.scores"))) == (4, 6)


@pytest.mark.parametrize("option", ["sink", "archive"])
def test_a_replay_does_not_replace_the_rows_of_a_run(
    options: ScoreOptions, tmp_path: Path, option: str
) -> None:
    named = {option: "iceberg:shop.flagged?run=day"}
    plain = replace(options, sink=None, archive=None)
    score.run(replace(plain, **named))
    again = ReplayOptions(
        out=options.out, results=str(tmp_path / "again"), model=options.model, **named
    )
    with fails(Code.OUTPUT_OCCUPIED, f"--{option} iceberg:shop.flagged", UsageError):
        replay.run(again)


def test_rows_of_all_runs_are_erased(sink: IcebergSink, tmp_path: Path) -> None:
    run(sink, "r1", "t1")
    other = sink_of(tmp_path / "other")
    other.begin("r2")
    writer = other.open("r2")
    writer.write(flagged_batch(["t2"], account="b"))
    writer.write(flagged_batch(["t3"], account="a"))
    writer.close()
    other.commit("r2")
    given = EraseOptions(accounts=("a", "c"), sinks=("iceberg:shop.flagged",), yes=True)
    result = erase.run(given)
    assert (result["total"], result["accounts_unknown"]) == (2, ["c"])
    assert ids() == ["t2"]
    assert erase.run(replace(given, accounts=(), older_than="1d", dry_run=True))["total"] == 1


def test_rows_that_a_killed_run_kept_for_the_table_are_erased(
    options: ScoreOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    score.run(replace(options, archive=None))
    sink = sink_of(out)
    begin(sink, "dead", "t1")
    note = sink.rows.work / ".incoming-dead/copied"
    note.write_text(f"file://{tmp_path}/lake/copied.parquet\n")
    given = EraseOptions(accounts=("a",), outs=(str(out),), yes=True)
    # A run that lives keeps its rows.
    erase.run(given)
    assert len(list(sink.rows.work.rglob("*.parquet"))) == 1
    Staging(sink.rows.work, "dead").release()
    erase.run(given)
    assert not list(sink.rows.work.rglob("*.parquet"))
    assert note.exists()


def test_a_stream_is_refused(iceberg_table: str) -> None:
    with fails(Code.SINK_UNSUITED, "--sink iceberg:shop.flagged: .*batches only", UsageError):
        parse_sink(iceberg_table).streaming(here=True)


def test_both_outputs_in_one_table_are_refused(options: ScoreOptions) -> None:
    for archive in ("iceberg:shop.flagged", "iceberg:default/shop.flagged?run=x"):
        with fails(Code.PLACE_SHARED, "--archive iceberg:", UsageError):
            score.run(replace(options, archive=archive))


def test_an_archive_is_a_table(iceberg_table: str) -> None:
    with fails(Code.URL_UNUSABLE, "--archive: .*iceberg:", UsageError):
        parse_archive("parquet:all")


def test_a_catalogue_that_is_unknown_or_fails_is_named(iceberg_table: str, tmp_path: Path) -> None:
    parse_sink(iceberg_table).check()
    (tmp_path / "catalog.db").write_text("no database, and as long as the header of one")
    for url in ("iceberg:elsewhere/shop.flagged", iceberg_table):
        with fails(Code.ICEBERG_CATALOG, f"--sink {url}: .*pyiceberg.yaml") as failed:
            parse_sink(url).check()
        assert "\n" not in str(failed.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiceberg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    with fails(Code.EXTRA_MISSING, r"--sink iceberg:shop\.flagged.*beam-fraud\[iceberg\]"):
        parse_sink("iceberg:shop.flagged").check()
