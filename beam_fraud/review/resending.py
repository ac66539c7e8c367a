"""Send the alerts of a transaction again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from beam_fraud.alerts.fixing import send_again
from beam_fraud.errors import Code
from beam_fraud.review.errors import MissingError
from beam_fraud.review.held_case import Work
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS
from beam_fraud.storage.database.tables import ALERTS


def resend(
    connection: Connection, settings: ReviewSettings, transaction_id: str, who: str, now: datetime
) -> int:
    """Queue the alerts of a transaction of a case again, also those that are snoozed or were sent.

    Args:
      connection: in a write transaction.
      settings: of the review.
      transaction_id: the transaction.
      who: the person.
      now: the current time, UTC.

    Returns:
      Number of messages; the dispatcher of the outbox sends them.

    Raises:
      MissingError: it is in no case, or has no alert.
    """
    in_case = select(CASE_TRANSACTIONS.c.case_id).where(
        CASE_TRANSACTIONS.c.transaction_id == transaction_id
    )
    case_id = connection.scalar(in_case)
    alerts = select(ALERTS.c.channel, ALERTS.c.alert_id).where(
        ALERTS.c.transaction_id == transaction_id
    )
    found = connection.execute(alerts.order_by(ALERTS.c.channel)).all()
    if case_id is None or not found:
        raise MissingError(f"transaction {transaction_id}: has no alert", Code.ALERT_UNKNOWN)
    work = Work(connection, settings, who, now)
    if work.was_done("alert_resent", case_id):
        return len(found)
    case = work.hold(case_id, force=True)
    messages = sum(
        len(send_again(connection, row.channel, [row.alert_id], now, most=1)) for row in found
    )
    work.note("alert_resent", case, {"messages": messages})
    work.finish()
    return messages
