"""Changes of lists that wait for a second person, and the audit log."""

from __future__ import annotations

from typing import Literal, get_args

from sqlalchemy import Connection
from starlette.responses import Response

from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.errors import Code, UsageError
from beam_fraud.review import audit_log
from beam_fraud.review.case import named_ids
from beam_fraud.review.http.case_pages import described
from beam_fraud.review.http.visit import Visit
from beam_fraud.review.list_requests import (
    ListRequest,
    RequestState,
    apply_requests,
    approve,
    refuse,
    requests,
)

_STATES: tuple[RequestState | Literal["all"], ...] = (*get_args(RequestState), "all")
#: Entries of a page of the log.
_ENTRIES = 100


def lists(visit: Visit) -> Response:
    """Show the changes of lists that people asked for."""
    state = visit.query.choice("state", _STATES, "waiting")
    wanted = None if state == "all" else state

    def work(connection: Connection) -> tuple[list[ListRequest], dict[Kind, tuple[str, ...]]]:
        found = list(requests(connection, state=wanted))
        if not visit.hides:
            return found, {}
        texts = [text for one in found for text in (one.reason, one.error) if text]
        return found, named_ids(connection, texts, visit.site.settings.links)

    found, named = visit.site.read(work)

    def reads(one: ListRequest, text: str) -> str:
        own = (*named.get(one.kind, ()), one.value)
        return visit.text_shown(text, {**named, one.kind: own})

    return visit.page("lists", requests=found, state=state, states=_STATES, reads=reads)


def approve_request(visit: Visit) -> Response:
    """Approve a change that another person asked for, and make it."""
    site, request_id = visit.site, visit.form.need("request", "The request")
    if site.lists is None:
        raise UsageError("This server has no lists (--lists).", Code.OPTION_MISSING)
    site.write(lambda c: approve(c, site.settings, request_id, visit.who, visit.now))
    apply_requests(site.url, site.lists)
    return visit.see("/lists", "listed")


def refuse_request(visit: Visit) -> Response:
    """Refuse a change that a person asked for."""
    site, request_id = visit.site, visit.form.need("request", "The request")
    site.write(lambda c: refuse(c, site.settings, request_id, visit.who, visit.now))
    return visit.see("/lists", "refused")


def log(visit: Visit) -> Response:
    """Show the audit log, the newest entries first."""
    before = visit.query.whole("before") if visit.query.get("before") else None
    who, case_id = visit.query.get("who"), visit.query.get("case")
    entries = visit.site.read(
        lambda connection: audit_log.entries(
            connection, before=before, limit=_ENTRIES, who=who, case_id=case_id
        )
    )
    following = entries[-1].number if len(entries) == _ENTRIES else None
    return visit.page(
        "log", entries=entries, who=who, case_id=case_id, following=following, described=described
    )
