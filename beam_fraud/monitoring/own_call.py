"""What starts this program again, for the commands that hints name."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from beam_fraud.storage.urls import absolute


def own_call() -> str:
    """Return what starts this program again in the same shell.

    `beam-fraud` where the shell finds the one that runs, else its path; `PYTHON -m beam_fraud`
    where Python was given the module.
    """
    given = Path(sys.argv[0])
    try:
        if given.name == "__main__.py":
            return f"{_typed('python', Path(sys.executable))} -m beam_fraud"
        if given.name == "beam-fraud":
            return _typed("beam-fraud", given)
    except OSError:
        # The working directory is gone: no relative path leads anywhere.
        pass
    # Another name is that of a program that calls `main`: nobody typed ours.
    return "beam-fraud"


def _typed(name: str, program: Path) -> str:
    """`name` if that starts `program`, else its path, quoted; relative if it is below here."""
    found, program = shutil.which(name), absolute(program)
    # Links are not followed: a virtual environment's Python is one.
    if found is not None and absolute(Path(found)) == program:
        return name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
