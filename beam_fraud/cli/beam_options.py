"""Options of Beam and its runners on the command line."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

from beam_fraud.cli.terminal.command import EXTRA_FIELDS, StrictCommand, unknown_option
from beam_fraud.cli.terminal.worker_output import worker_output_logged
from beam_fraud.errors import Code, UsageError

if TYPE_CHECKING:
    # Typer's context has a base class that Typer does not export.
    from typer._click import Context


class BeamCommand(StrictCommand):
    """A command that passes options to Beam if one of its runners declares them.

    An option is ours if we have it, else Beam's if Beam has it under its full name (dashes may
    replace underscores), else a usage error: Beam alone would drop it with a warning and run.
    """

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Set Beam's arguments aside and parse the rest."""
        own = {
            name: not getattr(parameter, "is_flag", False)
            for parameter in self.get_params(ctx)
            if parameter.param_type_name == "option"
            for name in parameter.opts
        }
        ours, beams = split(args, own, ctx.command_path)
        ctx.meta[EXTRA_FIELDS] = {"beam_args": beams}
        return super().parse_args(ctx, ours)

    @staticmethod
    def surroundings() -> AbstractContextManager[object]:
        """Log the output of workers instead of showing it."""
        return worker_output_logged()


def split(args: list[str], own: dict[str, bool], command: str) -> tuple[list[str], tuple[str, ...]]:
    """Divide arguments into ours and Beam's; import Beam only if one is not ours.

    Args:
      args: the arguments as given.
      own: our options, with whether they take a value.
      command: the command for help, such as `beam-fraud score`.

    Returns:
      Our arguments as given, and Beam's each as one `--name` or `--name=value`.

    Raises:
      UsageError: an option is unknown, lacks its value or has an invalid one.
    """
    ours: list[str] = []
    beams: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        name, equals, value = arg.partition("=")
        if arg == "--":
            ours += [arg, *rest]
            break
        if name in own:
            ours.append(arg)
            if own[name] and not equals and rest:
                ours.append(rest.pop(0))
        elif _is_option(arg):
            beams.append(_beam_argument(name, value if equals else None, rest, own, command))
        else:
            ours.append(arg)
    if beams:
        _check(beams)
    return ours, tuple(beams)


def _is_option(arg: str) -> bool:
    """Return whether an argument is an option; `-` alone and negative numbers are values."""
    return len(arg) > 1 and arg[0] == "-" and not arg[1].isdigit()


def _beam_argument(
    name: str, value: str | None, rest: list[str], own: dict[str, bool], command: str
) -> str:
    """Return one of Beam's options as one argument; take its value from `rest` if needed."""
    declared = beam_options()
    full = _declared_name(name, declared)
    if full is not None and full.replace("_", "-") in own:
        # `--dry_run` is Beam's, for its own tests; the user means ours, with a dash.
        raise UsageError(unknown_option(name, own, command), Code.CALL_INVALID)
    if full is None:
        raise UsageError(unknown_option(name, [*own, *declared], command), Code.CALL_INVALID)
    if not declared[full]:
        if value is not None:
            raise UsageError(f"option {name} takes no value (given: {value!r})", Code.OPTION_VALUE)
        return full
    if value is None:
        if not rest or _is_option(rest[0]):
            raise UsageError(f"option {name} needs a value, as in {name}=VALUE", Code.OPTION_VALUE)
        value = rest.pop(0)
    return f"{full}={value}"


def _declared_name(name: str, declared: dict[str, bool]) -> str | None:
    if name in declared or not name.startswith("--"):
        return name if name in declared else None
    underscored = f"--{name[2:].replace('-', '_')}"
    return underscored if underscored in declared else None


def beam_options() -> dict[str, bool]:
    """Return every option of Beam's pipeline options, with whether it takes a value."""
    return {
        name: action.nargs != 0
        for action in _parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }


@cache
def _parser() -> argparse.ArgumentParser:
    """Return Beam's parser with the options of all runners."""
    from apache_beam.options.pipeline_options import PipelineOptions

    import beam_fraud.runners.flink.options  # noqa: F401  declares more of them

    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    parsers[0].exit_on_error = False
    return parsers[0]


def _check(args: list[str]) -> None:
    """Refuse values for which Beam would exit with its usage text, or fail later."""
    from apache_beam.runners.runner import create_runner

    from beam_fraud.runners.runner import refuse_unusable

    _refuse_repeated(args)
    try:
        runner = _parser().parse_args(args).runner
        if runner is not None:
            # Some options classes cannot be created.
            refuse_unusable(runner)
            create_runner(runner)
    except (argparse.ArgumentError, ValueError, ImportError, AttributeError) as error:
        line = " ".join(str(error).split())
        raise UsageError(line.removeprefix("argument "), Code.OPTION_VALUE) from None


def _refuse_repeated(args: list[str]) -> None:
    """Refuse a repeated option of Beam, unless Beam collects its values."""
    actions = {name: action for action in _parser()._actions for name in action.option_strings}
    seen: set[str] = set()
    for arg in args:
        name = arg.partition("=")[0]
        action = actions[name]
        if not isinstance(action, argparse._StoreAction):
            # A flag, or an option that collects its values.
            continue
        if action.dest in seen:
            raise UsageError(f"option {name} is given twice; give it once", Code.OPTION_TWICE)
        seen.add(action.dest)
