"""Read secrets from the environment or a file where they are used; never show them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.text_file import read_text_file


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
        try:
            return read_text_file(Path(file).expanduser()).rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            raise FraudError(
                f"{option}: {name}_file {file}: {why}", Code.SECRET_UNREADABLE
            ) from None
    if named is not None and named not in os.environ:
        raise FraudError(
            f"{option}: {name}_env: the variable {named} is not set", Code.VARIABLE_UNSET
        )
    return os.environ.get(named or variable)
