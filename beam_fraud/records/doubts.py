"""Rows that were read by an assumption, each with the setting that replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from beam_fraud.schema.schema import Schema


class Doubt(StrEnum):
    """An assumption."""

    #: A time without a zone is UTC, though the schema has another time zone.
    ZONE = "zone"
    #: A label that cannot be read is unknown.
    LABEL = "label"


def warnings_of(doubts: Mapping[Doubt, int], schema: Schema) -> list[str]:
    """Return a warning for each doubt, with its rows and the setting that answers it."""
    words = {
        Doubt.ZONE: (
            f"times have no zone and are read as UTC, though the schema has timezone "
            f'{schema.timezone}: write naive = "local" or "utc" under [time]'
        ),
        Doubt.LABEL: (
            f"labels of column {schema.role('label')} cannot be read and are taken for unknown: "
            "write positive = [...] under [label]"
        ),
    }
    return [f"{doubts[doubt]:,} {words[doubt]}" for doubt in Doubt if doubts.get(doubt)]
