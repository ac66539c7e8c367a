"""Parts of messages to people: a near name, the first line of an error, text safe to print."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

#: Letters and marks by Unicode's tables that show nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def did_you_mean(
    name: str,
    known: Iterable[str],
    otherwise: str = "",
    *,
    form: Callable[[str], str] = repr,
    likeness: float = 0.6,
    most: int = 1,
) -> str:
    """Ask whether the nearest known name was meant.

    Args:
      name: as the user wrote it.
      known: names that exist.
      otherwise: the answer if none is near.
      form: how a name is shown.
      likeness: how near a name must be, from 0 to 1.
      most: names in the question, at most.

    Example:
      >>> did_you_mean("scor", ["score", "amount"]), did_you_mean("x", ["score"], "known: score")
      ("did you mean 'score'?", 'known: score')
    """
    named = {one.casefold(): one for one in known}
    near = [named[one] for one in get_close_matches(name.casefold(), named, most, likeness)]
    return f"did you mean {' or '.join(map(form, near))}?" if near else otherwise


def first_line(error: BaseException) -> str:
    r"""The first line of what an error says, or its kind if it says nothing.

    Example:
      >>> first_line(ValueError("\n no  such column\n at 3")), first_line(KeyboardInterrupt())
      ('no such column', 'KeyboardInterrupt')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())


def place_of(error: BaseException) -> str:
    """Return the type of an exception and where it was raised.

    Its text, which may hold values of a transaction, is left out.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_filename}:{trace.tb_lineno} ({code.co_name})"


def reason_of(error: Exception) -> str:
    """Why the system refuses, without the path or what a library says around it.

    Example:
      >>> reason_of(OSError(28, "Error writing bytes to file. Detail: [errno 28]"))
      'No space left on device'
    """
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else first_line(error)


def printable(text: str, most: int | None = None, *, escaped: bool = False) -> str:
    r"""Escape what does not show, ends a line or changes the direction of what follows.

    Args:
      text: of anyone.
      most: characters to keep; a longer text is cut and ends in `…`.
      escaped: keep backslashes, because `text` holds escapes already, as a message of the log
        does in its names and a record in its JSON.

    Returns:
      Printable text on one line; a different one for every `text` if `most` is None and `escaped`
      is not set.

    Example:
      >>> printable("Caf\u00e9\nBcc: all\u202e")
      'Café\\nBcc: all\\u202e'
      >>> printable("C:\\n\x1b"), printable("C:\\n\x1b", escaped=True)
      ('C:\\\\n\\x1b', 'C:\\n\\x1b')
    """
    if most is not None and len(text) > most:
        # Cut before the escapes, which may be ten times as long, and after them again.
        return printable(text[:most], escaped=escaped)[: most - 1] + "…"
    if text.isascii() and text.isprintable() and (escaped or "\\" not in text):
        return text
    return "".join(
        char
        if char.isprintable() and char not in _BLANK and (escaped or char != "\\")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def own_call() -> str:
    """Return what starts this program again in the same shell.

    `beam-fraud` where the shell finds the one that runs, else its path; `PYTHON -m beam_fraud`
    where Python was given the module.
    """
    program = Path(sys.argv[0])
    try:
        if program.parts[-2:] == ("beam_fraud", "__main__.py"):
            return f"{_typed('python', Path(sys.executable))} -m beam_fraud"
        if program.name == "beam-fraud":
            return _typed("beam-fraud", program)
    except OSError:
        # The working directory is gone: no relative path leads anywhere.
        pass
    # Any other name is that of a program that calls `main`, not of our command.
    return "beam-fraud"


def _typed(name: str, program: Path) -> str:
    """`name` if that starts `program`, else its path, quoted; relative if it is below here."""
    installed, program = shutil.which(name), Path.cwd() / program
    # Links are not followed: a virtual environment's Python is one.
    if installed is not None and Path.cwd() / installed == program:
        return name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
