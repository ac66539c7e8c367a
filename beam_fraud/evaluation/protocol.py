"""Select the test rows of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.handbook import TEST_DAYS, Period, card_codes, period_after, rows_to_test
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of


def tested_period(
    protocol: str, bundles: Sequence[Bundle], since: datetime | None, until: datetime | None
) -> Period:
    """Return the test period of a protocol, unless given.

    Args:
      protocol: must be `handbook`.
      bundles: the models, trained on the same days.
      since: first event time to test, or None.
      until: first event time after the tests, or None.

    Raises:
      UsageError: the protocol is unknown.
      FraudError: a bundle lacks its training period, or bundles imply different periods.
    """
    if protocol != "handbook":
        raise UsageError(f"--protocol {protocol}: must be handbook", Code.OPTION_VALUE)
    first, *others = [_period(bundle, since, until) for bundle in bundles]
    for bundle, period in zip(bundles[1:], others, strict=True):
        if period != first:
            raise FraudError(
                f"{bundle.path}: was trained on other days than {bundles[0].path}, so --protocol "
                "handbook tests them on other rows; evaluate them apart",
                Code.BUNDLES_APART,
            )
    return first


def tested(transactions: pa.Table, period: Period) -> pa.Table:
    """Return the test transactions, of those from the start of training on."""
    labels = transactions.column("label").to_numpy()
    rows = rows_to_test(event_micros(transactions), card_codes(transactions), labels, period)
    return transactions.filter(pa.array(rows))


def _period(bundle: Bundle, since: datetime | None, until: datetime | None) -> Period:
    if bundle.manifest.trained_on is None:
        raise FraudError(
            f"{bundle.path}: doesn't say which days it was trained on, which --protocol handbook "
            "has to know; train it again",
            Code.BUNDLES_APART,
        )
    if "account_id" not in bundle.schema.roles:
        raise FraudError(
            f"{bundle.path}: its schema gives no column for 'account_id', so --protocol handbook "
            "can't tell cards apart",
            Code.ROLE_MISSING,
        )
    first, last = (micros_of(datetime.fromisoformat(text)) for text in bundle.manifest.trained_on)
    period = period_after(first, last)
    start = period.start if since is None else micros_of(since)
    stop = start + TEST_DAYS * DAY if until is None else micros_of(until)
    return Period(first, start, stop)
