"""Tell people of alarms: each once, grouped, and none that is snoozed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import msgspec
from sqlalchemy import Connection, select

from beam_fraud.alerts.queue import Notice, queue_notices
from beam_fraud.alerts.snoozes import Snooze, snoozes_in_force
from beam_fraud.monitoring.drift.report import Alarm, DriftReport
from beam_fraud.storage.database.connection import prepare_for_reading, transaction
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.tables import DELIVERIES
from beam_fraud.storage.database.url import database_file

#: Days by which the first day of an alarm may move when its days are judged again.
_MOVES = 3
#: Days after which a notice is no longer looked at.
_REMEMBERED = 400


def with_snoozes(report: DriftReport, snoozes: Sequence[Snooze]) -> DriftReport:
    """Return the report whose alarms say how long they are snoozed.

    A snooze names a figure as alarms do, such as `unseen values of TERMINAL_TYPE`, or `volume of
    COLUMN=VALUE` for one of a segment; or a feature, for all its figures everywhere.
    """
    until = {one.value: one.until for one in snoozes if one.kind == "figure"}
    if not until:
        return report
    alarms = []
    for alarm in report.alarms:
        ends = [until[name] for name in alarm.snoozed_by if name in until]
        end = max(ends).isoformat(timespec="seconds") if ends else None
        alarms.append(replace(alarm, snoozed_until=end))
    return replace(report, alarms=tuple(alarms))


def snoozes_of(url: str) -> list[Snooze]:
    """Return the snoozes in force in a database; none if it is not there yet.

    Raises:
      FraudError: it cannot be used.
    """
    file = database_file(url)
    if file is not None and not Path(file).is_file():
        return []
    prepare_for_reading(url)
    with transaction(url) as connection:
        return snoozes_in_force(connection, datetime.now(UTC))


def queue_alarms(
    url: str,
    channels: Sequence[str],
    report: DriftReport,
    text: Callable[[str, Sequence[Alarm]], str],
) -> set[str]:
    """Queue a notice of the alarms that go on, are not snoozed, and were in no notice yet.

    An alarm that persists is one notice, however often and on how many days this is called. Alarms
    of one day are one notice. One that was snoozed follows when the snooze ends.

    Args:
      url: of the database in which alerts wait, with its tables.
      channels: names of the channels.
      report: the report.
      text: makes the text of a notice, by the day that raised its alarms, and these.

    Returns:
      Ids of the deliveries that are to be sent: new ones, and those that an earlier call has left.

    Raises:
      FraudError: the database fails or cannot be reached.
    """

    def queue(connection: Connection) -> set[str]:
        waiting: set[str] = set()
        for channel in channels:
            earlier = _earlier(connection, channel, report.model_id)
            waiting |= {one.delivery_id for one in earlier if one.waits}
            told = [alarm for one in earlier for alarm in one.alarms]
            notices = notices_of(report, told, text)
            queue_notices(connection, [channel], notices)
            waiting |= {notice.delivery_id(channel) for notice in notices}
        return waiting

    return persistently(url, queue)


def notices_of(
    report: DriftReport, told: Sequence[Told], text: Callable[[str, Sequence[Alarm]], str]
) -> list[Notice]:
    """Return the notices of alarms that go on, are not snoozed and not told: one for each day.

    Args:
      report: the report.
      told: alarms of earlier notices.
      text: as in `queue_alarms`.
    """
    fresh = [one for one in report.loud_alarms if not any(t.covers(one) for t in told)]
    return [
        _notice(report.model_id, day, list(alarms), text)
        for day, alarms in groupby(sorted(fresh, key=_raised), key=_raised)
    ]


def _raised(alarm: Alarm) -> str:
    return alarm.raised


def _notice(
    model_id: str, day: str, alarms: Sequence[Alarm], text: Callable[[str, Sequence[Alarm]], str]
) -> Notice:
    told = [Told.of(one) for one in alarms]
    names = (f"{one.what}\0{one.segment}" for one in told)
    return Notice(
        ("drift", model_id, day, *sorted(names)),
        text(day, alarms),
        {"drift": msgspec.to_builtins(_Drift(model_id, told))},
    )


class Told(msgspec.Struct, frozen=True):
    """An alarm of a notice."""

    what: str
    segment: str | None
    since: str
    raised: str

    @classmethod
    def of(cls, alarm: Alarm) -> Told:
        """Return what a notice says of an alarm."""
        return cls(alarm.what, alarm.segment, alarm.since, alarm.raised)

    def covers(self, alarm: Alarm) -> bool:
        """Return whether this is the same alarm, judged again."""
        if (self.what, self.segment) != (alarm.what, alarm.segment):
            return False
        begins = date.fromisoformat(alarm.since) - timedelta(days=_MOVES)
        return date.fromisoformat(self.raised) >= begins


class _Drift(msgspec.Struct, frozen=True):
    model_id: str
    alarms: list[Told]


class _Event(msgspec.Struct, frozen=True):
    drift: _Drift | None = None


@dataclass(frozen=True)
class _Earlier:
    delivery_id: str
    waits: bool
    alarms: Sequence[Told]


def _earlier(connection: Connection, channel: str, model_id: str) -> list[_Earlier]:
    """Return the notices of a channel on a model's drift."""
    table = DELIVERIES.c
    query = select(table.delivery_id, table.state, table.event).where(
        table.channel == channel,
        table.kind == "notice",
        table.event.is_not(None),
        table.created_at > datetime.now(UTC) - timedelta(days=_REMEMBERED),
    )
    found = []
    for delivery_id, state, event in connection.execute(query):
        drift = msgspec.json.decode(event, type=_Event).drift
        if drift is not None and drift.model_id == model_id:
            found.append(_Earlier(delivery_id, state == "waiting", drift.alarms))
    return found
