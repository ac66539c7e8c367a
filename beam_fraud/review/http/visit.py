"""A visit: one request of a person, and the answers that pages make of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.errors import Code, FraudError
from beam_fraud.review.http.form import Form
from beam_fraud.review.http.site import Site
from beam_fraud.review.http.templating import render
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.sessions import Session, form_token
from beam_fraud.review.people.users import User
from beam_fraud.wording import printable

#: What was done, by the word that an address carries to the next page.
DONE = {
    "decided": "Decided.",
    "closed": "Decided; the case is closed.",
    "claimed": "You work on this case now.",
    "released": "Released; anybody may claim the case.",
    "assigned": "Assigned.",
    "snoozed": "Snoozed.",
    "woken": "The case is back in the queue.",
    "reminder": "The reminder is set.",
    "noted": "The note is saved.",
    "reopened": "Reopened.",
    "asked": "Recorded; it waits for a second person.",
    "listed": "Recorded; streams and servers take it up within seconds.",
    "refused": "Refused.",
    "resent": "The alert goes out again.",
    "saved": "The view is saved.",
    "deleted": "The view is deleted.",
    "none": "No case waits for you here.",
    "user": "Changed.",
    "password": "Your password is changed; your other sessions have ended.",
    "out": "You are logged out here.",
}


#: What people write into notes and is hidden with ids: addresses of e-mail, and numbers of nine
#: digits or more, in groups or not.
_E_MAIL = re.compile(r"[^\s@<>,;:()]+@[^\s@<>,;:()]+")
_NUMBER = re.compile(r"(?<![\w.-])\+?\d(?:[ ()/.-]{0,2}\d){8,}(?![\w])")


class RefusedError(FraudError):
    """A person may not do something, or a form is not of the person's session."""

    def __init__(self, message: str, code: Code = Code.USER_INVALID) -> None:
        """Note what was refused.

        Args:
          message: for the person.
          code: of it.
        """
        super().__init__(message, code)


@dataclass(frozen=True)
class Visit:
    """One request; of a logged-in person, unless the route is open to all."""

    site: Site
    #: Path of the request, and the values of its parts.
    path: str
    parts: Mapping[str, str]
    query: Form
    #: Fields of a form; empty for GET.
    form: Form
    #: Address of the client.
    client: str
    now: datetime
    session: Session | None = None
    #: Token of the session's cookie; or of the cookie that binds a log-in form to a browser.
    token: str = field(default="", repr=False)
    #: Cookie of a log-in that has begun at a provider.
    openid: str = field(default="", repr=False)
    #: What went wrong with a form, shown on the page that has it.
    problem: str | None = None
    status: int = 200

    @property
    def user(self) -> User:
        """Who is logged in."""
        assert self.session is not None
        return self.session.user

    @property
    def who(self) -> str:
        """Name of who is logged in."""
        return self.user.name

    @cached_property
    def hides(self) -> bool:
        """Return whether the person sees pseudonyms for ids."""
        return self.session is not None and self.user.role in self.site.settings.pseudonymised

    def may(self, role: str) -> bool:
        """Return whether the person has the rights of a role."""
        return self.session is not None and self.user.role >= Role.parse(role)

    def shown(self, kind: Kind, value: str | None) -> str:
        """Return an id as the person sees it: a pseudonym by role, never an invisible character."""
        if value is None:
            return "-"
        if self.hides:
            assert self.site.pseudonyms is not None
            return self.site.pseudonyms.of(kind, value)
        return printable(value, 80)

    def form_name(self, kind: Kind, value: str) -> str:
        """Return the name of an id in forms: the id, or the pseudonym of who sees no ids."""
        return self.shown(kind, value) if self.hides else value

    def text_shown(self, text: str, ids: Mapping[Kind, Collection[str]]) -> str:
        """Return a text as the person sees it.

        Where ids are hidden, those in it are replaced as they are elsewhere, and so are e-mail
        addresses and long numbers, as of cards and telephones.
        """
        if not self.hides:
            return text
        known = [(value, kind) for kind, values in ids.items() for value in values if value]
        for value, kind in sorted(known, key=lambda one: len(one[0]), reverse=True):
            pattern = rf"(?<!\w){re.escape(value)}(?!\w)"
            text = re.sub(pattern, self.shown(kind, value), text, flags=re.IGNORECASE)
        return _NUMBER.sub("[number]", _E_MAIL.sub("[e-mail]", text))

    def page(self, template: str, **values: object) -> Response:
        """Return a page of a template."""
        done = DONE.get(self.query.get("done") or "") if self.problem is None else None
        token = form_token(self.token) if self.token else ""
        text = render(
            template,
            visit=self,
            done=done,
            problem=self.problem,
            token=Markup(f'<input type="hidden" name="form_token" value="{token}">'),
            now=self.now,
            **values,
        )
        return HTMLResponse(text, self.status)

    def see(self, path: str, done: str | None = None, **query: str) -> Response:
        """Return an answer that leads the browser to a page after a form.

        Args:
          path: of the page.
          done: a word of `DONE`.
          query: further fields.
        """
        fields = {**query, **({} if done is None else {"done": done})}
        address = f"{path}?{urlencode(fields)}" if fields else path
        return RedirectResponse(address, 303)

    def again(self, problem: str, status: int) -> Visit:
        """Return the visit of the page that has the form, with what went wrong."""
        return replace(self, problem=problem, status=status, query=Form())
