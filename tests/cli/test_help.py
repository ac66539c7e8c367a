"""The help of every command and option has whole sentences within the width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from beam_fraud.cli import main
from beam_fraud.cli.app import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the group and all commands below it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands(get_command(app)))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 25
    assert ("alerts", "list") in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help_that_ends_in_a_period(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert (command.help or "").strip().endswith("."), command.help
    for parameter in command.params:
        message = getattr(parameter, "help", None)
        assert message, f"{parameter.name} has no help"
        assert message.rstrip().endswith("."), f"{parameter.name}: {message}"


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_and_nothing_of_it_is_cut(
    path: tuple[str, ...],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    _, _, listed = text.partition("\nCommands:\n")
    # A line that was too long ends so.
    assert "..." not in listed
    for line in re.split(r"\n(?=  \S)", listed.rstrip()):
        assert not line or line.endswith("."), line
