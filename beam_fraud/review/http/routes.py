"""The routes of the pages: who may use each, and what answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from starlette.responses import Response

from beam_fraud.review.http import (
    case_pages,
    figure_pages,
    list_pages,
    live_pages,
    openid_pages,
    people_pages,
    queue_pages,
    static_pages,
)
from beam_fraud.review.http.visit import Visit
from beam_fraud.review.people.openid_settings import BACK
from beam_fraud.review.people.roles import Role

#: Type: answers a visit, in a thread.
Handler: TypeAlias = Callable[[Visit], Response]


@dataclass(frozen=True)
class Page:
    """A route."""

    #: Its name, which the access log has in place of paths.
    name: str
    method: Literal["GET", "POST"]
    path: str
    #: The least role that may use it; None for anybody.
    role: Role | None
    handler: Handler
    #: Shows the page of a form again, with what was wrong with it.
    again: Handler | None = None
    #: Whether it may take seconds: it reads all cases, or asks another server.
    slow: bool = False
    #: Whether it has a form for people who are not logged in.
    binds: bool = False
    #: Seconds after which it is due, while others that are due sooner may go before it.
    patience: float = 0.0


_READS, _WORKS, _LEADS, _ADMIN = Role.READ_ONLY, Role.ANALYST, Role.LEAD, Role.ADMIN
_LOGIN = people_pages.login
_QUEUE, _CASE, _LISTS, _USERS = (
    queue_pages.queue,
    case_pages.case,
    list_pages.lists,
    people_pages.users,
)

#: A case takes longer than a page of the queue, which must not wait for many of them.
_CASE_PATIENCE = 0.8

#: All routes. `tests/review/test_routes.py` has an entry for each.
ROUTES = (
    Page("static", "GET", "/static/{name}", None, static_pages.static),
    Page("healthz", "GET", "/healthz", None, static_pages.healthz),
    Page("login", "GET", "/login", None, _LOGIN, binds=True),
    Page("log_in", "POST", "/login", None, people_pages.log_in, _LOGIN, binds=True),
    Page("openid", "GET", "/login/openid", None, openid_pages.begin, _LOGIN, slow=True, binds=True),
    Page("openid_back", "GET", BACK, None, openid_pages.back, _LOGIN, slow=True, binds=True),
    Page("logout", "POST", "/logout", _READS, people_pages.log_out),
    Page("account", "GET", "/account", _READS, people_pages.account),
    Page(
        "password", "POST", "/account", _READS, people_pages.change_password, people_pages.account
    ),
    # A filter that cannot be read shows the queue without filters.
    Page("queue", "GET", "/", _READS, _QUEUE, _QUEUE),
    Page("next", "POST", "/next", _WORKS, queue_pages.take_next, _QUEUE),
    Page("bulk", "POST", "/bulk", _LEADS, queue_pages.bulk, _QUEUE),
    Page("save_view", "POST", "/views", _READS, queue_pages.save, _QUEUE),
    Page("delete_view", "POST", "/views/delete", _READS, queue_pages.delete, _QUEUE),
    Page("case", "GET", "/case/{id}", _READS, case_pages.case, patience=_CASE_PATIENCE),
    Page(
        "history", "GET", "/case/{id}/history", _READS, case_pages.history, patience=_CASE_PATIENCE
    ),
    Page("case_state", "GET", "/case/{id}/state", _READS, case_pages.state),
    Page("decide", "POST", "/case/{id}/decide", _WORKS, case_pages.decide_case, _CASE),
    Page("reopen", "POST", "/case/{id}/reopen", _WORKS, case_pages.reopen_case, _CASE),
    Page("claim", "POST", "/case/{id}/claim", _WORKS, case_pages.claim_case, _CASE),
    Page("release", "POST", "/case/{id}/release", _WORKS, case_pages.release_case, _CASE),
    Page("assign", "POST", "/case/{id}/assign", _LEADS, case_pages.assign_case, _CASE),
    Page("remind", "POST", "/case/{id}/remind", _WORKS, case_pages.set_reminder, _CASE),
    Page("snooze", "POST", "/case/{id}/snooze", _WORKS, case_pages.snooze_case, _CASE),
    Page("note", "POST", "/case/{id}/note", _WORKS, case_pages.note, _CASE),
    Page("list_subject", "POST", "/case/{id}/list", _WORKS, case_pages.put_on_list, _CASE),
    Page("resend", "POST", "/case/{id}/resend", _WORKS, case_pages.resend_alert, _CASE),
    Page("lists", "GET", "/lists", _READS, list_pages.lists),
    Page("approve", "POST", "/lists/approve", _WORKS, list_pages.approve_request, _LISTS),
    Page("refuse", "POST", "/lists/refuse", _WORKS, list_pages.refuse_request, _LISTS),
    Page("figures", "GET", "/figures", _READS, figure_pages.figures, slow=True),
    Page("figures_csv", "GET", "/figures/{name}.csv", _READS, figure_pages.csv, slow=True),
    Page("live", "GET", "/live", _READS, live_pages.live, slow=True),
    Page("log", "GET", "/log", _LEADS, list_pages.log),
    Page("users", "GET", "/users", _ADMIN, people_pages.users),
    Page("add_user", "POST", "/users", _ADMIN, people_pages.add, _USERS),
    Page("disable_user", "POST", "/users/disable", _ADMIN, people_pages.disable, _USERS),
    Page("reset_user", "POST", "/users/reset", _ADMIN, people_pages.reset, _USERS),
)
