"""Fix the contents of messages before the first attempt to send them, or to send them again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, bindparam, exists, or_, select

from beam_fraud.alerts.grouping import Group, budget, grouped, plan, together
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.snoozes import snoozed
from beam_fraud.storage.database.connection import writing
from beam_fraud.storage.database.errors import one_line_errors
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES
from beam_fraud.storage.database.upsert import Row

#: Alerts per page.
PAGE = 5_000
#: Accounts per SQL statement.
_ACCOUNTS = 500


@dataclass(frozen=True)
class Fixed:
    """The result of `fix`."""

    #: Number of new messages.
    deliveries: int
    #: Earliest time of the next message, if known.
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
    """Make deliveries of the due alerts of `channel`, a page at a time.

    An alert is due if it is not snoozed and, where the channel groups by account, no message went
    out for its account within the span.

    Args:
      url: of the database.
      connection: to the database, outside a transaction.
      channel: name of the channel.
      policy: the channel's policy.
      now: time of the first new delivery; each further one is a microsecond later, to keep their
        order.
      final: whether this is the last call for now: ignore spans, and put the alerts beyond the
        limit into one more message.
      batch: whether the alerts are a whole batch, which a policy may put into one message.

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
            allowed = budget(connection, channel, policy.rate, now)
            if allowed.free <= 0 and not final:
                return Fixed(0, allowed.next_at)
            free = max(allowed.free, 1)
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
    recent = exists().where(
        DELIVERIES.c.account_id == ALERTS.c.account_id,
        DELIVERIES.c.channel == channel,
        DELIVERIES.c.kind == "alerts",
        DELIVERIES.c.created_at > now - timedelta(seconds=policy.group),
    )
    return (*waiting, ~recent)


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
    """Add the accounts' other due alerts to `page`: they would wait for another span."""
    on_page = {alert_id for alert_id, _ in page}
    accounts = sorted({account_id for _, account_id in page if account_id is not None})
    rest: list[tuple[str, str | None]] = []
    for start in range(0, len(accounts), _ACCOUNTS):
        some = accounts[start : start + _ACCOUNTS]
        query = (
            select(ALERTS.c.alert_id, ALERTS.c.account_id)
            .where(*due, ALERTS.c.account_id.in_(some))
            .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
        )
        rest += [(key, account) for key, account in connection.execute(query) if key not in on_page]
    return page + rest


def _store(
    connection: Connection,
    channel: str,
    groups: Sequence[Group],
    now: datetime,
    digest_of: Sequence[ColumnElement[bool]] | None,
) -> int:
    """Write deliveries and assign their alerts; return their number."""
    rows = [
        new_delivery(channel, "alerts", group.account_id, now + timedelta(microseconds=number))
        for number, group in enumerate(groups)
    ]
    assignments = [
        {"key": alert_id, "delivery": row["delivery_id"]}
        for row, group in zip(rows, groups, strict=True)
        for alert_id in group.alert_ids
    ]
    if assignments:
        change = (
            ALERTS.update()
            .where(ALERTS.c.alert_id == bindparam("key"), ALERTS.c.delivery_id.is_(None))
            .values(delivery_id=bindparam("delivery"))
        )
        # Order by key: transactions that lock rows in the same order cannot deadlock.
        connection.execute(change, sorted(assignments, key=lambda row: str(row["key"])))
    if digest_of is not None:
        digest = new_delivery(channel, "digest", None, now + timedelta(microseconds=len(rows)))
        connection.execute(
            ALERTS.update().where(*digest_of).values(delivery_id=digest["delivery_id"])
        )
        rows.append(digest)
    # Insert after the alerts: a delivery of an account makes the account's other alerts wait.
    if rows:
        connection.execute(DELIVERIES.insert(), rows)
    return len(rows)


def new_delivery(channel: str, kind: str, account_id: str | None, created_at: datetime) -> Row:
    """Return a row of the table `deliveries`, ready to be sent."""
    return {
        # Use a random id: a hash of ids would reveal them to outsiders.
        "delivery_id": uuid.uuid4().hex,
        "channel": channel,
        "kind": kind,
        "account_id": account_id,
        "created_at": created_at,
        "state": "waiting",
        "attempts": 0,
    }


def channels_of(connection: Connection, alert_ids: Sequence[str]) -> dict[str, str]:
    """Return the channel of each existing alert of `alert_ids`."""
    query = select(ALERTS.c.alert_id, ALERTS.c.channel).where(ALERTS.c.alert_id.in_(alert_ids))
    return {row.alert_id: row.channel for row in connection.execute(query)}


def reopen_failed(connection: Connection, channel: str) -> list[str]:
    """Make the failed deliveries of `channel` pending again; return their ids."""
    failed = select(DELIVERIES.c.delivery_id).where(
        DELIVERIES.c.channel == channel, DELIVERIES.c.state == "failed"
    )
    delivery_ids = list(connection.scalars(failed))
    _reopen(connection, delivery_ids)
    return delivery_ids


def send_again(
    connection: Connection,
    channel: str,
    alert_ids: Sequence[str],
    now: datetime,
    most: int,
) -> list[str]:
    """Create deliveries of alerts, even of alerts that are snoozed, not due or sent before.

    An alert in an unsent delivery stays in that delivery.

    Args:
      connection: in a transaction that may write.
      channel: the channel of all `alert_ids`.
      alert_ids: in any order.
      now: time of the new deliveries.
      most: maximum of alerts in a delivery.

    Returns:
      Ids of the deliveries to send now.
    """
    query = (
        select(ALERTS.c.alert_id, ALERTS.c.sent_at, DELIVERIES.c.delivery_id, DELIVERIES.c.state)
        .outerjoin(DELIVERIES, DELIVERIES.c.delivery_id == ALERTS.c.delivery_id)
        .where(ALERTS.c.alert_id.in_(alert_ids))
        .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
    )
    rows = connection.execute(query).all()
    fixed = sorted({row.delivery_id for row in rows if row.state in ("waiting", "failed")})
    _reopen(connection, fixed)
    unassigned = [row.alert_id for row in rows if row.state not in ("waiting", "failed")]
    created = []
    for number, start in enumerate(range(0, len(unassigned), most)):
        row = new_delivery(channel, "alerts", None, now + timedelta(microseconds=number))
        # Exclude alerts that a dispatcher has just put into a message.
        free = or_(ALERTS.c.delivery_id.is_(None), ALERTS.c.sent_at.is_not(None))
        connection.execute(
            ALERTS.update()
            .where(ALERTS.c.alert_id.in_(unassigned[start : start + most]), free)
            .values(delivery_id=row["delivery_id"], sent_at=None)
        )
        connection.execute(DELIVERIES.insert(), [row])
        created.append(str(row["delivery_id"]))
    return fixed + created


def _reopen(connection: Connection, delivery_ids: Sequence[str]) -> None:
    changes: Mapping[str, object] = {"state": "waiting", "attempts": 0, "next_try_at": None}
    connection.execute(
        DELIVERIES.update().where(DELIVERIES.c.delivery_id.in_(delivery_ids)).values(**changes)
    )
