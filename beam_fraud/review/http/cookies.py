"""Cookies of the pages."""

from __future__ import annotations

from starlette.responses import Response

#: Cookies of a session and of a log-in form. Browsers take this prefix with `Secure` alone, for
#: the whole host and no other one; they count addresses of this machine as secure.
SESSION_COOKIE, LOGIN_COOKIE = "__Host-review", "__Host-login"
#: Cookie of a log-in that has begun at a provider.
OPENID_COOKIE = "__Host-openid"


def set_cookie(response: Response, name: str, value: str, seconds: int | None = None) -> None:
    """Set a cookie for this host; scripts do not see it.

    Links from elsewhere, as in an alert, find the person logged in; forms from elsewhere do not.

    Args:
      response: the answer.
      name: the cookie's.
      value: its value.
      seconds: how long it is kept; None for as long as the browser runs.
    """
    response.set_cookie(name, value, seconds, path="/", secure=True, httponly=True, samesite="lax")


def drop_cookie(response: Response, name: str) -> None:
    """Remove a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
