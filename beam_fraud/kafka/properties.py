"""Properties of a Kafka client as users give them: on the command line, in a file, by reference."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.text_file import read_text_file

#: Properties whose values may appear nowhere.
_SECRET = re.compile(r"(password|passphrase|secret|ssl\.key\.pem|private\.key\.pem)$")
#: How a value is given that is read where it is used.
_REFERENCES = ("env:", "file:")
#: What stands for a secret.
MASK = "***"


def is_secret(name: str) -> bool:
    """Whether the value of a property has to be kept from logs and messages.

    Example:
      >>> is_secret("sasl.password"), is_secret("ssl.ca.location")
      (True, False)
    """
    return _SECRET.search(name) is not None


def is_reference(value: str) -> bool:
    """Whether `value` says where the value is."""
    return value.startswith(_REFERENCES)


def parse_properties(option: str, given: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Split `KEY=VALUE` at the first equals sign; of repeated keys the last counts.

    Args:
      option: what gave them, for messages.
      given: the properties.

    Raises:
      UsageError: one is written otherwise. What follows its key is not repeated.

    Example:
      >>> parse_properties("--kafka-config", ["security.protocol=SSL"])
      (('security.protocol', 'SSL'),)
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            # All of it may be a secret.
            raise UsageError(f"{option}: a property is written KEY=VALUE")
        if not name:
            raise UsageError(f"{option}: a property has no name before its '='")
        found[name] = value.strip()
    return tuple(found.items())


def read_properties(path: Path) -> tuple[tuple[str, str], ...]:
    """The properties in a file of `key=value` lines, with comments after `#` or `!`.

    Raises:
      FraudError: it cannot be read, or a line is no property; the line itself is not repeated.
    """
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeError) as error:
        raise FraudError(f"--kafka-properties {path}: {_why(error)}") from None
    return parse_properties(f"--kafka-properties {path}", _without_comments(lines))


def resolve(name: str, value: str) -> str:
    """The value itself where `value` is a reference: `env:NAME` or `file:PATH`.

    Args:
      name: of the property, for messages.
      value: as given.

    Raises:
      FraudError: there is no such variable or file here.
    """
    kind, _, place = value.partition(":")
    if not is_reference(value):
        return value
    if kind == "env":
        if place not in os.environ:
            raise FraudError(f"Kafka property {name}: the variable {place} is not set")
        return os.environ[place]
    try:
        return read_text_file(Path(place)).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise FraudError(f"Kafka property {name}: {place}: {_why(error)}") from None


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text and not text.startswith(("#", "!")):
            yield text


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "not text in UTF-8" if isinstance(error, UnicodeError) else str(error)
