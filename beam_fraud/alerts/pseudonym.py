"""Pseudonyms for ids: stable, and computable only with the key."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from beam_fraud.alerts.alert import Alert, FiredRule, Reason
from beam_fraud.errors import Code, FraudError

#: Environment variable of the key.
KEY_VARIABLE = "BEAM_FRAUD_PSEUDONYM_KEY"
#: Minimum length of a key in bytes: who guesses a shorter key can compute the ids.
_SHORTEST = 16
#: Kind of an id: equal ids of different kinds get different pseudonyms.
#: `link` is a value of a column that links cases.
Kind = Literal["transaction", "account", "merchant", "alert", "link"]


@dataclass(frozen=True)
class Pseudonyms:
    """A keyed hash of ids: the first 16 hex digits of HMAC-SHA256."""

    #: At least 16 bytes.
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check the length of the key.

        Raises FraudError if it is too short.
        """
        if len(self.key) < _SHORTEST:
            raise FraudError(
                f"{KEY_VARIABLE}: a key has at least {_SHORTEST} bytes, this has {len(self.key)}; "
                "make one: openssl rand -hex 32",
                Code.SECRET_UNREADABLE,
            )

    @classmethod
    def from_environment(cls) -> Pseudonyms:
        """Return pseudonyms by the key in `KEY_VARIABLE`.

        Raises:
          FraudError: the key is missing or too short.
        """
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            raise FraudError(
                f"pseudonyms need a key: set {KEY_VARIABLE} (make one: openssl rand -hex 32)",
                Code.SECRET_UNREADABLE,
            )
        return cls(key.encode("utf-8", "surrogateescape"))

    def of(self, kind: Kind, value: str) -> str:
        """Return the pseudonym of an id: 16 hex digits.

        Example:
          >>> names = Pseudonyms(b"sixteen bytes or")
          >>> names.of("account", "a") == names.of("account", "a")
          True
          >>> names.of("account", "a") == names.of("merchant", "a")
          False
        """
        text = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()[:16]

    def alert(self, alert: Alert) -> Alert:
        """Return the alert with pseudonyms for its ids.

        Replace the alert's own id as well: anyone can compute it from the transaction's id. Remove
        the texts of reasons and rules that contain an id, and conditions that contain a quoted
        text, which may be the id of another account.
        """
        ids = {alert.transaction_id, alert.account_id, alert.merchant_id} - {None, ""}
        return replace(
            alert,
            reasons=tuple(_without(ids, reason) for reason in alert.reasons),
            fired_rules=tuple(_unnamed(ids, rule) for rule in alert.fired_rules),
            alert_id=self.of("alert", alert.alert_id),
            transaction_id=self.of("transaction", alert.transaction_id),
            account_id=self._maybe("account", alert.account_id),
            merchant_id=self._maybe("merchant", alert.merchant_id),
        )

    def event(self, event: Mapping[str, object]) -> dict[str, object]:
        """Return an event or a label with pseudonyms for its ids."""
        changed = dict(event)
        for kind in get_args(Kind):
            value = changed.get(f"{kind}_id")
            if isinstance(value, str):
                changed[f"{kind}_id"] = self.of(kind, value)
        return changed

    def _maybe(self, kind: Kind, value: str | None) -> str | None:
        return None if value is None else self.of(kind, value)


def _without(ids: Iterable[str | None], reason: Reason) -> Reason:
    return replace(reason, text=None) if _names(ids, reason.text) else reason


def _unnamed(ids: Iterable[str | None], rule: FiredRule) -> FiredRule:
    texts = rule.condition is not None and any(quote in rule.condition for quote in "\"'")
    return replace(
        rule,
        condition=None if texts or _names(ids, rule.condition) else rule.condition,
        description=None if _names(ids, rule.description) else rule.description,
    )


def _names(ids: Iterable[str | None], text: str | None) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(str(one))}(?!\w)", text or "") for one in ids)
