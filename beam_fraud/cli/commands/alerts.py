"""`beam-fraud alerts list`, `resend` and `snooze`."""

from __future__ import annotations

import logging
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.fixing import channels_of, reopen_failed, send_again
from beam_fraud.alerts.listing import Filters, ListedAlert, last_errors, newest_alerts
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.snoozes import (
    Snooze,
    Subject,
    is_alerted,
    lift,
    newest_timezone,
    snooze,
    snoozes_in_force,
)
from beam_fraud.alerts.wording import clock_time
from beam_fraud.cli.commands.times import parse_duration, parse_moment
from beam_fraud.cli.options import ListAlertsOptions, ResendAlertsOptions, SnoozeAlertsOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations.audit.archive import Archive
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.url import database_file
from beam_fraud.storage.urls import Place, absolute
from beam_fraud.wording import own_call, printable

#: Default width of a line.
_WIDTH = 100
#: Minimum width of a shortened cell.
_NARROWEST = 4
_LOG = logging.getLogger(__name__)


def run_list(options: ListAlertsOptions) -> dict[str, object]:
    """List alerts.

    Returns:
      `alerts`, newest first, with `state` and delivery; `channels` with counts; `snoozes` in force.

    Raises:
      UsageError: no database is named.
      FraudError: it cannot be read, or does not know the channel.
    """
    outbox = outbox_of(options.sink, options.out)
    now = datetime.now(UTC)
    counts = outbox.counts(now)
    filters = Filters(options.state, None, options.account_id, options.merchant_id)
    if options.channel is not None:
        filters = replace(filters, channels=_channel_names(options.channel, counts, outbox))
    with transaction(outbox.url) as connection:
        alerts = newest_alerts(connection, filters, options.limit, now)
        errors = last_errors(connection)
        timezone = newest_timezone(connection)
        snoozes = [
            {**msgspec.to_builtins(one), "timezone": timezone}
            for one in snoozes_in_force(connection, now)
        ]
    result = {
        "alerts": [_as_object(one) for one in alerts],
        "channels": {
            channel: {
                "waiting": count.pending,
                "sent": count.sent,
                "failed": count.failed,
                "snoozed": count.snoozed,
                "last_error": errors.get(channel),
            }
            for channel, count in sorted(counts.items())
        },
        "snoozes": snoozes,
    }
    return cast(dict[str, object], msgspec.to_builtins(result))


def render_list(result: dict[str, object]) -> str:
    """Return a table of alerts that fits the terminal, then channels and snoozes."""
    fields = cast(dict[str, Any], result)
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    lines = _table(fields["alerts"], _short_names(fields["channels"]), width)
    if not lines and fields["channels"]:
        lines.append("No such alerts.")
    lines += [_channel_line(name, counts) for name, counts in fields["channels"].items()]
    lines += map(_snooze_line, fields["snoozes"])
    return "\n".join(lines) or "There are no alerts."


def _as_object(listed: ListedAlert) -> dict[str, object]:
    state = cast(dict[str, object], msgspec.to_builtins(listed))
    alert = cast(dict[str, object], state.pop("alert"))
    return {**alert, **state}


def _channel_names(channel: str, known: Collection[str], outbox: Outbox) -> tuple[str, ...]:
    """Return the channel names of `--channel`.

    Raises:
      UsageError: the channel is an invalid URL.
      FraudError: the channel never had an alert, or its URL is in an unset variable.
    """
    label = channel
    if channel in known:
        return (channel,)
    # `console:` is a URL and a scheme.
    if names := tuple(name for name in known if _scheme(name) == channel.removesuffix(":")):
        return names
    if ":" in channel:
        receiver = parse_channel(channel, sys.stderr)
        if receiver.name in known:
            return (receiver.name,)
        # Mask secrets of the URL.
        label = receiver.describe()
    others = ", ".join(map(printable, sorted(known))) or "none"
    raise FraudError(
        f"--channel {printable(label)}: {outbox.describe()} has no alerts for this channel "
        f"(channels with alerts: {others})",
        Code.ALERT_UNKNOWN,
    )


def _scheme(name: str) -> str:
    return name.partition(":")[0]


def _short_names(channels: Collection[str]) -> dict[str, str]:
    """Return the scheme of each channel, or its name if several share the scheme."""
    schemes = Counter(map(_scheme, channels))
    return {name: _scheme(name) if schemes[_scheme(name)] == 1 else name for name in channels}


def _table(alerts: list[dict[str, Any]], short: dict[str, str], width: int) -> list[str]:
    if not alerts:
        return []
    rows = [
        (
            one["state"],
            _clock(one["event_time"], one["timezone"]),
            printable(one["decision"]),
            f"{one['score']:.2f}",
            f"{one['amount']:,.2f}",
            printable(one["account_id"] or "-"),
            printable(one["transaction_id"]),
            printable(short.get(one["channel"], one["channel"])),
        )
        for one in alerts
    ]
    head = ("state", "time", "decision", "score", "amount", "account", "transaction", "channel")
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    offsets = {time[-7:] for time in columns[1][1:]}
    if len(offsets) == 1 and _line_width(columns) > width:
        # Show a common offset once.
        columns[1] = [f"time{offsets.pop()}", *(time[:-7] for time in columns[1][1:])]
        columns[6][0] = "transact."
    return [*table(list(zip(*_fitted(columns, width), strict=True)), right={3, 4}), ""]


