"""The launcher of the flex template: turns parameters into a call of `beam-fraud`.

A parameter is an option with underscores for dashes; `command` is the command, `files` and other
options that may be repeated take several values with `;` between, a switch takes true or false.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

from beam_fraud.cli import main
from beam_fraud.cli.app import COMMANDS as OPTIONS
from beam_fraud.cli.beam_options import beam_options
from beam_fraud.cli.options import LoggingOptions
from beam_fraud.cli.options.declaration import declared
from beam_fraud.errors import Code, UsageError

_LOG = logging.getLogger(__name__)
COMMANDS = ("score", "features", "stream")
_BETWEEN = ";"


def call_of(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `beam-fraud` for the launcher's parameters.

    Args:
      arguments: `--name=value` each, of the template's parameters and of the service.

    Raises:
      UsageError: no command that can run there, or a switch that is neither true nor false.
    """
    parameters = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    command = parameters.pop("command", "")
    if command not in COMMANDS:
        raise UsageError(f"command={command}: give one of {', '.join(COMMANDS)}", Code.OPTION_VALUE)
    files = [file for file in parameters.pop("files", "").split(_BETWEEN) if file]
    options = [
        argument
        for name, value in parameters.items()
        for argument in _option(name, value, own_options(command))
    ]
    return [command, *options, *files]


def own_options(command: str) -> dict[str, str]:
    """Return a command's own options with their kinds: `switch`, `value` or `values`."""
    options, _ = OPTIONS[command]
    return {
        one.option.name: "switch" if one.type is bool else "values" if one.repeatable else "value"
        for one in (*declared(options), *declared(LoggingOptions))
        if not one.option.positional
    }


def _option(name: str, value: str, own: dict[str, str]) -> Iterator[str]:
    ours = f"--{name.replace('_', '-')}"
    beams = beam_options()
    kind = own.get(ours)
    if kind in ("value", "values"):
        for each in value.split(_BETWEEN) if kind == "values" else [value]:
            if each:
                yield f"{ours}={each}"
    elif kind == "switch" or beams.get(f"--{name}") is False:
        if value.lower() not in ("", "true", "false"):
            raise UsageError(f"{name}={value}: give true or false", Code.OPTION_VALUE)
        if value.lower() != "false":
            yield ours if kind else f"--{name}"
    elif f"--{name}" in beams:
        yield f"--{name}={value}"
    else:
        # The service adds what some version of Beam knows; the template's own were checked by it.
        _LOG.warning("parameter %s is no option of this command and is left out", name)


def launch(parameters: Sequence[str]) -> int:
    """Describe the job, which the service starts; return the exit code."""
    try:
        arguments = call_of(parameters)
    except UsageError as error:
        print(f"beam-fraud: {error}", file=sys.stderr)
        return error.exit_code
    return main(arguments)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
