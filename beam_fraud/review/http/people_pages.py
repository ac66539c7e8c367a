"""Pages of log-in and of people."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from beam_fraud.errors import Code, FraudError
from beam_fraud.review import audit_log
from beam_fraud.review.http.cookies import SESSION_COOKIE, drop_cookie, set_cookie
from beam_fraud.review.http.templating import span
from beam_fraud.review.http.visit import RefusedError, Visit
from beam_fraud.review.people.attempts import begin_attempt, forgive, refused_for
from beam_fraud.review.people.roles import WORDS, Role
from beam_fraud.review.people.sessions import begin_session, end_session
from beam_fraud.review.people.users import (
    User,
    add_user,
    disable_user,
    list_users,
    note_login,
    reset_user,
    user_by_password,
)


def login(visit: Visit) -> Response:
    """Show the log-in form."""
    if visit.session is not None and visit.problem is None:
        return visit.see("/")
    following = visit.form.get("next") or visit.query.get("next")
    provider = visit.site.provider
    ended = provider is not None and visit.query.get("done") == "out"
    return visit.page(
        "login",
        following=inner(following),
        name=visit.form.get("name") or "",
        passwords=visit.site.settings.passwords,
        provider=provider,
        end_address=provider.end_address() if provider is not None and ended else None,
    )


def log_in(visit: Visit) -> Response:
    """Begin a session for the right password."""
    _check_passwords(visit)
    name = visit.form.need("name", "the name")
    # Never stripped: a password may begin with a blank.
    password = (visit.form.all("password") or [""])[-1]
    attempt = _attempt(visit, name)
    user = visit.site.read(lambda connection: user_by_password(connection, name, password))
    if user is None:
        record_failure(visit)
        raise FraudError("The name or the password is wrong.", Code.LOGIN_REFUSED)
    token = visit.site.write(lambda connection: _begin(visit, connection, user, password, attempt))
    response = visit.see(inner(visit.form.get("next")))
    set_cookie(response, SESSION_COOKIE, token)
    return response


def log_out(visit: Visit) -> Response:
    """End the session."""
    session = visit.session
    assert session is not None

    def work(connection: Connection) -> None:
        end_session(connection, session)
        audit_log.append(connection, visit.who, "logged_out", visit.now)

    visit.site.write(work)
    response = visit.see("/login", "out")
    drop_cookie(response, SESSION_COOKIE)
    response.headers["clear-site-data"] = '"cache"'
    return response


def account(visit: Visit) -> Response:
    """Show the form of the own password."""
    return visit.page("account", passwords=visit.site.settings.passwords and visit.user.by_password)


def change_password(visit: Visit) -> Response:
    """Change the own password, and begin a new session."""
    _check_passwords(visit)
    old, new, again = ((visit.form.all(name) or [""])[-1] for name in ("password", "new", "again"))
    user, attempt = visit.user, _attempt(visit, visit.who)
    if visit.site.read(lambda connection: user_by_password(connection, user.name, old)) is None:
        raise FraudError("The present password is wrong.", Code.LOGIN_REFUSED)
    if new != again:
        raise FraudError("The new passwords differ.", Code.PASSWORD_UNSUITED)

    def work(connection: Connection) -> str:
        reset_user(connection, user.name, password=new)
        forgive(connection, user.name, attempt)
        audit_log.append(connection, user.name, "password_changed", visit.now)
        return begin_session(connection, user)

    token = visit.site.write(work)
    response = visit.see("/account", "password")
    set_cookie(response, SESSION_COOKIE, token)
    return response


def users(visit: Visit) -> Response:
    """Show all users, with forms to change them."""
    return visit.page(
        "users",
        users=visit.site.read(list_users),
        roles=WORDS,
        passwords=visit.site.settings.passwords,
    )


def add(visit: Visit) -> Response:
    """Add a user."""
    _check_passwords(visit)
    name = visit.form.need("name", "the name")
    role = Role.parse(visit.form.choice("role", WORDS), "role")
    password = (visit.form.all("password") or [""])[-1]

    def work(connection: Connection) -> None:
        add_user(connection, name, role, password)
        _record(visit, connection, "user_added", name, role=role.word)

    visit.site.write(work)
    return visit.see("/users", "user")


def disable(visit: Visit) -> Response:
    """Disable a user."""
    name = visit.form.need("name", "the name")

    def work(connection: Connection) -> None:
        disable_user(connection, name)
        _record(visit, connection, "user_disabled", name)

    visit.site.write(work)
    return visit.see("/users", "user")


def reset(visit: Visit) -> Response:
    """Give a user another role, another password, or both."""
    name = visit.form.need("name", "the name")
    role = Role.parse(visit.form.choice("role", WORDS), "role")
    password = (visit.form.all("password") or [""])[-1] or None
    if password is not None:
        _check_passwords(visit)

    def work(connection: Connection) -> None:
        reset_user(connection, name, role=role, password=password)
        forgive(connection, name)
        _record(
            visit, connection, "user_reset", name, role=role.word, password=password is not None
        )

    visit.site.write(work)
    return visit.see("/users", "user")


def _attempt(visit: Visit, name: str) -> str:
    """Count an attempt before its password is looked at.

    Raises:
      FraudError: there were too many.
    """

    def work(connection: Connection) -> str | None:
        wait = refused_for(connection, name, visit.client)
        if wait is None:
            return begin_attempt(connection, name, visit.client)
        raise FraudError(
            f"There were too many wrong log-ins; try again in {span(wait)}.", Code.LOGIN_LIMITED
        )

    return str(visit.site.write(work))


def _begin(visit: Visit, connection: Connection, user: User, password: str, attempt: str) -> str:
    forgive(connection, user.name, attempt)
    note_login(connection, user, password)
    token = begin_session(connection, user)
    audit_log.append(connection, user.name, "logged_in", visit.now)
    return token


def _check_passwords(visit: Visit) -> None:
    """Refuse passwords where people log in with the provider alone.

    Raises:
      RefusedError: they do.
    """
    if not visit.site.settings.passwords:
        raise RefusedError("There are no passwords here; people log in with the provider.")


def record_failure(visit: Visit) -> None:
    """Record a wrong log-in; the name is of anybody, and may be a password."""

    def work(connection: Connection) -> None:
        audit_log.append(
            connection, "-", "login_refused", visit.now, detail={"address": visit.client}
        )

    visit.site.write(work)


def _record(visit: Visit, connection: Connection, action: str, name: str, **detail: object) -> None:
    audit_log.append(connection, visit.who, action, visit.now, detail={"user": name, **detail})


def inner(address: str | None) -> str:
    """Return an address of this site; of another one, that of the queue.

    Example:
      >>> inner("/case/abc"), inner("//elsewhere.example"), inner("https://elsewhere.example")
      ('/case/abc', '/', '/')
    """
    text = address or "/"
    good = text.startswith("/") and not text.startswith("//") and text.isprintable()
    return text if good and "\\" not in text else "/"
