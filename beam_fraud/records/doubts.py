"""Rows that were read by an assumption, each with the setting that replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from beam_fraud.schema.schema import Schema

#: What to do about implausible times.
TIME_SETTING = (
    "write format = [...] or unit under [time] if they are written otherwise, or plausible = false "
    "if they are right"
)

#: Accounts from which a history should have some, and the share of them.
_MANY_ACCOUNTS, _KNOWN_SHARE = 20, 0.05


class Doubt(StrEnum):
    """An assumption."""

    #: A time without a zone is UTC, though the schema has another time zone.
    ZONE = "zone"
    #: A label that cannot be read is unknown.
    LABEL = "label"
    #: A time before 1990.
    EARLY = "early"
    #: A time that is still to come.
    LATE = "late"
    #: A number is a time in the unit that its magnitude suggests.
    UNIT = "unit"
    #: A time is of a form of the schema that is not its file's; it is a dead letter.
    FORM = "form"
    #: An id is a number in scientific notation, which has lost its last digits.
    ROUNDED = "rounded"
    #: An amount is converted by a rate that is older than the schema's `max_age`.
    RATE = "rate"


def strange_accounts(accounts: int, known: int) -> str | None:
    """Return a warning if the history has hardly an account of the rows, else None.

    Args:
      accounts: number of accounts of the rows.
      known: number of those that the history has.
    """
    if accounts < _MANY_ACCOUNTS or known >= _KNOWN_SHARE * accounts:
        return None
    return (
        f"{known:,} of {accounts:,} accounts are in the history, so most windows are empty: if it "
        "writes ids otherwise, set strip, pad or prefix under [ids]"
    )


def other_form(column: str) -> str:
    """Return what times are that the file's own form does not read."""
    return (
        f"times of column {column} are of a format under [time] that their file is not written in: "
        "write the file in one format, ISO 8601 if in doubt"
    )


def warnings_of(doubts: Mapping[Doubt, int], schema: Schema) -> list[str]:
    """Return a warning for each doubt, with its rows and the setting that answers it."""
    column = schema.roles["event_time"]
    age = "" if schema.conversion is None else schema.conversion.max_age
    words = {
        Doubt.ZONE: (
            f"times have no zone and are read as UTC, though the schema has timezone "
            f'{schema.timezone}: write naive = "local" or "utc" under [time]'
        ),
        Doubt.LABEL: (
            f"labels of column {schema.role('label')} cannot be read and are taken for unknown: "
            "write positive = [...] under [label]"
        ),
        Doubt.EARLY: f"times of column {column} are before 1990: {TIME_SETTING}",
        Doubt.LATE: f"times of column {column} are still to come: {TIME_SETTING}",
        Doubt.FORM: other_form(column),
        Doubt.RATE: (
            f"amounts are converted by rates that are older than {age}: add newer ones to the file "
            "that rates under [currency] names and give the schema as --schema, or write a longer "
            "max_age"
        ),
        Doubt.ROUNDED: (
            "ids are numbers in scientific notation (2.70319E+15), as spreadsheets write long "
            "ones: the last digits are lost and different ids became one; export them as text"
        ),
    }
    return [f"{doubts[doubt]:,} {word}" for doubt, word in words.items() if doubts.get(doubt)]
