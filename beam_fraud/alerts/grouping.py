"""Which of the alerts that are due go into one message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from beam_fraud.alerts.policy import Policy, Rate
from beam_fraud.storage.database.tables import DELIVERIES


@dataclass(frozen=True)
class Budget:
    """What a bound on messages leaves at a moment."""

    #: Messages that may be made now.
    free: int
    #: When the next one may be, if none may be now and that is known.
    next_at: datetime | None


def budget(connection: Connection, channel: str, rate: Rate, now: datetime) -> Budget:
    """What `rate` leaves: in any `rate.seconds` no more messages go out than it says.

    What was sent counts for so long after it was sent, and what waits to be sent counts as well, so
    the bound holds after an outage and after a restart. Notices do not count.
    """
    span = timedelta(seconds=rate.seconds)
    table = DELIVERIES.c
    sent_lately = and_(table.state == "sent", table.sent_at > now - span)
    given_up_lately = and_(table.state == "failed", table.created_at > now - span)
    query = select(func.count(), func.min(table.sent_at)).where(
        table.channel == channel,
        table.kind != "notice",
        or_(table.state == "waiting", sent_lately, given_up_lately),
    )
    used, oldest = connection.execute(query).one()
    free = rate.messages - used
    return Budget(free, None if free > 0 or oldest is None else oldest + span)


@dataclass(frozen=True)
class Group:
    """The alerts of one message."""

    #: Whose they are, if a channel groups by account.
    account_id: str | None
    #: Their keys, by event time.
    alert_ids: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What becomes of alerts that are due."""

    #: A message each.
    groups: list[Group]
    #: Whether all that are due besides go into a digest, those that were not looked at as well.
    digest: bool


def grouped(due: Iterable[tuple[str, str | None]], policy: Policy) -> list[Group]:
    """Put alerts into messages.

    Args:
      due: key and account of each alert, by event time.
      policy: of the channel. Alerts without an account are nobody's: they fill messages as they
        come, as all do where nothing is grouped.

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
    """Fit the alerts of a batch into one message, or into a digest where they are too many.

    Args:
      due: key and account of each alert, by event time.
      policy: of the channel, with a bound on what is shown.
      more: whether others are due besides.
    """
    if more or len(due) > (policy.digest or 0):
        return Plan([], digest=True)
    accounts = {account_id for _, account_id in due}
    of_one = accounts.pop() if len(accounts) == 1 else None
    keys = tuple(alert_id for alert_id, _ in due)
    starts = range(0, len(keys), policy.most)
    return Plan([Group(of_one, keys[s : s + policy.most]) for s in starts], digest=False)


def plan(groups: list[Group], free: int | None, *, more: bool) -> Plan:
    """Fit groups into what a channel may be sent.

    If not all can go, the last message that may is a digest of all the rest: nobody waits for the
    next hour to hear how much there is.

    Args:
      groups: of the first alerts that are due.
      free: messages that may be sent; None if there is no bound.
      more: whether others are due besides.
    """
    if free is None or len(groups) + more <= free:
        return Plan(groups, digest=False)
    if free <= 0:
        return Plan([], digest=False)
    return Plan(groups[: free - 1], digest=True)