def _line_width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _fitted(columns: list[list[str]], width: int) -> list[list[str]]:
    """Shorten ids and channels in the middle until a line has `width` characters."""
    widths = [max(map(len, column)) for column in columns]
    may_give = range(len(columns) - 3, len(columns))
    spare = width - _line_width(columns)
    while spare < 0:
        widest = max(may_give, key=lambda number: widths[number])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
        spare += 1
    return [
        [_cut(cell, most) for cell in column] for column, most in zip(columns, widths, strict=True)
    ]


def _cut(cell: str, most: int) -> str:
    if len(cell) <= most:
        return cell
    # Ids usually differ at their ends.
    end = most // 2
    return f"{cell[: most - 1 - end]}…{cell[-end:]}"


def _clock(text: str, timezone: str) -> str:
    return clock_time(datetime.fromisoformat(text), timezone)


def _snooze_line(one: dict[str, str]) -> str:
    until = _clock(one["until"], one["timezone"])
    return f"snoozed {one['kind']} {printable(one['value'])} until {until}"


def _channel_line(name: str, counts: dict[str, Any]) -> str:
    summary = ", ".join(f"{counts[state]:,} {state}" for state in ("waiting", "sent"))
    summary += "".join(
        f", {counts[state]:,} {state}" for state in ("failed", "snoozed") if counts[state]
    )
    error = f"; last error: {printable(counts['last_error'])}" if counts["last_error"] else ""
    return f"channel {printable(name)}: {summary}{error}"


def outbox_of(sink: str | None, out: str | None, *, make: bool = False) -> Outbox:
    """Return the outbox of a database, or of a run's directory.

    Args:
      sink: `--sink`, a database.
      out: `--out` of a `score` or `stream` without a database.
      make: whether to make it in the directory of a run that has none yet.

    Raises:
      UsageError: not exactly one is set, or the sink is no database.
      FraudError: it does not exist, or cannot be used.
    """
    if (sink is None) == (out is None):
        code = Code.OPTION_MISSING if sink is None else Code.OPTION_CONFLICT
        raise UsageError(
            "give --sink URL, the database with the alerts, or --out DIR, not both", code
        )
    if out is not None:
        file = absolute(Path(out)) / "outbox.db"
        outbox, fix = Outbox(sqlite_url(file)), "alerts of a run with a database are in its --sink"
    else:
        database = parse_sink(str(sink), databases=True)
        if database.database is None:
            raise UsageError(
                f"--sink {database.describe()}: holds no alerts, give a database",
                Code.SINK_UNSUITED,
            )
        outbox, fix = Outbox(database.database), "give the one that the run was given"
    there = database_file(outbox.url)
    if there is not None and not there.is_file():
        if not make or out is None:
            raise FraudError(f"{there}: there is no such database; {fix}", Code.DATABASE_FILE)
        Archive(Place.parse(out)).check()
    outbox.begin()
    return outbox


def run_resend(options: ResendAlertsOptions) -> dict[str, object]:
    """Send pending and given-up alerts, or named ones.

    Returns:
      `sent`, `failed`, `snoozed` and `digested` alerts; `again`: whether alerts were named, which
      may have been sent before.

    Raises:
      UsageError: a channel or an alert is not in the outbox.
      FraudError: the outbox cannot be used, or not all alerts were sent.
    """
    channels = [parse_channel(url, console=sys.stderr) for url in options.alerts]
    outbox = outbox_of(options.sink, options.out)
    _refuse_unknown(outbox, channels)
    for channel in channels:
        channel.check()
    if options.ids:
        only = _chosen(outbox, channels, options.ids)
        wait = False
    else:
        every = not (options.failed or options.waiting)
        only = _given_up(outbox, channels) if options.failed or every else []
        wait = options.waiting or every
    before = outbox.counts()
    # Given-up alerts are pending again by now.
    report = send_pending(outbox, channels, options.patience, only=None if wait else only)
    if report.failed:
        errors = {part.error for part in report.channels.values() if part.error}
        why = "; ".join(sorted(errors)) or "another process sends for the channel, or they wait"
        raise FraudError(
            f"{report.failed:,} alerts were not sent and wait in the outbox: {why}",
            Code.ALERTS_UNSENT,
        )
    after = outbox.counts()
    return {
        # Include alerts that a stream with the channel's claim has sent for us.
        "sent": sum(after[name].sent - before[name].sent for name in report.channels),
        "failed": report.failed,
        "snoozed": report.snoozed,
        "digested": report.digested,
        "again": bool(options.ids),
    }


