"""Run a call: parse its options, run its module, print its result; or say what is wrong."""

from __future__ import annotations

import gc
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from beam_fraud.cli.options.declaration import collected, declared
from beam_fraud.cli.options.groups import LoggingOptions
from beam_fraud.cli.terminal import log
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.errors import Code, UsageError
from beam_fraud.wording import did_you_mean, own_call

if TYPE_CHECKING:
    # Typer's context has a base class that Typer does not export.
    from typer._click import Context


#: Key of a context's `meta`: fields of options that the command line does not declare.
EXTRA_FIELDS = "beam_fraud.extra_fields"
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


@dataclass(frozen=True)
class Outcome:
    """The result of a command and its text."""

    #: JSON-compatible values, printed with `--json`.
    result: dict[str, object]
    #: Function that returns the text for a terminal.
    render: Callable[[dict[str, object]], str]
    #: Exit code after printing.
    exit_code: int = 0


class StrictCommand(TyperCommand):
    """A command that refuses a repeated option of one value; Typer takes the last."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Refuse repeated options, then parse as Typer does."""
        _, _, parameters = self.make_parser(ctx).parse_args(list(args))
        seen: set[str] = set()
        for parameter in parameters:
            if parameter.param_type_name != "option" or getattr(parameter, "is_flag", False):
                continue
            name = str(parameter.opts[-1])
            if name in seen and not getattr(parameter, "multiple", False):
                raise UsageError(f"option {name} is given twice; give it once", Code.OPTION_TWICE)
            seen.add(name)
        return super().parse_args(ctx, args)

    @staticmethod
    def surroundings() -> AbstractContextManager[object]:
        """Return the context of a run."""
        return nullcontext()


def command(
    app: typer.Typer,
    name: str,
    options: type,
    target: str,
    *,
    cls: type[StrictCommand] = StrictCommand,
    shows_activities: bool = True,
) -> None:
    """Register the command `name` of `app`; its help is the docstring of its options.

    The registered function parses the call and returns a function without arguments that runs the
    command and returns the text to print and the exit code. Typer must not run it itself: it exits
    silently if a connection of the command breaks.

    Args:
      app: the program, or one of its groups.
      name: name of the command.
      options: the dataclass that declares its options.
      target: the module that runs it, imported by the call, so that help need not wait for Beam. It
        has `run(options)` and `render(result)`, or `call(options, as_json=...)`, which returns an
        `Outcome`; for a suffix `:x`, `run_x` and `render_x`, or `call_x`.
      cls: class that parses the arguments.
      shows_activities: whether the terminal shows its activities; it may do so itself.
    """

    def prepare(context: typer.Context, **values: Any) -> Callable[[], tuple[str, int]]:
        _refuse_empty(options, values)
        shown = LoggingOptions(**collected(LoggingOptions, values))
        log.configure(shown.log_level, shown.log_format, shown.log_file)
        filled = options(**collected(options, values), **context.meta.get(EXTRA_FIELDS, {}))

        def run() -> tuple[str, int]:
            module, _, which = target.partition(":")
            loaded = _imported(module)
            activities = activities_shown() if shows_activities else nullcontext()
            with cls.surroundings(), activities:
                outcome = _outcome(loaded, which, filled, as_json=shown.json)
            text = json.dumps(outcome.result) if shown.json else outcome.render(outcome.result)
            return text, outcome.exit_code

        return run

    own = [one.parameter() for one in (*declared(options), *declared(LoggingOptions))]
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    # Typer reads the options from the signature and its annotations.
    prepare.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]
    prepare.__annotations__ = {p.name: p.annotation for p in (context, *own)}
    app.command(name, cls=cls, help=inspect.getdoc(options))(prepare)


def _imported(module: str) -> ModuleType:
    """Import a command's module, and keep what it imports from the garbage collector.

    The collector would look through hundreds of thousands of objects again and again, during the
    imports, at each of its full collections and at the end of the process, and find them in use.
    """
    if module in sys.modules or not gc.isenabled():
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def _outcome(module: ModuleType, which: str, options: object, *, as_json: bool) -> Outcome:
    ending = f"_{which}" if which else ""
    if (call := getattr(module, f"call{ending}", None)) is not None:
        outcome: Outcome = call(options, as_json=as_json)
        return outcome
    run, render = getattr(module, f"run{ending}"), getattr(module, f"render{ending}")
    return Outcome(run(options), render)


def _refuse_empty(options: type, values: Mapping[str, Any]) -> None:
    """Refuse an empty text, as from an unset shell variable."""
    for one in (*declared(options), *declared(LoggingOptions)):
        value = values[one.field]
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{one.option.name}: the value is empty", Code.OPTION_VALUE)


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
