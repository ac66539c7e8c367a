"""An alert: one flagged transaction for one channel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec


@dataclass(frozen=True)
class Reason:
    """The contribution of a feature to a score."""

    #: Name of the feature.
    feature: str
    #: Value of the feature, None where the row has none.
    value: float | None
    #: Contribution of the feature, in the units of the reason codes.
    contribution: float | None
    #: The reason in words, such as "7 transactions of the account in the last hour, usually 1".
    text: str | None = None
    #: Whether the contribution is an estimate.
    approximate: bool | None = None


@dataclass(frozen=True)
class FiredRule:
    """A rule whose condition holds for a flagged transaction."""

    #: Name of the rule.
    rule: str
    #: Whether the rule raised the decision: without the rule the decision would be milder.
    raised: bool
    #: Condition of the rule as in the rules file, shortened.
    condition: str | None = None
    #: Description of the rule in the rules file.
    description: str | None = None


@dataclass(frozen=True)
class RuleTerms:
    """The fields of a rule that alerts use."""

    name: str
    decision: str
    priority: int
    condition: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class AlertContext:
    """Settings of a run that alerts use beside their rows."""

    #: IANA time zone of the times that people read.
    timezone: str = "UTC"
    #: Thresholds on the score: the model reviews and declines from here.
    review: float = 1.0
    decline: float | None = None
    #: Rules that decide beside the model.
    rules: tuple[RuleTerms, ...] = ()

    def model_decision(self, score: float) -> str:
        """Return the decision of the model alone on a score."""
        if self.decline is not None and score >= self.decline:
            return "decline"
        return "review" if score >= self.review else "approve"

    def fired(self, names: Sequence[str], decision: str, by_model: str) -> tuple[FiredRule, ...]:
        """Return the rules that fired on a flagged row, those that raised the decision first.

        Args:
          names: names of the rules whose conditions hold.
          decision: decision of the model and the rules together.
          by_model: decision of the model alone.
        """
        holding = [rule for rule in self.rules if rule.name in names]
        passing = [rule.priority for rule in holding if rule.decision == "approve"]
        # A rule that approves overrides the model's decision.
        of_model = by_model == decision and not passing
        fired = [
            FiredRule(
                rule.name,
                not of_model
                and rule.decision == decision
                and rule.priority >= max(passing, default=rule.priority),
                rule.condition,
                rule.description,
            )
            for rule in holding
        ]
        return tuple(sorted(fired, key=lambda rule: not rule.raised))


@dataclass(frozen=True)
class Alert:
    """A flagged transaction as one channel reports it."""

    #: `alert_id(transaction_id, channel)`.
    alert_id: str
    #: The transaction.
    transaction_id: str
    #: Name of the channel.
    channel: str
    #: When the transaction happened, UTC.
    event_time: datetime
    #: The account, None if the data have none.
    account_id: str | None
    #: The merchant, None if the data have none.
    merchant_id: str | None
    #: Amount in the currency of the data.
    amount: float
    #: The model's score, 0 to 1.
    score: float
    #: `review` or `decline`.
    decision: str
    #: Names of the rules that fired.
    rules: tuple[str, ...]
    #: The largest contributions to the score, largest first.
    reasons: tuple[Reason, ...]
    #: The model that scored the transaction.
    model_id: str
    #: Details of `rules`, those that raised the decision first; may be empty.
    fired_rules: tuple[FiredRule, ...] = ()
    #: IANA time zone of the times that people read.
    timezone: str = "UTC"

    def row(self) -> dict[str, object]:
        """Return a row of the table `alerts`: lists as JSON text, without `sent_at`."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row["rules"] = msgspec.json.encode(self.rules).decode()
        row["reasons"] = msgspec.json.encode(self.reasons).decode()
        row["fired_rules"] = msgspec.json.encode(self.fired_rules).decode()
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Alert:
        """Return the alert of a row of the table `alerts`; ignore columns that are not fields."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["rules"] = msgspec.json.decode(str(row["rules"]), type=tuple[str, ...])
        values["reasons"] = msgspec.json.decode(str(row["reasons"]), type=tuple[Reason, ...])
        # Null in rows of earlier versions.
        fired = str(row["fired_rules"] or "[]")
        values["fired_rules"] = msgspec.json.decode(fired, type=tuple[FiredRule, ...])
        values["timezone"] = row["timezone"] or "UTC"
        return msgspec.convert(values, cls)


def alert_id(transaction_id: str, channel: str) -> str:
    """Return the key of an alert: a hash of transaction and channel, not of the model."""
    return hashlib.sha256(f"{channel}\0{transaction_id}".encode()).hexdigest()[:32]
