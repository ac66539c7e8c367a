"""Fields of a query or a form, as people of any intent send them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qsl

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.teamwork import MAX_TEXT

#: Maximum of fields of a form, and of characters of a value of one line.
_MOST_FIELDS, _LONGEST = 2_000, 1_000
_Word = TypeVar("_Word", bound=str)


@dataclass(frozen=True)
class Form:
    """The fields by name, each with its values in their order."""

    values: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes) -> Form:
        """Return the fields of a query or of a form's body.

        Raises:
          UsageError: there are too many, or one has a character that no database stores.
        """
        source = text.decode("latin-1") if isinstance(text, bytes) else text
        try:
            pairs = parse_qsl(source, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise UsageError("the form has too many fields", Code.OPTION_VALUE) from None
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            if "\0" in value:
                raise UsageError(f"{name[:40]!r} has a character that is none", Code.OPTION_VALUE)
            values.setdefault(name, []).append(value)
        return cls(values)

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self.values.get(name, [])

    def get(self, name: str, longest: int = _LONGEST) -> str | None:
        """Return the last value of a field, without blanks around it; None for an empty one.

        Raises:
          UsageError: it is too long.
        """
        given = self.values.get(name)
        value = given[-1].strip() if given else ""
        if len(value) > longest:
            raise UsageError(
                f"{_shown(name)}: has more than {longest:,} characters", Code.OPTION_VALUE
            )
        return value or None

    def need(self, name: str, what: str) -> str:
        """Return the value of a field that must have one.

        Raises:
          UsageError: it has none; the message says what is missing.
        """
        value = self.text(name)
        if value is None:
            raise UsageError(f"{what} is missing", Code.OPTION_MISSING)
        return value

    def text(self, name: str) -> str | None:
        """Return a text of many lines."""
        value = self.get(name, MAX_TEXT)
        return None if value is None else value.replace("\r\n", "\n")

    def whole(self, name: str) -> int:
        """Return a whole number.

        Raises:
          UsageError: it is none.
        """
        value = self.get(name) or ""
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise UsageError(
                f"{_shown(name)}: {value[:40]!r} is no whole number", Code.OPTION_VALUE
            )
        return int(value)

    def number(self, name: str) -> float | None:
        """Return a number; None for none.

        Raises:
          UsageError: it is none.
        """
        value = self.get(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not abs(number) < 1e15:
            raise UsageError(f"{_shown(name)}: {value[:40]!r} is no number", Code.OPTION_VALUE)
        return number

    def moment(self, name: str) -> datetime | None:
        """Return a time in UTC, as browsers send dates and times; None for none.

        Raises:
          UsageError: it is none.
        """
        value = self.get(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UsageError(
                f"{_shown(name)}: {value[:40]!r} is no time", Code.TIME_INVALID
            ) from None

    def span(self, name: str) -> timedelta | None:
        """Return a time in hours, as the pages offer it; None for none.

        Raises:
          UsageError: it is none.
        """
        hours = self.number(name)
        if hours is None:
            return None
        if not 0 < hours <= 24 * 366:
            raise UsageError(f"{_shown(name)}: give a time of up to a year", Code.TIME_INVALID)
        return timedelta(hours=hours)

    def choice(self, name: str, choices: Iterable[_Word], default: _Word | None = None) -> _Word:
        """Return one of some words.

        Raises:
          UsageError: it is none of them.
        """
        value = self.get(name) or default
        for choice in choices:
            if choice == value:
                return choice
        raise UsageError(
            f"{_shown(name)}: {(value or '')[:40]!r} is none of {', '.join(choices)}",
            Code.OPTION_VALUE,
        )


def _shown(name: str) -> str:
    """Return the name of a field as its page has it: of names that a form may have."""
    return name.replace("_", " ").capitalize()
