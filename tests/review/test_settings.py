"""Settings of the review from a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.cli.commands.review import settings_of
from beam_fraud.cli.options.review import ReviewPageOptions
from beam_fraud.errors import Code
from beam_fraud.review.people.openid_settings import SECRET_VARIABLE
from beam_fraud.review.people.roles import Role
from beam_fraud.review.settings import DEFAULT_REASONS, ReasonCode, read_settings
from tests.failing import fails

TEXT = """
claim = "5m"
sla = "1h"
second_person = ["block"]
[[reason]]
code = "stolen"
text = "Card stolen"
verdict = "fraud"
[[reason]]
code = "other"
text = "Another reason"
[lists.account]
block = "bad_cards"
"""


OPENID = """
[openid.roles]
fraud = "analyst"
[openid]
issuer = "https://login.example"
client_id = "pages"
url = "https://review.example"
"""


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "review.toml"
    file.write_text(TEXT)
    settings = read_settings(file)
    assert settings.reasons == (
        ReasonCode("stolen", "Card stolen", "fraud"),
        ReasonCode("other", "Another reason", None),
    )
    assert settings.lists["account", "block"] == "bad_cards"
    assert settings.lists["merchant", "block"] == "blocked_merchants"
    assert settings.second_person == {"block"}
    assert (settings.claim_seconds, settings.sla_seconds) == (300.0, 3600.0)
    file.write_text("")
    assert read_settings(file).reasons == DEFAULT_REASONS


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("claims = 1", "claims"),
        ('claim = "soon"', "claim"),
        ('second_person = ["eat"]', "second_person"),
        ('[[reason]]\ntext = "x"', "code is missing"),
        ('[[reason]]\ncode = "a b"\ntext = "x"', "code must be"),
        ('[[reason]]\ncode = "a"\ntext = "x"\nverdict = "maybe"', "verdict"),
        (2 * '[[reason]]\ncode = "a"\ntext = "x"\n', "twice"),
        ('[lists.card]\nblock = "x"', "lists"),
        ("capacity = 0", "capacity"),
        ('pseudonymise = ["lead"]', "pseudonymise"),
        ("passwords = false", "passwords"),
        ("openid = 1", "openid"),
        (f'{OPENID}client_secret = "in the file"', "client_secret"),
        (OPENID.replace("https://login", "http://login"), "issuer"),
        (OPENID.replace("https://login", "ftp://login"), "issuer"),
        (OPENID.replace("review.example", "review.example/pages"), "url"),
        (OPENID.replace("review.example", "review.example/?a=b"), "url"),
        (OPENID.replace('fraud = "analyst"', ""), "roles"),
        (OPENID.replace("analyst", "chief"), "roles"),
        (OPENID.replace("client_id", "client"), "client"),
        (f'{OPENID}scopes = ["profile"]', "scopes"),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "review.toml"
    file.write_text(text)
    with fails(Code.REVIEW_SETTINGS, match):
        read_settings(file)


def test_what_options_say_may_be_settings(tmp_path: Path) -> None:
    file = tmp_path / "review.toml"
    file.write_text(
        'capacity = 7\npseudonymise = ["read-only"]\nevents = ["https://hook.example"]\n'
    )
    settings = settings_of(ReviewPageOptions(settings=str(file)))
    assert (settings.capacity, settings.pseudonymised) == (7, {Role.READ_ONLY})
    assert settings.events == ("https://hook.example",)
    given = ReviewPageOptions(
        settings=str(file), capacity=9, pseudonymise=("analyst",), events=("console:",), sla="2h"
    )
    settings = settings_of(given)
    assert (settings.capacity, settings.pseudonymised) == (9, {Role.ANALYST})
    assert (settings.events, settings.sla_seconds) == (("console:",), 7200.0)


def test_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "review.toml"
    file.write_text(OPENID)
    found = read_settings(file).openid
    assert found is not None
    assert (found.secret, found.back) == (None, "https://review.example/login/openid/back")
    monkeypatch.setenv(SECRET_VARIABLE, "of the variable")
    found = read_settings(file).openid
    assert found is not None
    assert found.secret == "of the variable"
    (tmp_path / "secret").write_text("of the file\n")
    file.write_text(f'passwords = false\n{OPENID}client_secret_file = "secret"')
    settings = read_settings(file)
    assert settings.openid is not None
    assert (settings.openid.secret, settings.passwords) == ("of the file", False)
    # No secret comes into messages.
    assert "of the file" not in repr(settings)
    file.write_text(f'{OPENID}client_secret_file = "nowhere"')
    with fails(Code.SECRET_UNREADABLE, "nowhere"):
        read_settings(file)
    file.write_text(f'{OPENID}client_secret_env = "NOWHERE"')
    with fails(Code.VARIABLE_UNSET, "NOWHERE"):
        read_settings(file)


def test_a_missing_file_and_a_wrong_list(tmp_path: Path) -> None:
    with fails(Code.REVIEW_SETTINGS, "cannot be read"):
        read_settings(tmp_path / "nowhere.toml")
    file = tmp_path / "review.toml"
    file.write_text('[lists.account]\nblock = "../x"')
    with fails(Code.LIST_INVALID, r"\.\./x"):
        read_settings(file)
