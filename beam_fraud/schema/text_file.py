"""Read text files of users: UTF-8 with or without byte order mark, and nested TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from beam_fraud.errors import Code, UsageError

#: Maximum parts of a key: the parser's time grows with their square.
_MOST_PARTS = 1_000
#: Maximum bits of an integer that can be printed and converted to float.
_MOST_BITS = 1_000


def read_text_file(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
      OSError: the file cannot be read.
      UnicodeDecodeError: it is not UTF-8.
    """
    return path.read_text("utf-8-sig")


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML document.

    Args:
      text: the document.
      where: its name, for messages.

    Raises:
      UsageError: it is not TOML, nests too deeply, or has a too large integer.
    """
    keys = (line.partition("=")[0] for line in text.split("\n"))
    if any(key.count(".") > _MOST_PARTS and "," not in key for key in keys):
        raise UsageError(
            f"{where}: not valid TOML: a key of over {_MOST_PARTS} parts",
            Code.TOML_SYNTAX,
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}", Code.TOML_SYNTAX) from None
    except RecursionError:
        raise UsageError(
            f"{where}: not valid TOML: it nests too deeply", Code.TOML_SYNTAX
        ) from None
    except ValueError:
        raise UsageError(
            f"{where}: not valid TOML: an integer is too large", Code.TOML_SYNTAX
        ) from None
    pending: list[object] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise UsageError(f"{where}: not valid TOML: an integer is too large", Code.TOML_SYNTAX)
    return document
