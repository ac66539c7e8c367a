"""How an organisation reviews: reason codes, lists, claims and times, from a TOML file.

claim = "15m"
second_person = ["block"]

[[reason]]
code = "stolen"
text = "Card stolen or lost"
verdict = "fraud"

[lists.account]
block = "blocked_accounts"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from beam_fraud.decisions.lists.changes import list_file
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.review.people.openid_settings import OpenIdSettings, read_openid
from beam_fraud.review.people.roles import Role
from beam_fraud.schema.duration import SECOND, microseconds
from beam_fraud.schema.text_file import Table, must_be, read_table, read_text_file, read_toml
from beam_fraud.wording import did_you_mean, reason_of

Verdict = Literal["fraud", "genuine", "unsure"]
Action = Literal["block", "allow", "watch"]
Subject = Literal["account", "merchant"]
#: Word of an action in the name of a list.
_DONE: dict[Action, str] = {"block": "blocked", "allow": "allowed", "watch": "watched"}


@dataclass(frozen=True)
class ReasonCode:
    """Why a person decides so."""

    #: Stable: labels hold it.
    code: str
    #: For people.
    text: str
    #: The verdict that it explains; None for any.
    verdict: Verdict | None = None


DEFAULT_REASONS = (
    ReasonCode("stolen", "Card lost or stolen", "fraud"),
    ReasonCode("not_present", "Card data used without the card", "fraud"),
    ReasonCode("takeover", "Account taken over", "fraud"),
    ReasonCode("merchant", "Fraud by the merchant", "fraud"),
    ReasonCode("confirmed", "Confirmed by the customer", "genuine"),
    ReasonCode("usual", "Usual for the customer", "genuine"),
    ReasonCode("unreachable", "Customer not reached", "unsure"),
    ReasonCode("other", "Another reason", None),
)


def _default_lists() -> dict[tuple[Subject, Action], str]:
    return {
        (kind, action): f"{_DONE[action]}_{kind}s"
        for kind in get_args(Subject)
        for action in get_args(Action)
    }


@dataclass(frozen=True)
class ReviewSettings:
    """How an organisation reviews."""

    reasons: tuple[ReasonCode, ...] = DEFAULT_REASONS
    #: What is listed and how, to the name of the list.
    lists: Mapping[tuple[Subject, Action], str] = field(default_factory=_default_lists)
    #: Actions that a second person must approve.
    second_person: frozenset[Action] = frozenset()
    #: How long a claim lasts.
    claim_seconds: float = 900.0
    #: Time from opening a case to its due time.
    sla_seconds: float = 4 * 3600.0
    #: Cases that the team decides in a day.
    capacity: int = 200
    #: Roles that see pseudonyms for ids.
    pseudonymised: frozenset[Role] = frozenset()
    #: Whether people may log in with a password.
    passwords: bool = True
    #: Provider that people log in with, or None.
    openid: OpenIdSettings | None = None
    #: Columns that link cases as merchants do, of those whose values the database has.
    links: tuple[str, ...] = ()
    #: URLs of the channels that events and labels go to; they may hold secrets.
    events: tuple[str, ...] = field(default=(), repr=False)
    label_events: tuple[str, ...] = field(default=(), repr=False)
    #: Names of the channels that events go to.
    channels: tuple[str, ...] = ()
    #: Names of the channels, topics of Kafka, that labels go to.
    label_channels: tuple[str, ...] = ()

    def check_reason(self, code: str | None, verdict: Verdict) -> None:
        """Check a reason code.

        Raises:
          UsageError: there is none of that name for the verdict.
        """
        known = [one.code for one in self.reasons if one.verdict in (None, verdict)]
        if code is not None and code not in known:
            hint = did_you_mean(code, known, f"known: {', '.join(known)}")
            raise UsageError(f"reason {code!r}: not for {verdict}; {hint}", Code.REVIEW_VALUE)


class _Keys(Table):
    code = Code.REVIEW_SETTINGS


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Reason(_Keys):
    # `code` is what every table calls its kind of mistake.
    name: Annotated[
        str, must_be("a word of at most 40 letters, digits, '-' and '_'", pattern=r"^[\w-]{1,40}$")
    ] = msgspec.field(name="code")
    text: Annotated[_Text, must_be("text of at most 200 characters")]
    verdict: Annotated[Verdict | None, must_be('"fraud", "genuine" or "unsure"')] = None


class _Document(_Keys):
    reason: Annotated[list[dict[str, Any]], must_be("written as [[reason]]")] = []
    lists: Annotated[
        dict[Subject, dict[Action, str]],
        must_be("written as [lists.account] or [lists.merchant], with block, allow and watch"),
    ] = {}
    second_person: Annotated[list[Action], must_be('a list of "block", "allow" and "watch"')] = []
    claim: Annotated[str, must_be('a duration, as in "15m"')] = "15m"
    sla: Annotated[str, must_be('a duration, as in "4h"')] = "4h"
    capacity: Annotated[int, must_be("a whole number of cases, at least 1", ge=1)] = 200
    pseudonymise: Annotated[
        list[Literal["read-only", "analyst"]], must_be('a list of "read-only" and "analyst"')
    ] = []
    passwords: Annotated[bool, must_be("true or false")] = True
    openid: Annotated[dict[str, Any] | None, must_be("written as [openid]")] = None
    links: Annotated[list[_Text], must_be("a list of names of columns")] = []
    events: Annotated[list[str], must_be("a list of URLs of channels")] = []
    label_events: Annotated[list[str], must_be("a list of URLs of topics")] = []


def read_settings(path: Path) -> ReviewSettings:
    """Read the settings of a TOML file; what it leaves out has its default.

    Raises:
      UsageError: the file is invalid.
      FraudError: it cannot be read.
    """
    try:
        text = read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "not UTF-8"
        raise FraudError(f"{path}: cannot be read ({reason})", Code.REVIEW_SETTINGS) from None
    where = str(path)
    document = read_toml(text, _Document, where)
    reasons = [read_table(one, _Reason, f"{where}: reason") for one in document.reason]
    codes = [one.name for one in reasons]
    for code in codes:
        if codes.count(code) > 1:
            raise UsageError(f"{where}: reason {code!r} is there twice", Code.REVIEW_SETTINGS)
    openid = None
    if document.openid is not None:
        openid = read_openid(document.openid, f"{where}: [openid]", path.parent)
    elif not document.passwords:
        raise UsageError(
            f"{where}: passwords = false: nobody could log in without [openid]",
            Code.REVIEW_SETTINGS,
        )
    lists = _default_lists()
    for kind, names in document.lists.items():
        for action, name in names.items():
            # Its name is checked.
            list_file(path.parent, name)
            lists[kind, action] = name
    return ReviewSettings(
        tuple(ReasonCode(one.name, one.text, one.verdict) for one in reasons) or DEFAULT_REASONS,
        lists,
        frozenset(document.second_person),
        _seconds(document.claim, f"{where}: claim"),
        _seconds(document.sla, f"{where}: sla"),
        capacity=document.capacity,
        pseudonymised=frozenset(map(Role.parse, document.pseudonymise)),
        passwords=document.passwords,
        openid=openid,
        links=tuple(dict.fromkeys(document.links)),
        events=tuple(document.events),
        label_events=tuple(document.label_events),
    )


def _seconds(text: str, where: str) -> float:
    try:
        return microseconds(text) / SECOND
    except UsageError as error:
        raise UsageError(f"{where}: {error}", Code.REVIEW_SETTINGS) from None
