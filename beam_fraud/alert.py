"""An alert: one flagged transaction for one channel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec


@dataclass(frozen=True)
class Reason:
    """What a feature added to the score."""

    #: Name of the feature.
    feature: str
    #: Its value, None where it was absent.
    value: float | None
    #: What it added, in the units of the reason codes.
    contribution: float | None
    #: In plain words, such as "7 transactions of the account in the last hour, usually 1".
    text: str | None = None
    #: Whether the contribution is an estimate.
    approximate: bool | None = None


@dataclass(frozen=True)
class Alert:
    """A flagged transaction, as people are told of it through one channel."""

    #: `alert_id(transaction_id, channel)`.
    alert_id: str
    #: The transaction.
    transaction_id: str
    #: Name of the channel.
    channel: str
    #: When the transaction happened, UTC.
    event_time: datetime
    #: Whose money, if the data say.
    account_id: str | None
    #: Who was to get it, if the data say.
    merchant_id: str | None
    #: How much, in the currency of the data.
    amount: float
    #: The model's score, 0 to 1.
    score: float
    #: `review` or `decline`.
    decision: str
    #: Names of the rules that fired.
    rules: tuple[str, ...]
    #: What raised the score, largest first.
    reasons: tuple[Reason, ...]
    #: The model that scored it.
    model_id: str

    def row(self) -> dict[str, object]:
        """The alert as a row of the table `alerts`: the lists as JSON text, `sent_at` left out."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row["rules"] = msgspec.json.encode(self.rules).decode()
        row["reasons"] = msgspec.json.encode(self.reasons).decode()
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Alert:
        """The inverse of `row`; a column that is no field is passed over."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["rules"] = msgspec.json.decode(str(row["rules"]), type=tuple[str, ...])
        values["reasons"] = msgspec.json.decode(str(row["reasons"]), type=tuple[Reason, ...])
        return msgspec.convert(values, cls)


def alert_id(transaction_id: str, channel: str) -> str:
    """Key of an alert: 32 hex digits, the same for a transaction and channel whatever the model."""
    return hashlib.sha256(f"{channel}\0{transaction_id}".encode()).hexdigest()[:32]
