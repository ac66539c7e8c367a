"""Format errors of a call as one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from beam_fraud.platform.wording import did_you_mean, own_call

#: Descriptions of valid values by kind of error.
_WORDS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def unknown_option(option: str, known: Iterable[str], command: str) -> str:
    """Return the line that refuses an option and names the nearest known one, if any is near.

    >>> unknown_option("--treshold", ["--threshold", "--out"], "beam-fraud train")
    'unknown option --treshold; did you mean --threshold?'
    """
    # --threshold and --reasons are less alike than that.
    hint = did_you_mean(option, known, f"see {command} --help", form=str, likeness=0.7)
    return f"unknown option {option}; {hint}"


def line_of(error: typer.TyperException) -> str:
    """Return Typer's error of a call as one line that names the help."""
    # Typer does not export the classes of its errors, so they are recognised by attributes.
    details: Any = error
    context = getattr(details, "ctx", None)
    command = context.command_path if context else own_call()
    if hasattr(details, "possibilities"):
        return unknown_option(details.option_name, details.possibilities or (), command)
    wrong: Any = getattr(error.__cause__, "errors", list)()
    name = getattr(getattr(details, "param", None), "opts", [None])[-1]
    if name and wrong and wrong[0]["type"] in _WORDS:
        value, limits = wrong[0]["input"], wrong[0].get("ctx", {})
        must = _WORDS[wrong[0]["type"]].format(**limits)
        return f"{name} {value}: must be {must}; see {command} --help"
    message = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    hint = "" if message.endswith("?") else f"; see {command} --help"
    return f"{message[:1].lower()}{message[1:]}{hint}"
