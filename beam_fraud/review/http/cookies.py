"""Cookies of the pages."""

from __future__ import annotations

from starlette.responses import Response

#: Cookies of a session and of a log-in form. Browsers take this prefix with `Secure` alone, for
#: the whole host and no other one; they count addresses of this machine as secure.
SESSION_COOKIE, LOGIN_COOKIE = "__Host-review", "__Host-login"


def set_cookie(response: Response, name: str, value: str) -> None:
    """Set a cookie for this host, for as long as the browser runs; scripts do not see it.

    Links from elsewhere, as in an alert, find the person logged in; forms from elsewhere do not.
    """
    response.set_cookie(name, value, path="/", secure=True, httponly=True, samesite="lax")


def drop_cookie(response: Response, name: str) -> None:
    """Remove a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
