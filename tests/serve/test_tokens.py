"""Tokens: entries, expiry, routes, exposure, and changes of their file."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import requests

from beam_fraud.errors import Code, UsageError
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.http.tokens import Tokens, TokenSource
from tests.failing import fails
from tests.serve.stand_in import GOOD, served

ONE, TWO = "one-token-of-many-bytes", "two-token-of-many-bytes"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def file_of(directory: Path, text: str, mode: int = 0o600) -> TokenSource:
    file = directory / "tokens.toml"
    file.write_text(text)
    file.chmod(mode)
    return TokenSource(file)


def accepted(tokens: Tokens, token: str) -> str | None:
    found = tokens.of(token.encode())
    return found and found.name


def test_several_tokens_have_names(tmp_path: Path) -> None:
    source = file_of(
        tmp_path,
        f'[[token]]\nname = "gateway"\ntoken = "{ONE}"\n'
        f'[[token]]\nname = "batch"\nsha256 = "{digest(TWO)}"\nexpires = 2030-01-01T00:00:00Z\n',
    )
    tokens = Tokens(TokenSource(source.file, f"extra=sha256:{digest('three')} cli={ONE[::-1]}"))
    assert accepted(tokens, ONE) == "gateway"
    assert accepted(tokens, TWO) == "batch"
    assert accepted(tokens, "three") == "extra"
    assert accepted(tokens, ONE[::-1]) == "cli"
    assert accepted(tokens, digest(TWO)) is None
    assert accepted(tokens, "") is None


def test_the_environment_names_the_tokens() -> None:
    source = TokenSource.of_environment(
        {"BEAM_FRAUD_TOKENS_FILE": "/run/t", "BEAM_FRAUD_TOKENS": "a=b"}
    )
    assert source == TokenSource(Path("/run/t"), "a=b")
    assert not TokenSource.of_environment({"BEAM_FRAUD_TOKENS": ""}).given


@pytest.mark.parametrize(
    "text",
    [
        "token = 'secret-secret-secret'",
        "[[token]]\nname = 'a'\ntoken = 'secret-secret-secret' x",
        "[[token]]\nname = 'a'\ntoken = ['secret-secret-secret']",
        "[[token]]\nname = 'a'\nsecret-secret = 'secret-secret-secret'",
        "[[token]]\nname = 'a'",
        "[[token]]\nname = 'a'\ntoken = 'secret'",
        "[[token]]\nname = 'a b'\ntoken = 'secret-secret-secret'",
        "[[token]]\nname = 'a'\ntoken = 'secret secret secret'",
        "[[token]]\nname = 'a'\nsha256 = 'secret-secret-secret'",
        "[[token]]\nname = 'a'\ntoken = 'secret-secret-secret'\nroutes = ['metrics']",
        "[[token]]\nname = 'a'\ntoken = 'secret-secret-secret'\n" * 2,
        "",
    ],
)
def test_an_invalid_file_is_refused_without_showing_a_token(tmp_path: Path, text: str) -> None:
    with fails(Code.TOKENS_INVALID, "tokens.toml") as raised:
        Tokens(file_of(tmp_path, text))
    assert "secret-secret-secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["alone-without-a-name", "a=short", "a=sha256:12", " "])
def test_an_invalid_variable_is_refused(text: str) -> None:
    with fails(Code.TOKENS_INVALID, "BEAM_FRAUD_TOKENS"):
        Tokens(TokenSource(text=text))


def test_plain_tokens_that_other_users_can_read_are_refused(tmp_path: Path) -> None:
    plain = f'[[token]]\nname = "a"\ntoken = "{ONE}"\n'
    for mode in (0o644, 0o640, 0o604):
        with fails(Code.SECRET_EXPOSED, "tokens.toml"):
            Tokens(file_of(tmp_path, plain, mode))
    Tokens(file_of(tmp_path, f'[[token]]\nname = "a"\nsha256 = "{digest(ONE)}"\n', 0o644))
    with fails(Code.SECRET_UNREADABLE, "absent"):
        Tokens(TokenSource(tmp_path / "absent"))


def test_a_changed_file_is_read_again_and_an_invalid_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = file_of(tmp_path, f'[[token]]\nname = "a"\ntoken = "{ONE}"\n')
    tokens = Tokens(source)
    file_of(tmp_path, f'[[token]]\nname = "b"\ntoken = "{TWO}!"\n')
    for _ in range(3):
        tokens.reload()
    assert accepted(tokens, ONE) == "a"
    assert caplog.text.count("BF114") == 1
    file_of(tmp_path, f'[[token]]\nname = "b"\ntoken = "{TWO}"\n')
    tokens.reload()
    assert (accepted(tokens, ONE), accepted(tokens, TWO)) == (None, "b")
    assert TWO not in caplog.text
    (tmp_path / "tokens.toml").unlink()
    tokens.reload()
    assert accepted(tokens, TWO) == "b"


def test_a_server_follows_the_file_and_ends_expired_and_limited_tokens(tmp_path: Path) -> None:
    source = file_of(
        tmp_path,
        f'[[token]]\nname = "old"\ntoken = "{ONE}"\nexpires = 2020-01-01T00:00:00Z\n'
        f'[[token]]\nname = "prometheus"\ntoken = "{TWO}"\nroutes = ["/metrics"]\n',
    )
    with served(tokens=source) as api:

        def status(token: str, route: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            url = api.url + route
            if route == "/predict":
                return requests.post(url, headers=headers, json=GOOD, timeout=10).status_code
            return requests.get(url, headers=headers, timeout=10).status_code

        assert status(ONE, "/metrics") == 401
        assert status(TWO, "/metrics") == 200
        assert status(TWO, "/predict") == 403
        file_of(tmp_path, f'[[token]]\nname = "new"\nsha256 = "{digest(ONE)}"\n')
        end = time.monotonic() + 10
        while status(ONE, "/predict") != 200:
            assert time.monotonic() < end
        assert status(TWO, "/metrics") == 401


def test_beyond_loopback_tokens_are_needed() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        listen = Listen(host, 0)
        with (
            fails(Code.TOKENS_MISSING, host, UsageError),
            served(tokens=TokenSource(), listen=listen),
        ):
            pass
    assert Listen("127.0.0.9").on_loopback
    assert Listen("::1").on_loopback
    assert os.environ.get("BEAM_FRAUD_TOKENS") is None
