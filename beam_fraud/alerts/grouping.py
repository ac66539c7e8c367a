"""Group due alerts into messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from beam_fraud.alerts.policy import Policy, Rate
from beam_fraud.storage.database.tables import DELIVERIES


@dataclass(frozen=True)
class Budget:
    """The number of messages that the limit allows at a moment."""

    #: Messages allowed now.
    free: int
    #: Time of the next message if none is allowed now and the time is known.
    next_at: datetime | None


def budget(connection: Connection, channel: str, rate: Rate, now: datetime) -> Budget:
    """Return the messages that `rate` allows in any `rate.seconds`.

    Count pending messages and those sent within the period, so the limit also holds after an outage
    or a restart. Only messages of alerts count.
    """
    span = timedelta(seconds=rate.seconds)
    table = DELIVERIES.c
    sent_lately = and_(table.state == "sent", table.sent_at > now - span)
    failed_lately = and_(table.state == "failed", table.created_at > now - span)
    query = select(func.count(), func.min(table.sent_at)).where(
        table.channel == channel,
        table.kind.in_(("alerts", "digest")),
        or_(table.state == "waiting", sent_lately, failed_lately),
    )
    used, oldest = connection.execute(query).one()
    free = rate.messages - used
    return Budget(free, None if free > 0 or oldest is None else oldest + span)


@dataclass(frozen=True)
class Group:
    """The alerts of one message."""

    #: Account of the alerts, if the channel groups by account.
    account_id: str | None
    #: Keys of the alerts by event time.
    alert_ids: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The messages of due alerts."""

    #: Groups; each becomes a message.
    groups: list[Group]
    #: Whether a digest reports all other due alerts, including those not read yet.
    digest: bool


def grouped(due: Iterable[tuple[str, str | None]], policy: Policy) -> list[Group]:
    """Put alerts into messages.

    Args:
      due: key and account of each alert, by event time.
      policy: the channel's policy. Without grouping, and for alerts without an account, alerts fill
        messages in order.

    Returns:
      Every alert in one group; groups in the order of the first alert of each account.
    """
    by_account: dict[str | None, list[str]] = {}
    for alert_id, account_id in due:
        by_account.setdefault(None if policy.group is None else account_id, []).append(alert_id)
    return [
        Group(account_id, tuple(of_account[start : start + policy.most]))
        for account_id, of_account in by_account.items()
        for start in range(0, len(of_account), policy.most)
    ]


def together(due: list[tuple[str, str | None]], policy: Policy, *, more: bool) -> Plan:
    """Put the alerts of a batch into one message, or into a digest if there are too many.

    Args:
      due: key and account of each alert, by event time.
      policy: the channel's policy, with a limit on the alerts shown.
      more: whether further alerts are due.
    """
    if more or len(due) > (policy.digest or 0):
        return Plan([], digest=True)
    accounts = {account_id for _, account_id in due}
    of_one = accounts.pop() if len(accounts) == 1 else None
    keys = tuple(alert_id for alert_id, _ in due)
    starts = range(0, len(keys), policy.most)
    return Plan([Group(of_one, keys[s : s + policy.most]) for s in starts], digest=False)


def plan(groups: list[Group], free: int | None, *, more: bool) -> Plan:
    """Fit groups into the messages that the limit allows.

    If not all fit, the last message is a digest of all other alerts, so people see the number at
    once.

    Args:
      groups: groups of the first due alerts.
      free: messages allowed; None without a limit.
      more: whether further alerts are due.
    """
    if free is None or len(groups) + more <= free:
        return Plan(groups, digest=False)
    if free <= 0:
        return Plan([], digest=False)
    return Plan(groups[: free - 1], digest=True)
