"""What makes a function a command: the options that all share, and how its result is printed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperCommand

from beam_fraud.commandline import log
from beam_fraud.errors import UsageError

P = ParamSpec("P")


@dataclass(frozen=True)
class Outcome:
    """What a command found, and how to say it to people."""

    #: JSON-able values, printed as they are with `--json`.
    result: dict[str, object]
    #: Makes the plain text for a terminal of it.
    render: Callable[[dict[str, object]], str]
    #: What the program ends with once it is printed.
    exit_code: int = 0


def _shared(
    *,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    log_level: Annotated[
        log.Level, typer.Option("--log-level", help="The least severe messages to show.")
    ] = "info",
    log_format: Annotated[
        log.Format, typer.Option("--log-format", help="How messages are written.")
    ] = "text",
    log_file: Annotated[
        str | None, typer.Option("--log-file", metavar="FILE", help="Also write messages to FILE.")
    ] = None,
) -> bool:
    """Act on the options that every command has; returns whether the result is to be JSON."""
    log.configure(log_level, log_format, log_file)
    return json_


def _refuse_empty(values: dict[str, Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Refuse an empty text, which a shell makes of a variable that is not set."""
    for parameter in parameters:
        given = values.get(parameter.name)
        if given == "" or (isinstance(given, list) and "" in given):
            (info,) = parameter.annotation.__metadata__
            # What stands first in `typer.Option` is its name here, whatever Typer calls it.
            name = info.default if isinstance(info.default, str) else info.metavar
            raise UsageError(f"{name}: nothing was given, the value is empty")


def command(
    app: typer.Typer, name: str, cls: type[TyperCommand] = TyperCommand
) -> Callable[[Callable[P, Outcome]], Callable[..., Callable[[], tuple[str, int]]]]:
    """Register a function as the command `name` of `app`.

    What is registered parses the call and returns what is left to do: a function without arguments
    that runs the command and returns the text to print and the exit code. Typer shall not run it
    itself: it ends the program without a word where a connection of the command's breaks.
    """
    shared = inspect.signature(_shared, eval_str=True).parameters

    def register(function: Callable[P, Outcome]) -> Callable[..., Callable[[], tuple[str, int]]]:
        own = inspect.signature(function, eval_str=True).parameters

        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own.values(), *shared.values())
        ]

        @wraps(function)
        def prepare(**values: Any) -> Callable[[], tuple[str, int]]:
            _refuse_empty(values, parameters)
            as_json = _shared(**{key: values.pop(key) for key in shared})

            def run() -> tuple[str, int]:
                outcome = function(**values)  # type: ignore[call-arg]  # Typer has checked them
                result = outcome.result
                text = json.dumps(result) if as_json else outcome.render(result)
                return text, outcome.exit_code

            return run

        # Typer reads the options off the signature and its annotations.
        prepare.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        prepare.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, cls=cls)(prepare)
        return prepare

    return register
