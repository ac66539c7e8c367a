"""`monitor --database`: what flagged and audited rows tell, what they do not, and snoozes there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy.engine import make_url

from beam_fraud.cli.commands import alerts, monitor
from beam_fraud.cli.commands.labels import run_export
from beam_fraud.cli.options import ExportLabelsOptions, MonitorOptions, SnoozeAlertsOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, writing
from beam_fraud.storage.database.tables import AUDITED, DEAD_LETTERS, FLAGGED
from tests.connections import close_connections
from tests.drifting import Archive, archive_of
from tests.failing import fails

SHARE = 0.5
#: Flagged rows a day that an attack adds on the last two days.
ATTACK = 60


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, Path]:
    directory = tmp_path_factory.mktemp("monitored")
    archive = archive_of(3, directory, judged=2, accounts=250)
    archive.bundle.save(directory / "bundle")
    return archive, directory / "bundle"


def days_of(rows: pa.Table) -> np.ndarray:
    return rows["event_time"].to_numpy().astype("datetime64[D]")


def fill(url: str, rows: pa.Table, *, audits: bool) -> int:
    """Write the flagged rows, a share of the others, and an attack; return the audited rows."""
    prepare_database(url)
    random = np.random.default_rng(0)
    flagged = rows["flagged"].to_numpy(zero_copy_only=False)
    chosen = ~flagged & (random.random(len(rows)) < SHARE)
    last = np.flatnonzero(~flagged & (days_of(rows) >= days_of(rows)[-1] - 1) & ~chosen)
    attack = np.zeros(len(rows), bool)
    attack[random.choice(last, 2 * ATTACK, replace=False)] = True
    names = [column.name for column in FLAGGED.columns if column.name in rows.column_names]

    def values(mask: np.ndarray, **more: object) -> list[dict[str, object]]:
        listed = rows.filter(pa.array(mask)).select(names).to_pylist()
        return [
            {**row, "rules": "[]", "reasons": "[]", "shadow_rules": None, **more} for row in listed
        ]

    with writing(url) as connection:
        connection.execute(FLAGGED.insert(), values(flagged))
        connection.execute(FLAGGED.insert(), values(attack, decision="review", score=0.9))
        if audits:
            connection.execute(AUDITED.insert(), values(chosen, probability=SHARE))
        start = datetime.fromisoformat(f"{days_of(rows)[0]}T00:00:00+00:00")
        letters = [
            {
                "source": "topic:0",
                "position": number,
                "reason": "wrong_type" if number % 3 else "malformed",
                "dead_at": start + timedelta(hours=number),
            }
            for number in range(24 * 35)
        ]
        connection.execute(DEAD_LETTERS.insert(), letters)
    return int(chosen.sum())


def options(bundle: Path, sink: str, **changes: object) -> MonitorOptions:
    return MonitorOptions(**{"database": sink, "model": str(bundle), **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def audited(archive: tuple[Archive, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("audited") / "fraud.db"
    fill(sqlite_url(file), archive[0].rows, audits=True)
    return f"sqlite:///{file}"


def check_estimates(result: dict[str, object], archive: Archive) -> None:
    """Check a report of flagged and audited rows against all rows."""
    windows = result["windows"]
    days, rows = np.unique(days_of(archive.rows), return_counts=True)
    assert [one["day"] for one in windows] == days.astype(str).tolist()
    found = np.array([one["rows"] for one in windows])
    assert found.sum() == pytest.approx(rows.sum(), rel=0.03)
    assert np.abs(found / rows - 1).max() < 0.3
    flagged = pc.sum(archive.rows["flagged"]).as_py() + 2 * ATTACK
    shares = np.array([one["flagged"] for one in windows])
    assert (shares * found).sum() == pytest.approx(flagged)
    score = next(one for one in [result["score"]] if one["segment"] is None)
    assert score["psi"] < 0.2
    assert {one["segment"] for one in result["features"]} >= {"seen=flagged", "seen=audited"}
    [alarm] = [one for one in result["alarms"] if one["what"] == "flag rate"]
    assert alarm["raised"] in (str(days[-2]), str(days[-1]))
    assert result["dead_letters"] == {"wrong_type": 560, "malformed": 280}
    records = {one["what"]: one["share"] for one in result["records"]}
    assert records["dead letters"] is not None
    assert "audited rows were read" in result["notes"][0]


def test_all_rows_are_estimated_by_the_audited_ones(archive, audited, tmp_path):
    page = tmp_path / "drift.html"
    result = monitor.run(options(archive[1], audited, out=str(page)))
    check_estimates(result, archive[0])
    text = page.read_text()
    assert "each audited row stands for as many" in text
    assert "no features and no arrival times" in text
    assert "audited rows were read" in monitor.render(result)


@pytest.mark.slow
def test_postgresql_gives_the_same_also_where_nothing_can_be_written(
    archive, audited, postgres, postgres_database, tmp_path
):
    fill(postgres_database, archive[0].rows, audits=True)
    result = monitor.run(options(archive[1], postgres_database))
    check_estimates(result, archive[0])
    same = monitor.run(options(archive[1], audited))
    assert {**result, "seconds": 0} == {**same, "seconds": 0}
    name = make_url(postgres_database).database
    postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    close_connections(postgres_database)
    result = monitor.run(options(archive[1], postgres_database))
    assert {**result, "seconds": 0} == {**same, "seconds": 0}
    labels = ExportLabelsOptions(database=postgres_database, out=str(tmp_path / "labels.csv"))
    assert run_export(labels)["labels"] == 0
    with fails(Code.DATABASE_RIGHTS, "primary"):
        monitor.run(options(archive[1], postgres_database, alerts=("console:",)))


def test_without_an_audit_lane_the_page_says_what_is_not_known(archive, tmp_path):
    url = sqlite_url(tmp_path / "fraud.db")
    fill(url, archive[0].rows, audits=False)
    result = monitor.run(
        options(archive[1], f"sqlite:///{tmp_path / 'fraud.db'}", out=str(tmp_path / "drift.html"))
    )
    assert result["rows"] == pc.sum(archive[0].rows["flagged"]).as_py() + 2 * ATTACK
    assert result["score"]["psi"] is None
    assert result["dead_letters"] == {}
    assert "are not known" in (tmp_path / "drift.html").read_text()


def test_a_figure_is_snoozed_in_the_database_alone(archive, audited, tmp_path):
    chosen = options(
        archive[1],
        audited,
        alerts=(f"file:{tmp_path / 'alerts.jsonl'}",),
        out=str(tmp_path / "drift.html"),
        fail_if="alarms",
    )
    before = [one["what"] for one in monitor.run(chosen)["alarms"] if one["until"] is None]
    assert "flag rate" in before
    sent = (tmp_path / "alerts.jsonl").read_text()
    assert sent.count("- flag rate since") == 1
    until = datetime.now(UTC).date() + timedelta(days=10)
    for figure in before:
        snooze = SnoozeAlertsOptions(figure=figure, until=until.isoformat(), sink=audited)
        alerts.run_snooze(snooze)
    assert f"alarms of figure flag rate wait until {until}" in alerts.render_snooze(
        alerts.run_snooze(SnoozeAlertsOptions(figure="flag rate", until=str(until), sink=audited))
    )
    outcome = monitor.call(chosen, as_json=True)
    assert outcome.exit_code == 0
    assert all(one["snoozed_until"] for one in outcome.result["alarms"] if one["until"] is None)
    assert str(until) in (tmp_path / "drift.html").read_text()
    assert f"snoozed until {until}" in monitor.render(outcome.result)
    alerts.run_snooze(SnoozeAlertsOptions(figure="flag rate", lift=True, sink=audited))
    assert monitor.call(chosen, as_json=True).exit_code == 3
    # It is the same alarm: no notice is sent again.
    assert (tmp_path / "alerts.jsonl").read_text() == sent


def test_wrong_calls_are_refused(archive, audited, tmp_path):
    for changes, code in (
        ({"database": None}, Code.OPTION_MISSING),
        ({"directory": str(tmp_path)}, Code.OPTION_CONFLICT),
        ({"segments": ("decision",)}, Code.OPTION_CONFLICT),
        ({"database": "parquet:x"}, Code.SINK_UNSUITED),
    ):
        with fails(code, kind=UsageError):
            monitor.run(options(archive[1], audited, **changes))
    url = sqlite_url(tmp_path / "empty.db")
    prepare_database(url)
    with fails(Code.PLACE_EMPTY, "no flagged rows"):
        monitor.run(options(archive[1], f"sqlite:///{tmp_path / 'empty.db'}"))
    for wrong in ({"figure": "a"}, {"figure": "a", "account_id": "b", "span": "1d"}):
        with fails(
            Code.OPTION_MISSING if len(wrong) == 1 else Code.OPTION_CONFLICT, kind=UsageError
        ):
            alerts.run_snooze(SnoozeAlertsOptions(sink=audited, **wrong))
    with fails(Code.TIME_INVALID, kind=UsageError):
        alerts.run_snooze(SnoozeAlertsOptions(figure="a", until="2020-01-01", sink=audited))
