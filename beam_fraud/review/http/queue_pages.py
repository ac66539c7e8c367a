"""The queue: its cases, filters, saved views and decisions on many cases."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Literal, get_args
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.responses import Response

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.decisions import Decision, bulk_close
from beam_fraud.review.errors import ConflictError
from beam_fraud.review.http.form import Form
from beam_fraud.review.http.queue_rows import queue_rows
from beam_fraud.review.http.visit import RefusedError, Visit
from beam_fraud.review.kept_answers import KeptAnswers
from beam_fraud.review.queue import (
    Filters,
    Page,
    QueuedCase,
    Sort,
    State,
    counted_page,
    next_case,
)
from beam_fraud.review.saved_views import SavedView, delete_view, save_view, views
from beam_fraud.review.settings import Verdict
from beam_fraud.review.teamwork import claim, due_reminders

#: Cases that are tried where others claim the next one at the same time.
_TRIES = 10
#: Cases of a page.
_PAGE = 50
_STATES: tuple[State, ...] = get_args(State)
_SORTS: tuple[Sort, ...] = get_args(Sort)
#: How the page calls each order.
_ORDERS: dict[Sort, str] = {"loss": "expected loss", "age": "age"}
_OPEN_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_VERDICTS: tuple[Verdict | Literal["mixed"], ...] = (*_OPEN_VERDICTS, "mixed")
#: Filters that name somebody, which a person who sees pseudonyms cannot use.
_NAMING = ("account", "merchant", "search")


def queue(visit: Visit) -> Response:
    """Show a page of cases."""
    query = visit.query
    filters, sort = _filters(visit, query), query.choice("sort", _SORTS, "loss")
    shown = "all" if filters.state == "all" else filters.state
    session = visit.session
    assert session is not None

    def work(connection: Connection) -> dict[str, object]:
        page, count = counted_page(
            connection, filters, visit.now, sort=sort, after=query.get("after"), limit=_PAGE
        )
        return {
            "page": page,
            "count": count,
            "saved": _views(visit, connection) if session.has_views else [],
            "reminders": _reminders(visit, connection),
        }

    values = visit.site.read(work)
    given = given_filters(query)
    address = urlencode(given)
    page = values["page"]
    assert isinstance(page, Page)
    return visit.page(
        "queue",
        filters=filters,
        sort=sort,
        state=shown,
        states=_STATES,
        sorts=tuple(_ORDERS.items()),
        verdicts=_VERDICTS,
        given=given,
        address=address,
        rows=queue_rows(visit, page.cases, f"?{address}" if address else ""),
        address_of_view=address_of_view,
        first="after" not in query.values,
        reasons=tuple((one.code, one.text) for one in visit.site.settings.reasons),
        **values,
    )


def take_next(visit: Visit) -> Response:
    """Claim the next free case, and show it."""
    filters = _filters(visit, visit.form)
    sort = visit.form.choice("sort", _SORTS, "loss")

    def work(connection: Connection) -> str | None:
        for _ in range(_TRIES):
            case = next_case(connection, filters, visit.now, visit.who, sort=sort)
            if case is None:
                return None
            # Where somebody is faster, the one after it may be free.
            with suppress(ConflictError):
                claim(connection, visit.site.settings, case.case_id, visit.who, visit.now)
                return case.case_id
        raise ConflictError("Others claim cases as fast as they come; try again.")

    case_id = visit.site.write(work)
    given = given_filters(visit.form)
    if case_id is None:
        return visit.see("/", "none", **given)
    return visit.see(f"/case/{case_id}", "claimed", **given)


def bulk(visit: Visit) -> Response:
    """Decide on many cases with one comment."""
    chosen = {}
    for text in visit.form.all("case"):
        case_id, _, version = text.rpartition(":")
        if not case_id or not version.isdigit():
            raise UsageError(f"case: {text[:40]!r} is none", Code.OPTION_VALUE)
        chosen[case_id] = int(version)
    if not chosen:
        raise UsageError("Choose cases first.", Code.OPTION_MISSING)
    verdict = visit.form.choice("verdict", _OPEN_VERDICTS)
    reason, comment = visit.form.get("reason"), visit.form.need("comment", "A comment")
    result = visit.site.write(
        lambda connection: bulk_close(
            connection,
            visit.site.settings,
            chosen,
            visit.who,
            Decision(verdict, reason=reason, comment=comment),
            visit.now,
        )
    )
    return visit.page("bulk", result=result)


def save(visit: Visit) -> Response:
    """Save the filters of a queue under a name."""
    form = visit.form
    shared = form.get("shared") is not None
    if shared and not visit.may("lead"):
        raise RefusedError("A view for all needs the role lead.")
    view = SavedView(
        owner="" if shared else visit.who,
        name=form.need("name", "A name"),
        filters=_filters(visit, form),
        sort=form.choice("sort", _SORTS, "loss"),
    )
    visit.site.write(lambda connection: save_view(connection, view))
    return visit.see("/", "saved", **given_filters(form))


def delete(visit: Visit) -> Response:
    """Delete a saved view."""
    shared = visit.form.get("shared") is not None
    if shared and not visit.may("lead"):
        raise RefusedError("A view for all needs the role lead.")
    owner, name = "" if shared else visit.who, visit.form.need("name", "A name")
    visit.site.write(lambda connection: delete_view(connection, owner, name))
    return visit.see("/", "deleted")


def _views(visit: Visit, connection: Connection) -> list[SavedView]:
    """Return the saved views that the person can use: without ids, who sees none."""
    found = views(connection, visit.who)
    if not visit.hides:
        return list(found)
    return [view for view in found if not any(getattr(view.filters, name) for name in _NAMING)]


def _reminders(visit: Visit, connection: Connection) -> list[QueuedCase]:
    """Return the reminders that are due; that there are none stays the answer for some seconds."""
    asked = visit.site.url, visit.who
    if _none_due.get(asked):
        return []
    due = due_reminders(connection, visit.who, visit.now)
    if not due:
        _none_due.keep(asked, True)
    return due


_none_due = KeptAnswers[bool](10.0, 1_000)


def address_of_view(view: SavedView) -> str:
    """Return the query of a saved view."""
    given = {
        field.name: _written(value)
        for field in fields(Filters)
        if (value := getattr(view.filters, field.name)) is not None
    }
    return urlencode({**given, "sort": view.sort})


def _filters(visit: Visit, form: Form) -> Filters:
    """Return the filters that a query or a form has.

    Raises:
      UsageError: one is invalid.
    """
    verdict = form.get("verdict")
    naming: dict[str, str | None] = dict.fromkeys(_NAMING)
    if not visit.hides:
        naming = {name: form.get(name) for name in _NAMING}
    elif any(form.get(name) for name in _NAMING):
        raise UsageError("You see pseudonyms, so names find nothing.", Code.OPTION_CONFLICT)
    assigned = form.get("assigned_to")
    return Filters(
        state=form.choice("state", _STATES, "open"),
        rule=form.get("rule"),
        model=form.get("model"),
        verdict=None if verdict is None else form.choice("verdict", _VERDICTS),
        amount_from=form.number("amount_from"),
        amount_to=form.number("amount_to"),
        score_from=form.number("score_from"),
        score_to=form.number("score_to"),
        opened_from=form.moment("opened_from"),
        opened_to=form.moment("opened_to"),
        assigned_to="" if assigned == "-" else assigned,
        claimed_by=form.get("claimed_by"),
        **naming,
    )


def given_filters(form: Form) -> dict[str, str]:
    """Return the filters of a query as they were sent, to send them again."""
    names = [*(field.name for field in fields(Filters)), "sort"]
    return {name: value for name in names if (value := form.get(name)) is not None}


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "-" if value == "" else str(value)
