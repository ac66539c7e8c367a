"""`beam-fraud alerts resend`: send pending or given-up alerts now, or named ones again."""

from __future__ import annotations

import sys
from collections import defaultdict
from datetime import UTC, datetime
from typing import cast

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.resending import channels_of, reopen_failed, send_again
from beam_fraud.cli.commands.alert_outbox import outbox_of
from beam_fraud.cli.options import ResendAlertsOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.platform.wording import own_call
from beam_fraud.storage.database.connection import transaction, writing


def run(options: ResendAlertsOptions) -> dict[str, object]:
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
        only = _named(outbox, channels, options.ids)
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


def render(result: dict[str, object]) -> str:
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


def _named(outbox: Outbox, channels: list[Channel], ids: tuple[str, ...]) -> list[str]:
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
