"""`beam-fraud`: run one command and report its outcome."""

from __future__ import annotations

import sys

import typer
from typer.main import get_command

from beam_fraud.cli.app import app
from beam_fraud.cli.terminal import interruption, log, outcome
from beam_fraud.cli.terminal.command import line_of
from beam_fraud.errors import Code, UsageError
from beam_fraud.wording import own_call


def main(args: list[str] | None = None) -> int:
    """Run one command, print its result and return the exit code.

    Args:
      args: arguments after the program's name; None for those of the process.

    Returns:
      0 success, 1 failure or a failed check, 2 a usage error, 130 interrupted, 143 terminated.
    """
    outcome.prepare()
    log.configure()
    argv = sys.argv[1:] if args is None else args
    with interruption.stopped_by_signals():
        return _run(argv or ["--help"])


def _run(args: list[str]) -> int:
    try:
        run = get_command(app)(args, prog_name=own_call(), standalone_mode=False)
    except typer.TyperException as error:
        return outcome.report(UsageError(line_of(error), Code.CALL_INVALID))
    except OSError as error:
        # Parsing opens no file, so the output of help or the version failed.
        return outcome.output_failed(error)
    except (Exception, KeyboardInterrupt) as error:
        return outcome.report(error)
    if not callable(run):
        # An exit code: help or the version has been printed.
        return int(run or 0)
    try:
        text, exit_code = run()
    except (Exception, KeyboardInterrupt) as error:
        return outcome.report(error)
    return outcome.print_result(text) or exit_code
