"""Fix what goes into the messages of a channel, before any of them is tried."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, bindparam, exists, select

from beam_fraud.alerts.grouping import Group, budget, grouped, plan, together
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.snoozes import snoozed
from beam_fraud.storage.database.connection import writing
from beam_fraud.storage.database.errors import one_line_errors
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES
from beam_fraud.storage.database.upsert import Row

#: Alerts that are looked at in one go.
PAGE = 5_000
#: Accounts that are asked for in one statement.
_ACCOUNTS = 500


@dataclass(frozen=True)
class Fixed:
    """What a look at the alerts that wait has led to."""

    #: Messages that were made.
    deliveries: int
    #: No other can be made before, if that is known.
    held_until: datetime | None = None


def fix(
    url: str,
    connection: Connection,
    channel: str,
    policy: Policy,
    now: datetime,
    *,
    final: bool = False,
    batch: bool = False,
) -> Fixed:
    """Make deliveries of the alerts of `channel` that are due, the first ones if there are many.

    Due is what nobody has snoozed and, where the channel groups by account, is of an account that
    got no message within the span.

    Args:
      url: of the database.
      connection: to it, in no transaction.
      channel: its name.
      policy: of the channel.
      now: the moment of the new deliveries; of several the next is a microsecond later, which
        keeps their order.
      final: whether nobody comes back soon: spans are not waited for, and what a bound holds back
        goes out as one more message.
      batch: whether they are all of a batch, which a channel may want in one message.

    Raises:
      FraudError: the database refuses or cannot be reached.
    """
    due = _due(channel, policy, now, final=final)
    free: int | None = None
    with one_line_errors(url), connection.begin():
        page = _page(connection, due)
        if not page:
            return Fixed(0)
        more = len(page) == PAGE
        if policy.rate is not None:
            left = budget(connection, channel, policy.rate, now)
            if left.free <= 0 and not final:
                return Fixed(0, left.next_at)
            free = max(left.free, 1)
        in_one = batch and policy.digest is not None
        if more and policy.group is not None and not in_one:
            page = _whole_accounts(connection, due, page)
    if in_one:
        chosen = together(page, policy, more=more)
    else:
        chosen = plan(grouped(page, policy), free, more=more)
    with writing(url, connection):
        return Fixed(
            _store(connection, channel, chosen.groups, now, due if chosen.digest else None)
        )


def _due(
    channel: str, policy: Policy, now: datetime, *, final: bool
) -> tuple[ColumnElement[bool], ...]:
    waiting = (
        ALERTS.c.channel == channel,
        ALERTS.c.delivery_id.is_(None),
        ALERTS.c.sent_at.is_(None),
        ~snoozed(now),
    )
    if policy.group is None or final:
        return waiting
    told_lately = exists().where(
        DELIVERIES.c.account_id == ALERTS.c.account_id,
        DELIVERIES.c.channel == channel,
        DELIVERIES.c.created_at > now - timedelta(seconds=policy.group),
    )
    return (*waiting, ~told_lately)


def _page(
    connection: Connection, due: Sequence[ColumnElement[bool]]
) -> list[tuple[str, str | None]]:
    query = (
        select(ALERTS.c.alert_id, ALERTS.c.account_id)
        .where(*due)
        .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
        .limit(PAGE)
    )
    return [(alert_id, account_id) for alert_id, account_id in connection.execute(query)]


def _whole_accounts(
    connection: Connection,
    due: Sequence[ColumnElement[bool]],
    page: list[tuple[str, str | None]],
) -> list[tuple[str, str | None]]:
    """`page` and what else is due of its accounts: else the rest would wait for another span."""
    there = {alert_id for alert_id, _ in page}
    accounts = sorted({account_id for _, account_id in page if account_id is not None})
    rest: list[tuple[str, str | None]] = []
    for start in range(0, len(accounts), _ACCOUNTS):
        some = accounts[start : start + _ACCOUNTS]
        query = (
            select(ALERTS.c.alert_id, ALERTS.c.account_id)
            .where(*due, ALERTS.c.account_id.in_(some))
            .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
        )
        rest += [(key, whose) for key, whose in connection.execute(query) if key not in there]
    return page + rest


def _store(
    connection: Connection,
    channel: str,
    groups: Sequence[Group],
    now: datetime,
    digest_of: Sequence[ColumnElement[bool]] | None,
) -> int:
    """Write deliveries and which alerts are theirs; returns how many there are."""
    rows = [
        new_delivery(channel, "alerts", group.account_id, now + timedelta(microseconds=number))
        for number, group in enumerate(groups)
    ]
    given = [
        {"key": alert_id, "delivery": row["delivery_id"]}
        for row, group in zip(rows, groups, strict=True)
        for alert_id in group.alert_ids
    ]
    if given:
        change = (
            ALERTS.update()
            .where(ALERTS.c.alert_id == bindparam("key"), ALERTS.c.delivery_id.is_(None))
            .values(delivery_id=bindparam("delivery"))
        )
        # By key: two that lock rows in one order do not wait for each other.
        connection.execute(change, sorted(given, key=lambda row: str(row["key"])))
    if digest_of is not None:
        digest = new_delivery(channel, "digest", None, now + timedelta(microseconds=len(rows)))
        connection.execute(
            ALERTS.update().where(*digest_of).values(delivery_id=digest["delivery_id"])
        )
        rows.append(digest)
    # After the alerts: a delivery of an account is what makes the rest of its alerts wait.
    if rows:
        connection.execute(DELIVERIES.insert(), rows)
    return len(rows)


def new_delivery(channel: str, kind: str, account_id: str | None, created_at: datetime) -> Row:
    """A row of the table `deliveries` that is to go out."""
    return {
        # At random: made of ids it would tell outsiders about them.
        "delivery_id": uuid.uuid4().hex,
        "channel": channel,
        "kind": kind,
        "account_id": account_id,
        "created_at": created_at,
        "state": "waiting",
        "attempts": 0,
    }
