"""Log-in at a provider of OpenID Connect."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from starlette.responses import RedirectResponse, Response

from beam_fraud.errors import Code, FraudError
from beam_fraud.review import audit_log
from beam_fraud.review.http.cookies import OPENID_COOKIE, SESSION_COOKIE, drop_cookie, set_cookie
from beam_fraud.review.http.people_pages import inner, record_failure
from beam_fraud.review.http.static_pages import missing_page
from beam_fraud.review.http.visit import Visit
from beam_fraud.review.people.identities import log_in
from beam_fraud.review.people.sessions import begin_session

if TYPE_CHECKING:
    from beam_fraud.review.people.openid import Provider

_LOG = logging.getLogger(__name__)
#: Seconds for which a browser keeps a log-in that has begun.
_KEPT = 600
_ANSWER = ("state", "code", "iss", "error")


def begin(visit: Visit) -> Response:
    """Lead the browser to the provider."""
    address, cookie = _provider(visit).begin(inner(visit.query.get("next")))
    response = RedirectResponse(address, 303)
    set_cookie(response, OPENID_COOKIE, cookie, _KEPT)
    return response


def back(visit: Visit) -> Response:
    """Begin a session for whom the provider has logged in."""
    provider = _provider(visit)
    given = {name: visit.query.all(name) for name in _ANSWER}
    # Whatever is there twice is of nobody.
    answer = {name: values[0] for name, values in given.items() if len(values) == 1}
    try:
        identity = provider.identity(visit.openid, answer)
    except FraudError as error:
        _LOG.warning("%s [%s]", error, error.code)
        raise

    def work(connection: Connection) -> str:
        user, deeds = log_in(connection, provider.settings, identity)
        token = begin_session(connection, user)
        audit_log.append_all(connection, user.name, deeds, visit.now)
        return token

    try:
        token = visit.site.write(work)
    except FraudError as error:
        if error.code == Code.LOGIN_REFUSED:
            record_failure(visit)
        raise
    response = visit.see(inner(identity.following))
    set_cookie(response, SESSION_COOKIE, token)
    drop_cookie(response, OPENID_COOKIE)
    return response


def _provider(visit: Visit) -> Provider:
    """Return the provider.

    Raises:
      MissingError: there is none.
    """
    if visit.site.provider is None:
        raise missing_page()
    return visit.site.provider
