"""A case: its transactions and history, and what a person does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import get_args

from markupsafe import Markup
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.errors import Code, UsageError
from beam_fraud.review.case import Case, named_ids, read_case
from beam_fraud.review.decisions import Decision, decide, reopen
from beam_fraud.review.errors import MissingError, missing_case
from beam_fraud.review.http.case_rows import case_rows
from beam_fraud.review.http.charts import history_chart, history_rows
from beam_fraud.review.http.form import Form
from beam_fraud.review.http.queue_pages import given_filters
from beam_fraud.review.http.templating import escaped
from beam_fraud.review.http.visit import Visit
from beam_fraud.review.list_requests import ListEntry, apply_requests, ask
from beam_fraud.review.people.users import names_of_users
from beam_fraud.review.queue import queued_cases
from beam_fraud.review.resending import resend
from beam_fraud.review.settings import Action, Subject, Verdict
from beam_fraud.review.surroundings import (
    Drawn,
    Link,
    Surroundings,
    history_of,
    surroundings,
)
from beam_fraud.review.teamwork import add_note, assign, claim, release, remind, snooze

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_ACTIONS: tuple[Action, ...] = get_args(Action)
_SUBJECTS: tuple[Subject, ...] = get_args(Subject)
#: Merchants of a case whose history is drawn: those with the most transactions in it.
_DRAWN = 2
#: Newest transactions of each that a table shows.
_TABLED = 100


def case(visit: Visit) -> Response:
    """Show a case."""

    def work(connection: Connection) -> dict[str, object]:
        found = _read(connection, visit)
        case_id = found.queued.case_id
        drawn = _drawn(found)
        around = surroundings(connection, found, drawn, visit.site.settings.links)
        charts = [
            (kind, value, chart)
            for (kind, value), points in zip(drawn, around.marks, strict=True)
            if (chart := history_chart(points, case_id)) is not None
        ]
        return {
            "case": found,
            "charts": charts,
            "links": around.links,
            "ids": _ids(connection, visit, found, around) if visit.hides else {},
            "people": tuple(names_of_users(connection)) if visit.may("lead") else (),
        }

    values = visit.site.read(work)
    found = values["case"]
    assert isinstance(found, Case)
    ids = values["ids"]
    assert isinstance(ids, dict)
    settings = visit.site.settings

    def reads(text: str) -> str:
        return visit.text_shown(text, ids)

    return visit.page(
        "case",
        queued=found.queued,
        reasons=tuple(
            (one.code, f"{one.text} ({one.verdict})" if one.verdict else one.text)
            for one in settings.reasons
        ),
        actions=tuple(
            (one, f"{one}, with a second person" if one in settings.second_person else one)
            for one in _ACTIONS
        ),
        reads=reads,
        transactions=lambda versioned: case_rows(visit, found, reads, versioned),
        given=given_filters(visit.query),
        held_by_other=found.queued.claimed_by not in (None, visit.who),
        described=described,
        linked_by=lambda link: _linked_by(visit, link),
        linked_cases=lambda link: _linked_cases(visit, link),
        merchants=_merchants(found),
        **values,
    )


def history(visit: Visit) -> Response:
    """Show the transactions of the plots of a case as tables."""

    def work(connection: Connection) -> dict[str, object]:
        found = _read(connection, visit)
        tables = [
            (*drawn, history_rows(history_of(connection, drawn, limit=_TABLED)))
            for drawn in _drawn(found)
        ]
        return {"queued": found.queued, "tables": tables}

    return visit.page("history", given=given_filters(visit.query), **visit.site.read(work))


def state(visit: Visit) -> Response:
    """Return what tells an open page that somebody else changed the case."""
    case_id = visit.parts["id"]
    found = visit.site.read(lambda connection: queued_cases(connection, [case_id], visit.now))
    if not found:
        raise missing_case(case_id)
    [queued] = found
    return JSONResponse({"version": queued.version, "claimed_by": queued.claimed_by})


def decide_case(visit: Visit) -> Response:
    """Decide on chosen transactions of a case, or on all that are undecided."""
    form = visit.form
    version, verdict = form.whole("version"), form.choice("verdict", _VERDICTS)
    reason, comment = form.get("reason"), form.text("comment")

    def work(connection: Connection) -> bool:
        # No more than that is read here: others wait for the end of the transaction.
        case_id, chosen = visit.parts["id"], _chosen(connection, visit)
        decision = Decision(verdict, reason, comment, chosen)
        decide(connection, visit.site.settings, case_id, version, visit.who, decision, visit.now)
        [queued] = queued_cases(connection, [case_id], visit.now)
        return queued.state == "closed"

    closed = visit.site.write(work)
    filters = _back(visit)
    if closed and form.get("then") == "next":
        return visit.see("/", "closed", **filters)
    return visit.see(_path(visit), "closed" if closed else "decided", **filters)


def reopen_case(visit: Visit) -> Response:
    """Open a closed case again."""
    version, comment = visit.form.whole("version"), visit.form.need("comment", "A comment")
    return _done(
        visit,
        "reopened",
        lambda c: reopen(
            c,
            visit.site.settings,
            visit.parts["id"],
            version,
            visit.who,
            visit.now,
            comment=comment,
        ),
    )


def claim_case(visit: Visit) -> Response:
    """Claim the case for a while."""
    version = visit.form.whole("version")
    return _done(
        visit,
        "claimed",
        lambda c: claim(
            c, visit.site.settings, visit.parts["id"], visit.who, visit.now, version=version
        ),
    )


def release_case(visit: Visit) -> Response:
    """Release the case; a lead releases that of another person."""
    return _done(
        visit,
        "released",
        lambda c: release(
            c,
            visit.site.settings,
            visit.parts["id"],
            visit.who,
            visit.now,
            force=visit.may("lead"),
        ),
    )


def assign_case(visit: Visit) -> Response:
    """Assign the case to a person, or to nobody."""
    version, to = visit.form.whole("version"), visit.form.get("to")

    def work(connection: Connection) -> None:
        if to is not None and to not in names_of_users(connection):
            raise UsageError("There is no such person.", Code.OPTION_VALUE)
        assign(
            connection,
            visit.site.settings,
            visit.parts["id"],
            version,
            visit.who,
            visit.now,
            to=to,
        )

    return _done(visit, "assigned", work)


def set_reminder(visit: Visit) -> Response:
    """Remind the person of the case later."""
    version, at = visit.form.whole("version"), _later(visit)
    return _done(
        visit,
        "reminder",
        lambda c: remind(
            c, visit.site.settings, visit.parts["id"], version, visit.who, visit.now, at=at
        ),
    )


def snooze_case(visit: Visit) -> Response:
    """Take the case out of the queue for a while, or back into it."""
    version, until = visit.form.whole("version"), _later(visit)
    return _done(
        visit,
        "woken" if until is None else "snoozed",
        lambda c: snooze(
            c, visit.site.settings, visit.parts["id"], version, visit.who, visit.now, until=until
        ),
    )


def note(visit: Visit) -> Response:
    """Add a note."""
    text = visit.form.need("text", "The note")
    return _done(
        visit,
        "noted",
        lambda c: add_note(c, visit.site.settings, visit.parts["id"], visit.who, text, visit.now),
    )


def put_on_list(visit: Visit) -> Response:
    """Put the account or a merchant of the case on a list."""
    form, site = visit.form, visit.site
    if site.lists is None:
        raise UsageError("This server has no lists (--lists).", Code.OPTION_MISSING)
    subject, name = _subject(form)
    action = form.choice("action", _ACTIONS)
    why, span = form.need("reason", "A reason"), form.span("hours")
    until = None if span is None else visit.now + span

    def work(connection: Connection) -> str:
        value = _value(visit, _read(connection, visit), subject, name)
        asked = ask(
            connection,
            site.settings,
            visit.who,
            ListEntry(subject, value, action, why, until),
            visit.now,
            case_id=visit.parts["id"],
        )
        return asked.state

    state = site.write(work)
    apply_requests(site.url, site.lists)
    return visit.see(_path(visit), "asked" if state == "waiting" else "listed")


def resend_alert(visit: Visit) -> Response:
    """Send the alerts of a transaction again."""

    def work(connection: Connection) -> int:
        chosen = _chosen(connection, visit)
        if not chosen:
            raise UsageError("Choose a transaction.", Code.OPTION_MISSING)
        return resend(connection, visit.site.settings, chosen[0], visit.who, visit.now)

    if not visit.site.write(work):
        raise UsageError("No alert of this transaction was ever queued.", Code.ALERT_UNKNOWN)
    return visit.see(_path(visit), "resent")


def _done(visit: Visit, word: str, work: Callable[[Connection], object]) -> Response:
    visit.site.write(work)
    return visit.see(_path(visit), word, **_back(visit))


def _back(visit: Visit) -> dict[str, str]:
    """Return the filters of the queue that the person came from; forms carry them in one field."""
    return given_filters(Form.parse(visit.form.get("back") or ""))


def _path(visit: Visit) -> str:
    return f"/case/{visit.parts['id']}"


def _read(connection: Connection, visit: Visit) -> Case:
    return read_case(connection, visit.parts["id"], visit.now)


def _later(visit: Visit) -> datetime | None:
    span: timedelta | None = visit.form.span("hours")
    return None if span is None else visit.now + span


def _chosen(connection: Connection, visit: Visit) -> list[str] | None:
    """Return the chosen transactions, which a form names as the person sees them; None for all."""
    names = visit.form.all("transaction")
    if not names:
        return None
    found = _read(connection, visit)
    ids = {
        visit.form_name("transaction", one.transaction_id): one.transaction_id
        for one in found.transactions
    }
    if not set(names) <= ids.keys():
        raise MissingError("The case has no such transaction.")
    return [ids[name] for name in names]


def _subject(form: Form) -> tuple[Subject, str]:
    """Return what a form puts on a list: its kind, and its id as the person sees it.

    Raises:
      UsageError: it is neither an account nor a merchant.
    """
    kind, _, name = (form.all("value") or [""])[-1].partition(":")
    for subject in _SUBJECTS:
        if subject == kind:
            return subject, name
    raise UsageError("Choose an account or a merchant.", Code.OPTION_MISSING)


def _value(visit: Visit, found: Case, subject: Subject, name: str) -> str:
    """Return the id of an account or merchant of the case."""
    if subject == "account":
        values = [found.queued.account_id]
    else:
        values = [one.merchant_id for one in found.transactions]
    ids = {visit.form_name(subject, value): value for value in values if value is not None}
    if name not in ids:
        raise MissingError(f"The case has no such {subject}.")
    return ids[name]


def _merchants(found: Case) -> list[str]:
    merchants = [one.merchant_id for one in found.transactions if one.merchant_id is not None]
    return sorted(set(merchants), key=lambda one: (-merchants.count(one), one))


def _drawn(found: Case) -> list[Drawn]:
    """Return whose histories are shown."""
    account = found.queued.account_id
    drawn: list[Drawn] = [] if account is None else [("account", account)]
    return drawn + [("merchant", merchant) for merchant in _merchants(found)[:_DRAWN]]


def _ids(
    connection: Connection, visit: Visit, found: Case, around: Surroundings
) -> dict[Kind, tuple[str, ...]]:
    """Return the ids that texts of the case hold, or may hold."""
    rows = found.transactions
    account = found.queued.account_id
    texts = [one.text for one in found.notes]
    texts += [described(one.detail) for one in found.timeline]
    texts += [one.error for one in found.requests if one.error]
    texts += [label.reason for one in rows for label in one.labels if label.reason]
    named = named_ids(connection, texts, visit.site.settings.links)
    own: dict[Kind, set[str]] = {
        "transaction": {one.transaction_id for one in rows},
        "account": set() if account is None else {account},
        "merchant": {one.merchant_id for one in rows if one.merchant_id is not None},
        "link": {value for _, value in around.values},
    }
    return {kind: tuple({*named.get(kind, ()), *values}) for kind, values in own.items()}


def _linked_by(visit: Visit, link: Link) -> Markup:
    """Return the column and the value that cases have in common."""
    merchants = link.column == "merchant_id"
    column = "merchant" if merchants else link.column.removesuffix("_id").replace("_", " ")
    value = visit.shown("merchant" if merchants else "link", link.value)
    return Markup(f"{escaped(column)} <bdi>{escaped(value)}</bdi>")


def _linked_cases(visit: Visit, link: Link) -> Markup:
    """Return the links to other cases; a page has so many that the template would be slow."""
    found = (
        f'<a href="/case/{escaped(one.case_id)}">{escaped(visit.shown("account", one.account_id))}'
        f"</a>{f' ({escaped(one.verdict)})' if one.verdict else ''}"
        for one in link.cases
    )
    return Markup(", ".join(found) or "none")


def described(detail: Mapping[str, object]) -> str:
    """Return the details of an entry in words."""
    return ", ".join(
        f"{key.replace('_', ' ')}: {_in_words(value)}"
        for key, value in detail.items()
        if value not in (None, [], {}, "")
    )


def _in_words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
