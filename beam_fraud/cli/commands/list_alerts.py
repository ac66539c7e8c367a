"""`beam-fraud alerts list`: list alerts and their states."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.listing import Filters, ListedAlert, last_errors, newest_alerts
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.snoozes import newest_timezone, snoozes_in_force
from beam_fraud.alerts.wording import clock_time
from beam_fraud.cli.commands.alert_outbox import outbox_of
from beam_fraud.cli.options import ListAlertsOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import printable
from beam_fraud.storage.database.connection import transaction

#: Default width of a line.
_WIDTH = 100
#: Minimum width of a shortened cell.
_NARROWEST = 4


def run(options: ListAlertsOptions) -> dict[str, object]:
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


def render(result: dict[str, object]) -> str:
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
