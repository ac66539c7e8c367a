"""`beam-fraud alerts snooze`: snooze the alerts of an account or a merchant."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from beam_fraud.alerts.snoozes import Snooze, Subject, is_alerted, lift, newest_timezone, snooze
from beam_fraud.alerts.wording import clock_time
from beam_fraud.cli.commands.alert_outbox import outbox_of
from beam_fraud.cli.commands.times import parse_duration
from beam_fraud.cli.options import SnoozeAlertsOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.platform.wording import printable
from beam_fraud.storage.database.connection import writing

_LOG = logging.getLogger(__name__)


def run(options: SnoozeAlertsOptions) -> dict[str, object]:
    """Start or end a snooze.

    Returns:
      `kind` and `value` of the subject; `until` in UTC, None if lifted; `timezone` for display;
      `lifted`; `known`: whether it ever had an alert.

    Raises:
      UsageError: not exactly one account or merchant, or not exactly one of a time and `lift`.
      FraudError: the outbox cannot be used, or there is no snooze to lift.
    """
    kind, value = _subject(options)
    if options.lift == (options.span is not None):
        raise UsageError(
            "give --for TIME, as in 8h, or --lift to end a snooze", Code.OPTION_MISSING
        )
    now, until = datetime.now(UTC), None
    if options.span is not None:
        until = now + timedelta(microseconds=_length(options.span))
    outbox = outbox_of(options.sink, options.out)
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


def render(result: dict[str, object]) -> str:
    """Return the result as one line."""
    whose = f"{result['kind']} {printable(str(result['value']))}"
    if result["until"] is not None:
        until = datetime.fromisoformat(str(result["until"]))
        return f"alerts of {whose} wait until {clock_time(until, str(result['timezone']))}"
    return f"{whose}: no longer snoozed"


def _subject(options: SnoozeAlertsOptions) -> tuple[Subject, str]:
    account, merchant = options.account_id, options.merchant_id
    if account is not None and merchant is None:
        return "account", account
    if merchant is not None and account is None:
        return "merchant", merchant
    raise UsageError("give --account ID or --merchant ID, not both", Code.OPTION_CONFLICT)


def _length(span: str) -> int:
    length = parse_duration("--for", span)
    if length == 0:
        raise UsageError(f"--for {span}: is no time; --lift ends a snooze", Code.TIME_INVALID)
    return length
