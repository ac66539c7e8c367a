"""The one line that says what is wrong with a call."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import typer


def unknown_option(option: str, known: Iterable[str], command: str) -> str:
    """The line that refuses an option and names the nearest known one, if any is near.

    >>> unknown_option("--treshold", ["--threshold", "--out"], "beam-fraud train")
    'unknown option --treshold; did you mean --threshold?'
    """
    near = get_close_matches(option, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else f"see {command} --help"
    return f"unknown option {option}; {hint}"


def line_of(error: typer.TyperException) -> str:
    """Typer's complaint about a call as one line that ends in where to look."""
    # Typer does not export the classes of its complaints, so they are told by what they carry.
    details: Any = error
    context = getattr(details, "ctx", None)
    command = context.command_path if context else "beam-fraud"
    if hasattr(details, "possibilities"):
        return unknown_option(details.option_name, details.possibilities or (), command)
    message = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    # Where a bound is broken, the message says the bound alone.
    bounds: Any = getattr(error.__cause__, "errors", list)()
    if bounds and repr(bounds[0]["input"]) not in message:
        message = f"{message}, not {bounds[0]['input']}"
    hint = "" if message.endswith("?") else f"; see {command} --help"
    return f"{message[:1].lower()}{message[1:]}{hint}"
