"""Read text files of users: UTF-8 with or without byte order mark, nested TOML, secrets."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

import msgspec

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.wording import did_you_mean, reason_of

#: Maximum parts of a key: the parser's time grows with their square.
_MOST_PARTS = 1_000
#: Maximum bits of an integer that can be printed and converted to float.
_MOST_BITS = 1_000
#: Characters of a value that a message shows.
_SHOWN = 60
#: How msgspec says that a table lacks a key, or has one too many.
_MISSING = re.compile(r"missing required field `(.*)`")
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)
#: Where msgspec says that a value is wrong: the key, and an index where the value is a list.
_AT = re.compile(r" - at `\$\.(\w+)")


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """A table of a TOML file: a field for each key, annotated with `must_be`."""

    #: The kind of mistake that a wrong table is.
    code: ClassVar[Code]


T = TypeVar("T", bound=Table)


def must_be(words: str, **limits: Any) -> msgspec.Meta:
    """Annotate a field of a table.

    Args:
      words: what a value must be, for the message about one that is not: `text`, `a whole number`.
      limits: of `msgspec.Meta`.
    """
    return msgspec.Meta(description=words, **limits)


def read_text_file(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
      OSError: the file cannot be read.
      UnicodeDecodeError: it is not UTF-8.
    """
    return path.read_text("utf-8-sig")


def read_toml(text: str, kind: type[T], where: str) -> T:
    """Read a TOML document.

    Args:
      text: the document.
      kind: its keys and their values.
      where: its name, for messages.

    Raises:
      UsageError: it is not TOML, nests too deeply, has a too large integer, or is invalid as
        a table (`read_table`).
    """
    return read_table(_parsed(text, where), kind, where)


def read_table(table: object, kind: type[T], where: str) -> T:
    """Read a table of a TOML document.

    Args:
      table: as it was parsed.
      kind: its keys and their values.
      where: the table in its file, for messages.

    Raises:
      UsageError: it has an unknown key, lacks one, or has a value of another type.
    """
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        reason = str(error)
    raise UsageError(f"{where}: {_wrong(reason, table, kind)}", kind.code)


def shortened(value: object) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _wrong(reason: str, table: Any, kind: type[Table]) -> str:
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    if unknown := _UNKNOWN.search(reason):
        hint = did_you_mean(unknown[1], names, f"known: {', '.join(names)}")
        return f"unknown key {shortened(unknown[1])} ({hint})"
    missing = _MISSING.search(reason)
    at = missing or _AT.search(reason)
    if at is None:
        return "must be a table"
    (words,) = get_type_hints(kind, include_extras=True)[names[at[1]]].__metadata__
    if missing:
        return f"{at[1]} is missing ({words.description})"
    return f"{at[1]} must be {words.description}, not {shortened(table[at[1]])}"


def _parsed(text: str, where: str) -> dict[str, Any]:
    keys = (line.partition("=")[0] for line in text.split("\n"))
    if any(key.count(".") > _MOST_PARTS and "," not in key for key in keys):
        raise UsageError(
            f"{where}: not TOML: a key of over {_MOST_PARTS} parts",
            Code.TOML_SYNTAX,
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}", Code.TOML_SYNTAX) from None
    except RecursionError:
        raise UsageError(f"{where}: not TOML: it nests too deeply", Code.TOML_SYNTAX) from None
    except ValueError:
        raise UsageError(f"{where}: not TOML: an integer is too large", Code.TOML_SYNTAX) from None
    pending: list[object] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise UsageError(f"{where}: not TOML: an integer is too large", Code.TOML_SYNTAX)
    return document


def read_secret_file(file: str, where: str) -> str:
    """Read the secret of a file, without its line end.

    Args:
      file: the file; `~` is the user's directory.
      where: what names the file, for messages.

    Raises:
      FraudError: the file cannot be read.
    """
    try:
        return read_text_file(Path(file).expanduser()).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise FraudError(f"{where} {file}: {reason_of(error)}", Code.SECRET_UNREADABLE) from None


def read_secret(option: str, name: str, options: Mapping[str, str], variable: str) -> str | None:
    """Read a secret from the place in a URL's `options`, or from a variable.

    Args:
      option: the option with the URL, for messages: `--alert smtp://example.org`.
      name: name of the secret, such as `password`.
      options: options of the URL: `<name>_file` names a file, `<name>_env` a variable.
      variable: variable to read otherwise.

    Returns:
      The secret, without the line end of its file; None if there is none.

    Raises:
      FraudError: the file cannot be read, or the named variable is not set.
    """
    file, named = options.get(f"{name}_file"), options.get(f"{name}_env")
    if file is not None:
        return read_secret_file(file, f"{option}: {name}_file")
    if named is not None and named not in os.environ:
        raise FraudError(
            f"{option}: {name}_env: the variable {named} is not set", Code.VARIABLE_UNSET
        )
    return os.environ.get(named or variable)
