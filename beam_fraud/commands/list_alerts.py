"""`beam-fraud alerts list`: what waits, was sent and was given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from beam_fraud.alert import Alert
from beam_fraud.alerts.line import alert_line
from beam_fraud.alerts.listing import Listed, Wanted, last_errors, listed
from beam_fraud.alerts.snoozes import snoozes_in_force
from beam_fraud.alerts.visible import visible
from beam_fraud.commands.alert_outbox import given_outbox
from beam_fraud.sinks.connection import transaction


@dataclass(frozen=True, kw_only=True)
class ListAlertsOptions:
    """Where to look and what for."""

    #: URL of the database.
    sink: str | None = None
    #: Or the directory of a run without one.
    out: str | None = None
    #: Which alerts.
    wanted: Wanted = field(default_factory=Wanted)
    #: How many at most.
    limit: int = 50


def run(options: ListAlertsOptions) -> dict[str, object]:
    """Look alerts up.

    Returns:
      `alerts`, the newest first, with their `state` and delivery; `channels` with their counts;
      `snoozes` in force.

    Raises:
      UsageError: no database is named.
      FraudError: it cannot be read.
    """
    outbox = given_outbox(options.sink, options.out)
    now = datetime.now(UTC)
    counts = outbox.counts(now)
    with transaction(outbox.url) as connection:
        alerts = listed(connection, options.wanted, options.limit, now)
        errors = last_errors(connection)
        snoozes = snoozes_in_force(connection, now)
    found = {
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
    return cast(dict[str, object], msgspec.to_builtins(found))


def render(result: dict[str, object]) -> str:
    """A line an alert, a channel and a snooze."""
    found = cast(dict[str, Any], result)
    lines = [_alert_line(one) for one in found["alerts"]]
    lines += [_channel_line(name, counts) for name, counts in found["channels"].items()]
    lines += [
        f"snoozed {one['kind']} {visible(one['value'])} until {one['until']}"
        for one in found["snoozes"]
    ]
    return "\n".join(lines) or "There are no alerts."


def _as_object(one: Listed) -> dict[str, object]:
    made = cast(dict[str, object], msgspec.to_builtins(one))
    alert = cast(dict[str, object], made.pop("alert"))
    return {**alert, **made}


def _alert_line(one: dict[str, Any]) -> str:
    line = alert_line(msgspec.convert(one, Alert)).removeprefix("ALERT ")
    error = f" error={visible(one['last_error'])}" if one["last_error"] else ""
    return f"{one['state']:<8} {one['alert_id']} {line}{error}"


def _channel_line(name: str, counts: dict[str, Any]) -> str:
    told = ", ".join(f"{counts[state]:,} {state}" for state in ("waiting", "sent"))
    told += "".join(
        f", {counts[state]:,} {state}" for state in ("failed", "snoozed") if counts[state]
    )
    error = f"; last error: {visible(counts['last_error'])}" if counts["last_error"] else ""
    return f"channel {visible(name)}: {told}{error}"
