"""Run commands under refusals of the operating system: `python -m tests.refused_calls`.

Reads JSON lists of calls from standard input, one a line, and prints for each a line, the JSON list
of what came of them. Each call runs in a fork of this process, which has imported everything, with
the limits that it names.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from typing import TypedDict

#: How long a call may take.
SECONDS = 600


class Call(TypedDict):
    """A call of `beam-fraud`, and the limits it runs under."""

    args: list[str]
    #: Of the process, as `resource` names them, such as RLIMIT_NOFILE; from when the call begins.
    limits: dict[str, int]


class Ended(TypedDict):
    """The end of a call."""

    exit_code: int
    said: str


def run(call: Call) -> Ended:
    """Run a call in a child."""
    # No file: a bound on the size of files would be one on what is said.
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.close(read_end)
            # The calls of the next line are not its input.
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)
            os.dup2(write_end, 1)
            os.dup2(write_end, 2)
            os.close(write_end)
            # Those of before think of files, in which one can seek.
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            # Python keeps what a bound on the size of files leaves of a compiled module.
            sys.dont_write_bytecode = True
            signal.alarm(SECONDS)
            for name, limit in call["limits"].items():
                number = getattr(resource, name)
                resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))
            from beam_fraud.cli import main

            code = main(call["args"])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(code)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        message = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(exit_code=status, said=message.decode(errors="replace"))


def main() -> None:
    """Import all modules of the commands, then run the calls of each line."""
    import beam_fraud.cli.commands.demo
    import beam_fraud.cli.commands.doctor
    import beam_fraud.cli.commands.erase
    import beam_fraud.cli.commands.evaluate
    import beam_fraud.cli.commands.explore
    import beam_fraud.cli.commands.features
    import beam_fraud.cli.commands.replay
    import beam_fraud.cli.commands.score
    import beam_fraud.cli.commands.stream
    import beam_fraud.cli.commands.train  # noqa: F401

    for line in sys.stdin:
        print(json.dumps([run(call) for call in json.loads(line)]), flush=True)


if __name__ == "__main__":
    main()
