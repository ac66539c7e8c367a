"""What a test does without a program that it needs, and what it is fetched with."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.java import class_path
from tests import requirements
from tests.requirements import ENVIRONMENT, need, need_kafka, need_prism, started_environment


def test_a_program_is_found_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    assert need(python.name) == python


IN_CI = pytest.mark.parametrize(
    ("ci", "raised"), [(None, pytest.skip.Exception), ("true", pytest.fail.Exception)]
)


@IN_CI
def test_a_missing_one_skips_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, raised: type[BaseException]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(raised, match="no-such-program is not on PATH"):
        need("no-such-program")


def test_downloads_get_the_environment_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("HOME")
    with started_environment():
        started = dict(os.environ)
    assert {**started, "PYTEST_CURRENT_TEST": ""} == {**ENVIRONMENT, "PYTEST_CURRENT_TEST": ""}
    assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:1"
    assert "HOME" not in os.environ


@IN_CI
@pytest.mark.parametrize("needs", [need_kafka, need_prism])
def test_what_cannot_be_fetched_skips_here_with_the_reason_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ci: str | None,
    raised: type[BaseException],
    needs: Callable[[], object],
) -> None:
    for name in ("go", "mvn", "java"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho '[ERROR] no network'\necho 'no network' >&2\nexit 1\n")
        program.chmod(0o755)
    changed = {"PATH": f"{tmp_path}:/bin:/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(requirements, "ENVIRONMENT", {**ENVIRONMENT, **changed})
    monkeypatch.setenv("PATH", changed["PATH"])
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    class_path.cache_clear()
    requirements._fetch_failure.cache_clear()
    try:
        with pytest.raises(raised, match="no network"):
            needs()
    finally:
        requirements._fetch_failure.cache_clear()
