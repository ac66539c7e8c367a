"""What a test does without a program that it needs."""

import sys
from pathlib import Path

import pytest

from tests.requirements import need


def test_a_program_is_found_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    assert need(python.name) == python


@pytest.mark.parametrize(
    ("ci", "raised"), [(None, pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_a_missing_one_skips_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, raised: type[BaseException]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(raised, match="no-such-program is not on PATH"):
        need("no-such-program")