def render_resend(result: dict[str, object]) -> str:
    """Return the result as one line."""
    counts = cast(dict[str, int], result)
    line = f"alerts sent{' again' if counts['again'] else ''}: {counts['sent']:,}"
    if counts["digested"]:
        line += f" ({counts['digested']:,} of them in digests)"
    return line + (f"; {counts['snoozed']:,} are snoozed" if counts["snoozed"] else "")


def _refuse_unknown(outbox: Outbox, channels: list[Channel]) -> None:
    known = outbox.counts()
    for channel in channels:
        if channel.name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"--alert {channel.describe()}: {outbox.describe()} has no alerts for this channel "
                f"(channels with alerts: {there})",
                Code.ALERT_UNKNOWN,
            )


def _given_up(outbox: Outbox, channels: list[Channel]) -> list[str]:
    with writing(outbox.url) as connection:
        return [key for channel in channels for key in reopen_failed(connection, channel.name)]


def _chosen(outbox: Outbox, channels: list[Channel], ids: tuple[str, ...]) -> list[str]:
    with transaction(outbox.url) as connection:
        channel_of = channels_of(connection, ids)
    named = {channel.name: channel for channel in channels}
    by_channel: dict[str, list[str]] = defaultdict(list)
    for key in dict.fromkeys(ids):
        if key not in channel_of:
            raise UsageError(
                f"--id {key}: no such alert; `{own_call()} alerts list` shows their ids",
                Code.ALERT_UNKNOWN,
            )
        if channel_of[key] not in named:
            raise UsageError(
                f"--id {key}: is for {channel_of[key]}, give that as --alert as well",
                Code.ALERT_UNKNOWN,
            )
        by_channel[channel_of[key]].append(key)
    now, deliveries = datetime.now(UTC), list[str]()
    with writing(outbox.url) as connection:
        for name, keys in by_channel.items():
            deliveries += send_again(connection, name, keys, now, named[name].policy.most)
    return deliveries


def run_snooze(options: SnoozeAlertsOptions) -> dict[str, object]:
    """Start or end a snooze.

    Returns:
      `kind` and `value` of the subject; `until` in UTC, None if lifted; `timezone` for display;
      `lifted`; `known`: whether it ever had an alert.

    Raises:
      UsageError: not exactly one account, merchant or figure, or not exactly one end or `lift`.
      FraudError: the outbox cannot be used, or there is no snooze to lift.
    """
    kind, value = _subject(options)
    now = datetime.now(UTC)
    until = _end(options, now)
    outbox = outbox_of(options.sink, options.out, make=kind == "figure" and until is not None)
    lifted, known = False, True
    with writing(outbox.url) as connection:
        timezone = newest_timezone(connection)
        if until is None:
            lifted = lift(connection, kind, value, now)
            if not lifted:
                raise FraudError(
                    f"--{kind} {printable(value)}: is not snoozed in {outbox.describe()}",
                    Code.ALERT_UNKNOWN,
                )
        else:
            snooze(connection, [Snooze(kind, value, until)], now)
            known = is_alerted(connection, kind, value)
    if not known:
        _LOG.warning(
            "--%s %s: %s has no alerts of it, so check the id; its future alerts will wait",
            kind,
            printable(value),
            outbox.describe(),
        )
    shown = None if until is None else until.isoformat(timespec="seconds")
    return {
        "kind": kind,
        "value": value,
        "until": shown,
        "timezone": timezone,
        "lifted": lifted,
        "known": known,
    }


def render_snooze(result: dict[str, object]) -> str:
    """Return the result as one line."""
    whose = f"{result['kind']} {printable(str(result['value']))}"
    if result["until"] is not None:
        until = datetime.fromisoformat(str(result["until"]))
        what = "alarms" if result["kind"] == "figure" else "alerts"
        return f"{what} of {whose} wait until {clock_time(until, str(result['timezone']))}"
    return f"{whose}: no longer snoozed"


def _subject(options: SnoozeAlertsOptions) -> tuple[Subject, str]:
    given: list[tuple[Subject, str | None]] = [
        ("account", options.account_id),
        ("merchant", options.merchant_id),
        ("figure", options.figure),
    ]
    named = [(kind, value) for kind, value in given if value is not None]
    if len(named) != 1:
        raise UsageError(
            "give one of --account ID, --merchant ID and --figure NAME", Code.OPTION_CONFLICT
        )
    return named[0]


def _end(options: SnoozeAlertsOptions, now: datetime) -> datetime | None:
    """Return the end of a snooze; None for `--lift`."""
    if [options.lift, options.span is not None, options.until is not None].count(True) != 1:
        raise UsageError(
            "give --for TIME, as in 8h, or --until DAY, or --lift to end a snooze",
            Code.OPTION_MISSING,
        )
    if options.span is not None:
        return now + timedelta(microseconds=_length(options.span))
    end = parse_moment("--until", options.until)
    if end is not None and end <= now:
        raise UsageError(
            f"--until {options.until}: is in the past; --lift ends a snooze", Code.TIME_INVALID
        )
    return end


def _length(span: str) -> int:
    length = parse_duration("--for", span)
    if length == 0:
        raise UsageError(f"--for {span}: is no time; --lift ends a snooze", Code.TIME_INVALID)
    return length
