"""What makes a function a command: the options that all share, and how its result is printed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, get_type_hints

import typer
from typer.core import TyperCommand

from beam_fraud.cli.terminal import log
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.errors import UsageError

if TYPE_CHECKING:
    # The context that Typer gives its commands is of a base class that it does not export.
    from typer._click import Context

P = ParamSpec("P")
#: Key of the `meta` of a command's `context`: whether the result is printed as JSON, and so
#: nothing before it.
AS_JSON = "beam_fraud.as_json"


@dataclass(frozen=True)
class Outcome:
    """What a command found, and how to say it to people."""

    #: JSON-able values, printed as they are with `--json`.
    result: dict[str, object]
    #: Makes the plain text for a terminal of it.
    render: Callable[[dict[str, object]], str]
    #: What the program ends with once it is printed.
    exit_code: int = 0


class StrictCommand(TyperCommand):
    """A command that refuses an option with one value that is given twice; Typer takes the last."""

    #: Whether the command itself shows what it does (`progress.activities_shown`).
    shows_activities_itself = False

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Refuse repeated options, then parse as Typer does."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        seen: set[str] = set()
        for parameter in given:
            if parameter.param_type_name != "option" or getattr(parameter, "is_flag", False):
                continue
            name = str(parameter.opts[-1])
            if name in seen and not getattr(parameter, "multiple", False):
                raise UsageError(f"option {name} is given twice; give it once")
            seen.add(name)
        return super().parse_args(ctx, args)


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


def _spread(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The options of a parameter: itself, or a dataclass's fields, which several commands have."""
    group = parameter.annotation
    if not is_dataclass(group):
        return [parameter]
    hints = get_type_hints(group, include_extras=True)
    return [
        parameter.replace(name=field.name, default=field.default, annotation=hints[field.name])
        for field in fields(group)
    ]


def _gathered(values: dict[str, Any], parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """The values of options as arguments of the function, those of a dataclass together in one."""
    arguments = dict(values)
    for parameter in parameters:
        group = parameter.annotation
        if is_dataclass(group):
            own = {field.name: arguments.pop(field.name) for field in fields(group)}
            arguments[parameter.name] = parameter.annotation(**own)
    return arguments


def _refuse_empty(values: dict[str, Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Refuse an empty text, which a shell makes of a variable that is not set."""
    for parameter in parameters:
        given = values.get(parameter.name)
        if given == "" or (isinstance(given, list) and "" in given):
            (info,) = parameter.annotation.__metadata__
            # What stands first in `typer.Option` is its name here, whatever Typer calls it.
            name = info.default if isinstance(info.default, str) else info.metavar
            raise UsageError(f"{name}: nothing was given, the value is empty")


def _shown(cls: type[TyperCommand]) -> AbstractContextManager[None]:
    own = issubclass(cls, StrictCommand) and cls.shows_activities_itself
    return nullcontext() if own else activities_shown()


def command(
    app: typer.Typer, name: str, cls: type[TyperCommand] = StrictCommand
) -> Callable[[Callable[P, Outcome]], Callable[..., Callable[[], tuple[str, int]]]]:
    """Register a function as the command `name` of `app`.

    What is registered parses the call and returns what is left to do: a function without arguments
    that runs the command and returns the text to print and the exit code. Typer shall not run it
    itself: it ends the program without a word where a connection of the command's breaks.

    A parameter whose type is a dataclass stands for the options that its fields declare, so that
    commands share a declaration.
    """
    shared = inspect.signature(_shared, eval_str=True).parameters

    def register(function: Callable[P, Outcome]) -> Callable[..., Callable[[], tuple[str, int]]]:
        own = inspect.signature(function, eval_str=True).parameters

        parameters = [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own.values(), *shared.values())
            for option in _spread(parameter)
        ]

        @wraps(function)
        def prepare(**values: Any) -> Callable[[], tuple[str, int]]:
            _refuse_empty(values, parameters)
            as_json = _shared(**{key: values.pop(key) for key in shared})
            context = values.get("context")
            if context is not None:
                context.meta[AS_JSON] = as_json

            def run() -> tuple[str, int]:
                arguments = _gathered(values, own.values())
                with _shown(cls):
                    outcome = function(**arguments)  # type: ignore[call-arg]  # Typer checked them
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
