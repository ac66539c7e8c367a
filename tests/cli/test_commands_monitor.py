"""`monitor` over an archive: figures, alarms, page, gauges, notices, refusals."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from beam_fraud.cli.commands import live_monitor, monitor, serve_plan, serve_together
from beam_fraud.cli.commands.live_figures import watched_figures
from beam_fraud.cli.commands.live_monitor import Notifying, Reporting
from beam_fraud.cli.options import MonitorOptions, ServeOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.monitor_report import MonitorReport
from beam_fraud.models.bundle import RELIABILITY_FILE, open_bundle, read_reference
from beam_fraud.models.drift import counter_of
from beam_fraud.monitoring.drift.counts import FILE, layout_piece, layouts_in, rows_piece
from beam_fraud.monitoring.drift.divergence import psi
from beam_fraud.monitoring.drift.report import DriftReport
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.operations.drift.dead_letter_days import arriving_letters
from beam_fraud.operations.drift.live import LiveDrift, LiveSettings, read_pieces
from beam_fraud.serve.drift import DriftCounters, KeptCounts
from beam_fraud.state.drift import DriftShard, LetterShard
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, transaction
from beam_fraud.storage.database.tables import DELIVERIES
from beam_fraud.storage.journal import JournaledCheckpoint
from beam_fraud.storage.stream_outputs import ServerOutputs
from tests.drifting import Archive, archive_of
from tests.stream_process import wait_until

#: Two have a time, one is beside one that has, and the time of one is unknown.
LETTERS = pa.table(
    {
        "source": ["day.jsonl", "day.jsonl", "day.jsonl", "other.csv"],
        "position": [10, 11, 12, 0],
        "reason": ["wrong_type", "malformed", "wrong_type", "missing_time"],
        "payload": [
            b'{"TX_DATETIME": "2024-04-16 12:00:00", "TX_AMOUNT": "ten"}',
            b"{",
            b'{"TX_DATETIME": "2024-04-17 12:00:00", "TX_AMOUNT": "ten"}',
            b"1,,2",
        ],
    }
)


@dataclass(frozen=True)
class Place:
    archive: Archive
    out: Path
    bundle: Path

    def options(self, **changes: object) -> MonitorOptions:
        return MonitorOptions(
            **{"directory": str(self.out), "model": str(self.bundle), **changes}  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    directory = tmp_path_factory.mktemp("monitored")
    archive = archive_of(2, directory, judged=2, accounts=800)
    archive.bundle.save(directory / "bundle")
    scores = directory / "out/scores"
    scores.mkdir(parents=True)
    for number, start in enumerate(range(0, archive.rows.num_rows, 20_000)):
        pq.write_table(archive.rows.slice(start, 20_000), scores / f"part-{number}.parquet")
    letters = directory / "out/dead_letters"
    letters.mkdir()
    pq.write_table(LETTERS, letters / "part-0.parquet")
    return Place(archive, directory / "out", directory / "bundle")


def test_the_change_is_reported_everywhere(place, tmp_path):
    options = place.options(
        out=str(tmp_path / "drift.html"),
        metrics=str(tmp_path / "drift.prom"),
        alerts=(f"file:{tmp_path / 'alerts.jsonl'}",),
        segments=("TERMINAL_TYPE", "decision"),
        fail_if="alarms",
    )
    outcome = monitor.call(options, as_json=True)
    assert outcome.exit_code == 3
    result = json.loads(json.dumps(outcome.result))
    [unseen] = [one for one in result["alarms"] if one["kind"] == "unseen" and not one["segment"]]
    assert unseen["measure"] == "TERMINAL_TYPE"
    assert 0 < unseen["weight"] <= 1
    assert result["rows"] == place.archive.rows.num_rows
    assert result["dead_letters"] == {"wrong_type": 2, "malformed": 1, "missing_time": 1}
    assert result["dead_letters_undated"] == 1
    records = {one["what"]: one["count"] for one in result["records"]}
    assert records["dead letters"] == 3
    assert records["dead letters of wrong_type"] == 2
    assert "no order of arrival" in result["notes"][0]
    assert len(result["hours"]) == 24
    assert sum(window["rows"] for window in result["windows"]) == result["rows"]
    segments = {one["segment"] for one in result["features"]} - {None}
    assert "TERMINAL_TYPE=type_01" in segments
    assert "decision=approve" in segments
    page = (tmp_path / "drift.html").read_text()
    assert "unseen values of TERMINAL_TYPE" in page
    assert page.count("<svg") == 5
    assert "no time that can be read" in page
    gauges = (tmp_path / "drift.prom").read_text()
    assert 'beam_fraud_drift_psi{measure="amount",segment=""}' in gauges
    assert "unseen values of TERMINAL_TYPE" in monitor.render(outcome.result)
    notices = (tmp_path / "alerts.jsonl").read_text()
    assert notices.count("- unseen values of TERMINAL_TYPE since") == 1
    monitor.run(options)
    assert (tmp_path / "alerts.jsonl").read_text() == notices


def test_figures_against_the_training_rows_are_those_of_the_values(place):
    result = monitor.run(place.options())
    rows = place.archive.rows
    days = rows["event_time"].to_numpy().astype("datetime64[D]")
    last = np.isin(days, np.unique(days)[-7:])
    values = rows["features"].combine_chunks().field("account_mean_7d").to_numpy()[last]
    reference = {one.feature: one for one in read_reference(place.archive.bundle).distributions}
    known = reference["account_mean_7d"]
    bins = np.r_[-np.inf, np.nextafter(known.edges, np.inf), np.inf]
    expected = psi(np.histogram(values, bins)[0], np.array(known.counts))
    [own] = [one for one in result["features"] if one["name"] == "account_mean_7d"]
    assert own["psi"] == pytest.approx(float(expected), rel=1e-12)


@pytest.fixture(scope="module")
def streamed(place, tmp_path_factory) -> Place:
    """The archive of a stream: some rows are an hour late, and some records are dead letters."""
    out = tmp_path_factory.mktemp("streamed")
    for branch in ("scores", "stream", "dead_letters"):
        (out / branch).mkdir()
    (out / "stream/state.db").write_bytes(b"")
    times = place.archive.rows["event_time"].to_numpy().astype(np.int64)
    decided = times + np.where(np.arange(len(times)) % 10 == 0, 3_700_000_000, 0)
    at = place.archive.rows.schema.names.index("decided_at")
    column = pa.array(decided).cast(pa.timestamp("us", "UTC"))
    rows = place.archive.rows.set_column(at, "decided_at", column)
    pq.write_table(rows, out / "scores/part-0.parquet")
    pq.write_table(LETTERS, out / "dead_letters/part-0.parquet")
    return replace(place, archive=replace(place.archive, rows=rows), out=out)


def live_of(
    place: Place, directory: Path, rows: pa.Table, url: str | None = None
) -> tuple[LiveDrift, Reporting]:
    """Return a monitor of rows and dead letters that a stream has counted, killed twice."""
    bundle = place.archive.bundle
    counter = counter_of(bundle, ("TERMINAL_TYPE",))
    pieces: list[bytes] = []
    batches = rows.sort_by("decided_at").to_batches(max_chunksize=5_000)
    for part in (batches[:2], batches[2:5], batches[5:]):
        shard = DriftShard(lambda batch: counter)
        shard.restore(pieces)
        for batch in part:
            pieces += [delta.data for delta in shard.take(batch).deltas]
        pieces += [delta.data for delta in shard.finish().deltas]
        described = [piece for piece in pieces if layouts_in([piece])]
        pieces = [*described, shard.merge([one for one in pieces if one not in described])]
    letters = LetterShard(lambda dead: arriving_letters(dead, bundle.schema, UTC, time.time()))
    for batch in LETTERS.to_batches():
        pieces += [delta.data for delta in letters.take(batch).deltas]
    reporting = Reporting(Notifying(url, ["file"] if url else []))
    settings = LiveSettings(
        lambda: pieces,
        lambda: place.archive.bundle,
        ("TERMINAL_TYPE",),
        True,
        directory,
        1 / 30,
        reporting,
    )
    return LiveDrift(settings), reporting


def test_a_stream_raises_the_alarms_of_its_archive(streamed, tmp_path):
    """Alarms go out once; the counts that the stream leaves give the report of the archive."""
    place = streamed
    url = sqlite_url(tmp_path / "outbox.db")
    prepare_database(url)
    queued = []
    for _ in range(2):
        # The second is that of a process that was started again.
        live, reporting = live_of(place, tmp_path, place.archive.rows, url)
        live.look()
        live.look()
        with transaction(url) as connection:
            queued.append(connection.execute(select(DELIVERIES.c.delivery_id)).scalars().all())
    assert queued[0]
    assert queued[0] == queued[1]
    expected = monitor.run(place.options(segments=("TERMINAL_TYPE",)))
    left = monitor.run(place.options(directory=str(tmp_path)))
    assert left["rows"] == expected["rows"]
    for figure in ("windows", "records", "dead_letters", "dead_letters_undated", "notes", "tests"):
        assert left[figure] == expected[figure], figure
    assert left["dead_letters_undated"] == 1
    assert left["quality"] == expected["quality"]
    assert len(left["quality"]["periods"]) > 4
    assert all(week["expected"]["recall"]["value"] for week in left["quality"]["periods"])
    assert [one["psi"] for one in left["features"]] == [one["psi"] for one in expected["features"]]
    named = [(one["what"], one["since"], one["raised"]) for one in left["alarms"]]
    assert named == [(one["what"], one["since"], one["raised"]) for one in expected["alarms"]]
    # The stream has not seen that the last day is over.
    report = reporting.last
    assert report is not None
    assert report.drift.windows[-1].judged is False
    late = {one.what: one.count for one in report.drift.records}
    assert late["rows over 10 min late"] > 0
    assert report.drift.dead_letters == expected["dead_letters"]
    # Alarms of the whole archive may doubt other weeks.
    assert report.quality is not None
    weeks = [asdict(one) for one in report.quality.periods]
    assert [one["expected"] for one in weeks] == [
        one["expected"] for one in expected["quality"]["periods"]
    ]
    shown = watched_figures(report).quality
    assert shown is not None
    assert shown.doubted
    last = report.quality.periods[-1]
    assert last.expected is not None
    assert last.expected.recall.value is not None
    week = shown.weeks[-1]
    assert (week.since, week.days, week.flagged) == (last.since, last.days, last.flagged)
    assert week.recall is not None
    assert week.recall[0] == last.expected.recall.value
    # A command whose workers write the counts judges their files.
    bundle, reports = place.archive.bundle, list[DriftReport]()
    of_files = LiveSettings(
        lambda: read_pieces(tmp_path) or [],
        lambda: bundle,
        ("TERMINAL_TYPE",),
        False,
        None,
        1 / 30,
        lambda report, *_: reports.append(report),
    )
    LiveDrift(of_files).look()
    assert reports[-1].windows == report.drift.windows
    assert [one.what for one in reports[-1].alarms] == [one.what for one in report.drift.alarms]


def test_notices_and_expected_quality_do_not_wait_for_each_other(streamed, tmp_path):
    """One fails, and its error is raised; the other is there nevertheless."""
    shutil.copytree(streamed.bundle, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / RELIABILITY_FILE).write_bytes(b"damaged while the stream runs")
    damaged = replace(streamed, archive=replace(streamed.archive, bundle=bundle))
    url = sqlite_url(tmp_path / "outbox.db")
    prepare_database(url)
    live, reporting = live_of(damaged, tmp_path, streamed.archive.rows, url)
    with pytest.raises(FraudError) as unreadable:
        live.look()
    assert unreadable.value.code == Code.BUNDLE_DAMAGED
    with transaction(url) as connection:
        events = connection.execute(select(DELIVERIES.c.event)).scalars().all()
    told = {one["what"] for event in events for one in json.loads(event)["drift"]["alarms"]}
    assert "unseen values of TERMINAL_TYPE" in told
    report = reporting.last
    assert report is not None
    assert report.quality is None
    assert told == {one.what for one in report.drift.open_alarms}
    (tmp_path / "broken.db").write_bytes(b"no database")
    broken = sqlite_url(tmp_path / "broken.db")
    live, reporting = live_of(streamed, tmp_path, streamed.archive.rows, broken)
    with pytest.raises(FraudError) as unwritable:
        live.look()
    assert unwritable.value.code == Code.DATABASE_REFUSED
    assert reporting.last is not None
    assert reporting.last.quality is not None


def test_counts_of_a_stream_and_the_archive_before_it_are_one_history(place, tmp_path):
    rows = place.archive.rows
    cut = rows.num_rows // 3
    (tmp_path / "before/scores").mkdir(parents=True)
    pq.write_table(rows.slice(0, cut), tmp_path / "before/scores/part-0.parquet")
    (tmp_path / "monitor").mkdir()
    live_of(place, tmp_path / "monitor", rows.slice(cut))[0].look()
    both = monitor.run(
        place.options(directory=str(tmp_path / "before"), also=(str(tmp_path / "monitor"),))
    )
    whole = monitor.run(place.options(segments=("TERMINAL_TYPE",)))
    assert both["windows"] == whole["windows"]
    assert both["rows"] == whole["rows"]
    assert both["dead_letters"] == whole["dead_letters"]
    assert both["quality"] == whole["quality"]
    with pytest.raises(UsageError) as refused:
        monitor.run(place.options(directory=str(tmp_path / "monitor"), segments=("decision",)))
    assert refused.value.code == Code.COLUMN_MISSING
    (tmp_path / "monitor" / FILE).write_bytes(b"no counts")
    with pytest.raises(FraudError) as damaged:
        monitor.run(place.options(directory=str(tmp_path / "monitor")))
    assert damaged.value.code == Code.INPUT_DAMAGED


def test_two_servers_have_one_judge_who_tells_of_an_alarm_once(place, tmp_path, monkeypatch):
    """Each has the rows of its own accounts."""
    monkeypatch.setattr(live_monitor, "_LOOK_SECONDS", 0.1)
    options = ServeOptions(
        model=str(place.bundle),
        state=str(tmp_path / "state"),
        workers=2,
        monitor=True,
        segments=("TERMINAL_TYPE",),
        sink=f"sqlite:///{tmp_path / 'fraud.db'}",
        alerts=(f"file:{tmp_path / 'alerts.jsonl'}",),
    )
    bundle, rows = place.archive.bundle, place.archive.rows
    states = [str(tmp_path / "state" / number) for number in "01"]
    planned = serve_plan.plan(replace(options, state=states[0], workers=1))
    url = planned.scored.scoring.alerts_database
    assert url is not None
    prepare_database(url)
    first = np.array([zlib.crc32(name.encode()) % 2 for name in rows["account_id"].to_pylist()])
    for number, state in enumerate(states):
        checkpoint = JournaledCheckpoint(ServerOutputs(Path(state)).checkpoint)
        counters = DriftCounters(bundle, ("TERMINAL_TYPE",))
        own = rows.filter(pa.array(first == number)).combine_chunks()
        KeptCounts(checkpoint, counters, bundle.schema).keep(counters.count(own.to_batches()))
        checkpoint.commit({}, fold=True)
        checkpoint.close()

    def told() -> list[str]:
        with transaction(url) as connection:
            events = connection.execute(select(DELIVERIES.c.event)).scalars().all()
        alarms = [one for event in events for one in json.loads(event)["drift"]["alarms"]]
        return sorted(f"{one['what']} {one['segment']}" for one in alarms)

    report = tmp_path / "state/monitor" / serve_together.REPORT
    queued = list[list[str]]()
    for _ in range(2):
        # The second is a parent that was started again.
        with serve_together.watched_together(options, planned, states):
            wait_until(report.exists)
        queued.append(told())
    assert queued[0] == queued[1]
    assert len(queued[0]) == len(set(queued[0]))
    assert any(one.startswith("unseen values of TERMINAL_TYPE") for one in queued[0])
    found = msgspec.msgpack.decode(report.read_bytes(), type=MonitorReport)
    assert found.drift.rows == len(rows)
    assert [one.what for one in found.drift.open_alarms]
    assert found.quality is not None
    assert sum(week.rows for week in found.quality.periods) == len(rows)


def test_a_stream_tells_an_outage_while_the_day_goes_on(place, tmp_path):
    bundle = place.archive.bundle
    counter = counter_of(bundle)
    whole = Summary.merged(
        counter.layout, [counter.count(batch) for batch in place.archive.rows.to_batches()]
    )
    counts = 5 * whole.counts
    counts[-1, :, counter.layout.spans["hour"]][:, 10:24] = 0
    last = np.datetime64(int(whole.days[-1]), "D")
    pieces = [
        layout_piece(counter.key, bundle.model_id, counter.layout),
        rows_piece(counter.key, replace(whole, counts=counts)),
    ]
    reports: list[DriftReport] = []
    settings = LiveSettings(
        *(lambda: pieces, lambda: bundle, (), True, tmp_path, 1 / 30),
        lambda report, *_: reports.append(report),
    )
    for hour, alarms in ((10, 0), (16, 1)):
        now = datetime.fromisoformat(f"{last}T{hour}:30:00+00:00")
        LiveDrift(settings, lambda now=now: now).look()
        hourly = [one for one in reports[-1].alarms if one.kind == "hour"]
        assert [one.raised for one in hourly] == [str(last)] * alarms


def test_a_stream_tells_how_late_its_rows_are(streamed):
    result = monitor.run(streamed.options())
    assert result["notes"] == ()
    shares = {one["what"]: one["share"] for one in result["records"]}
    # Few rows come at night, so that some late ones are the newest.
    assert 0.08 < shares["rows over 10 min late"] <= 0.1
    assert shares["rows over 6 h late"] == 0


@pytest.mark.parametrize("until", ["2023-01-01", "2030-01-01", "soon"])
def test_a_time_that_is_not_about_the_rows_is_refused(place, until):
    with pytest.raises(UsageError) as refused:
        monitor.run(place.options(until=until))
    assert refused.value.code == Code.TIME_INVALID


def test_an_archive_without_features_is_watched_by_score_and_volume(place, tmp_path, caplog):
    (tmp_path / "scores").mkdir()
    plain = place.archive.rows.drop_columns(["features", "decided_at"])
    pq.write_table(plain, tmp_path / "scores/part-0.parquet")
    result = monitor.run(place.options(directory=str(tmp_path)))
    assert {one["name"] for one in result["features"]} == {"amount"}
    assert "--keep-features" in caplog.text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"false_alarms": "30d"}, Code.OPTION_VALUE),
        ({"false_alarms": "1/1h"}, Code.OPTION_VALUE),
        ({"since": "yesterday"}, Code.TIME_INVALID),
        ({"out": "report.txt"}, Code.OUTPUT_NAME),
        ({"metrics": "gauges.txt"}, Code.OUTPUT_NAME),
        ({"sink": "parquet:x"}, Code.SINK_UNSUITED),
        ({"segments": ("country",)}, Code.COLUMN_MISSING),
    ],
)
def test_wrong_calls_are_refused(place, changes, code):
    with pytest.raises(UsageError) as refused:
        monitor.run(place.options(**changes))
    assert refused.value.code == code


def test_places_without_rows_of_the_model_are_refused(place, tmp_path):
    with pytest.raises(FraudError) as empty:
        monitor.run(place.options(directory=str(tmp_path)))
    assert empty.value.code == Code.PLACE_EMPTY
    (tmp_path / "scores").mkdir()
    names = place.archive.rows.schema.names
    other = place.archive.rows.set_column(
        names.index("model_id"), "model_id", pa.array(["other@1"] * place.archive.rows.num_rows)
    )
    pq.write_table(other, tmp_path / "scores/part-0.parquet")
    with pytest.raises(FraudError) as others:
        monitor.run(place.options(directory=str(tmp_path)))
    assert others.value.code == Code.PLACE_EMPTY


def test_damaged_files_are_named(place, tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/part-0.parquet").write_bytes(b"no Parquet")
    with pytest.raises(FraudError) as damaged:
        monitor.run(place.options(directory=str(tmp_path)))
    assert damaged.value.code == Code.INPUT_DAMAGED
