"""Named lists of values, which conditions look into: accounts or merchants to let pass, say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.text_file import read_text_file

#: Name of a list to its values, all of them texts or all numbers.
Lists: TypeAlias = Mapping[str, tuple[str, ...] | tuple[float, ...]]

_KEYS = ("name", "values", "file")
_NAME = re.compile(r"[^\W\d]\w{0,79}")
#: Words of the grammar of conditions.
_WORDS = frozenset({"and", "or", "not", "in", "is", "True", "False", "None"})


def read_lists(tables: list[dict[str, Any]], where: str, beside: Path) -> Lists:
    """The lists of a file of rules.

    Args:
      tables: the contents of each `[[list]]`.
      where: the file's name, for messages.
      beside: the directory that their own files are relative to.

    Raises:
      UsageError: one says something that cannot be meant.
      FraudError: the file of one cannot be read.
    """
    lists: dict[str, tuple[str, ...] | tuple[float, ...]] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        at = f"{where}: list {number}"
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _WORDS:
            raise UsageError(f'{at}: needs a name of one word (as in name = "trusted")')
        at = f"{where}: list {name}"
        if name in lists:
            raise UsageError(f"{at}: there is one of that name; rename it")
        for key in table:
            if key not in _KEYS:
                raise UsageError(f"{at}: unknown key {key!r} (known: {', '.join(_KEYS)})")
        if ("values" in table) is ("file" in table):
            raise UsageError(f"{at}: needs either values = [..] or file = '..'")
        given = table.get("values")
        lists[name] = _of_file(table["file"], at, beside) if given is None else _values(given, at)
    return lists


def _values(given: object, at: str) -> tuple[str, ...] | tuple[float, ...]:
    if isinstance(given, list):
        if given and all(isinstance(value, str) for value in given):
            return tuple(dict.fromkeys(given))
        if given and all(type(value) in (int, float) and _fits(value) for value in given):
            return tuple(dict.fromkeys(float(value) for value in given))
    raise UsageError(
        f"{at}: values must be texts, or numbers, and not none at all (as in values = ['m1', 'm2'])"
    )


def _fits(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _of_file(given: object, at: str, beside: Path) -> tuple[str, ...]:
    if not isinstance(given, str) or not given:
        raise UsageError(f"{at}: file must be the name of a file, a value a line")
    try:
        text = read_text_file(beside / Path(given).expanduser())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise FraudError(f"{at}: file {given} cannot be read: {reason}") from None
    lines = (line.strip() for line in text.splitlines())
    values = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not values:
        raise UsageError(f"{at}: file {given} holds no value; write one a line")
    return values
