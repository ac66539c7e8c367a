"""People of the pages: their passwords, roles, sessions and wrong log-ins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, insert, select, update

from beam_fraud.errors import Code
from beam_fraud.review.people import attempts, sessions, users
from beam_fraud.review.people.passwords import check_password, hashed, matches, outdated
from beam_fraud.review.people.roles import Role
from beam_fraud.storage.database.connection import prepare_database, writing
from beam_fraud.storage.database.people_tables import LOGIN_ATTEMPTS, SESSIONS, USERS
from tests.failing import fails

PASSWORD = "quiet river seven"


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    prepare_database(database)
    with writing(database) as connection:
        yield connection


def test_a_password_is_stored_as_a_salted_hash_of_argon2id() -> None:
    first, second = hashed(PASSWORD), hashed(PASSWORD)
    assert first != second
    assert first.startswith("$argon2id$")
    assert PASSWORD not in first
    assert matches(PASSWORD, first)
    assert not matches(PASSWORD + " ", first)
    assert not matches(PASSWORD, None)
    assert not matches(PASSWORD, "no hash")
    assert not matches("x" * 1_000_000, first)
    assert not outdated(first)
    assert outdated(first.replace("t=3", "t=1"))


@pytest.mark.parametrize(
    "password", ["short", "x" * 257, "aaaaaaaaaaaaaa", "my name is Anna", "administrator"]
)
def test_a_password_that_is_easily_guessed_is_refused(password: str) -> None:
    with fails(Code.PASSWORD_UNSUITED, "anna"):
        check_password(password, "anna")


def test_a_user_logs_in_with_the_right_password_alone(connection: Connection) -> None:
    users.add_user(connection, "Anna", Role.ANALYST, PASSWORD)
    found = users.user_by_password(connection, "anna", PASSWORD)
    assert found is not None
    assert (found.name, found.role) == ("Anna", Role.ANALYST)
    assert users.user_by_password(connection, "Anna", PASSWORD.upper()) is None
    assert users.user_by_password(connection, "Bert", PASSWORD) is None
    users.disable_user(connection, "Anna")
    assert users.user_by_password(connection, "Anna", PASSWORD) is None
    users.reset_user(connection, "Anna", password="another river 8")
    assert users.user_by_password(connection, "Anna", PASSWORD) is None
    assert users.user_by_password(connection, "Anna", "another river 8") is not None


def test_a_weaker_hash_is_renewed_at_the_log_in(connection: Connection) -> None:
    users.add_user(connection, "Anna", Role.ANALYST, PASSWORD)
    # Of PasswordHasher(time_cost=1, memory_cost=1024).
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    connection.execute(update(USERS).values(password_hash=weak))
    user = users.user_by_password(connection, "Anna", PASSWORD)
    assert user is not None
    users.note_login(connection, user, PASSWORD)
    renewed = connection.scalar(select(USERS.c.password_hash))
    assert renewed != weak
    assert matches(PASSWORD, renewed)


@pytest.mark.parametrize("name", ["", "a b", "=1+1", "<b>", "a\nb", "x" * 65, "\u202ea", "Ännchen"])
def test_a_name_that_others_could_misread_is_refused(connection: Connection, name: str) -> None:
    with fails(Code.USER_INVALID):
        users.add_user(connection, name, Role.ADMIN, None)


def test_two_names_differ_by_more_than_case(connection: Connection) -> None:
    users.add_user(connection, "Anna", Role.ANALYST, None)
    with fails(Code.USER_EXISTS, "anna"):
        users.add_user(connection, "anna", Role.ADMIN, None)
    with fails(Code.USER_UNKNOWN, "did you mean 'Anna'"):
        users.disable_user(connection, "Anne")


def test_the_last_administrator_stays(connection: Connection) -> None:
    users.add_user(connection, "anna", Role.ADMIN, None)
    for change in (
        lambda: users.disable_user(connection, "anna"),
        lambda: users.reset_user(connection, "anna", role=Role.LEAD),
    ):
        with fails(Code.USER_INVALID, "last administrator"):
            change()
    users.add_user(connection, "bert", Role.ADMIN, None)
    users.disable_user(connection, "anna")
    with fails(Code.USER_INVALID, "last administrator"):
        users.disable_user(connection, "bert")


def test_a_session_is_found_by_its_token_until_it_ends(connection: Connection) -> None:
    users.add_user(connection, "anna", Role.ANALYST, None)
    user = users.known_user(connection, "anna")
    token = sessions.begin_session(connection, user)
    session = sessions.find_session(connection, token)
    assert session is not None
    assert session.user.name == "anna"
    # Who reads the database has no token.
    stored = connection.scalars(select(SESSIONS.c.token_hash)).all()
    assert token not in stored
    assert sessions.find_session(connection, stored[0]) is None
    sessions.end_session(connection, session)
    assert sessions.find_session(connection, token) is None


@pytest.mark.parametrize(
    "age", [{"seen_at": sessions.IDLE}, {"seen_at": sessions.LONGEST, "begun_at": sessions.LONGEST}]
)
def test_a_session_ends_by_itself(connection: Connection, age: dict[str, timedelta]) -> None:
    users.add_user(connection, "anna", Role.ANALYST, None)
    token = sessions.begin_session(connection, users.known_user(connection, "anna"))
    before = {name: datetime.now(UTC) - span for name, span in age.items()}
    connection.execute(update(SESSIONS).values(before))
    assert sessions.find_session(connection, token) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda c: users.disable_user(c, "anna"),
        lambda c: users.reset_user(c, "anna", role=Role.LEAD),
        lambda c: users.reset_user(c, "anna", password="another river 8"),
    ],
)
def test_a_changed_user_has_no_sessions_any_more(connection: Connection, change) -> None:
    users.add_user(connection, "anna", Role.ANALYST, None)
    token = sessions.begin_session(connection, users.known_user(connection, "anna"))
    change(connection)
    assert sessions.find_session(connection, token) is None


def test_a_form_is_bound_to_its_session() -> None:
    assert sessions.is_form_token(sessions.form_token("one"), "one")
    assert not sessions.is_form_token(sessions.form_token("one"), "two")
    assert not sessions.is_form_token("\ud800", "two")


def test_wrong_log_ins_are_limited_by_name_and_by_address(connection: Connection) -> None:
    for number in range(attempts.OF_NAME):
        assert attempts.refused_for(connection, "anna", f"10.0.0.{number}") is None
        attempts.begin_attempt(connection, "Anna", f"10.0.0.{number}")
    wait = attempts.refused_for(connection, "ANNA", "10.9.9.9")
    assert wait is not None
    assert timedelta(0) < wait <= attempts.WINDOW
    assert attempts.refused_for(connection, "bert", "10.9.9.9") is None
    attempts.forgive(connection, "anna")
    assert attempts.refused_for(connection, "anna", "10.9.9.9") is None
    for number in range(attempts.OF_ADDRESS):
        attempts.begin_attempt(connection, f"guess{number}", "10.1.1.1")
    assert attempts.refused_for(connection, "bert", "10.1.1.1") is not None
    assert attempts.refused_for(connection, "bert", "10.1.1.2") is None


def test_old_wrong_log_ins_count_no_more(connection: Connection) -> None:
    old = datetime.now(UTC) - attempts.WINDOW
    rows = [
        {"attempt_id": str(one), "name_key": "anna", "address": "a", "tried_at": old}
        for one in range(100)
    ]
    connection.execute(insert(LOGIN_ATTEMPTS), rows)
    assert attempts.refused_for(connection, "anna", "a") is None
    attempts.begin_attempt(connection, "bert", "b")
    assert len(connection.execute(select(LOGIN_ATTEMPTS)).all()) == 1
