"""Faults of a block: the first fault of each row, and its column."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.sources.raw import LINE, REASON

#: Reasons of dead letters, each with the meaning of its detail.
REASONS = {
    "unreadable_file": "the file cannot be read, or not to its end",
    "malformed": "the record cannot be read",
    "enveloped": "the record is in an envelope that the schema does not name",
    "framed": "the message is framed by a schema registry",
    "wrong_column_count": "the record has another number of columns than the header",
    "too_long": "longer than allowed",
    "number_notation": "a number in another notation than the schema's",
    "wrong_type": "not of the type it should be",
    "missing_id": "no identifier",
    "missing_time": "no time",
    "unparseable_time": "not a time",
    "impossible_time": "before 1970 or after 2199",
    "future_time": "later than its arrival by more than allowed",
    "missing_amount": "no amount",
    "non_finite_amount": "not finite",
    "negative_amount": "below zero, which the schema does not allow",
    "missing_currency": "no currency, so the amount cannot be converted",
    "no_rate": "no rate of the currency was known at that time",
    "too_large": "too large for a model to take",
    "missing_feature": "no value, which the schema does not allow",
    "non_finite_feature": "not finite",
    "invalid_label": "neither 0 nor 1",
    "contradicts_directory": "not what its directory says",
    "unknown_transaction": "not in the database, and the row has no time of it",
}
#: Settings of a schema that may read what was refused for a reason.
SETTINGS = {
    "enveloped": "unwrap under [source] says in which envelope records are",
    "framed": "--schema-registry URL reads the schemas of messages",
    "unparseable_time": "format or unit under [time] says how times are written",
    "impossible_time": "unit, origin or format under [time] says how times are written",
    "number_notation": (
        "decimal, thousands, symbol or negative under [amount] or [numbers] says how numbers are "
        "written"
    ),
    "invalid_label": "positive under [label] says how labels are spelled",
    "missing_currency": "to under [currency] converts amounts, so every row needs a currency",
    "no_rate": "rates under [currency] names the file that lacks a rate",
    "missing_id": 'missing = "allow" in the role lets rows lack it',
}
_NAMES = tuple(REASONS)
_AT_LINE = re.compile(r"line ([0-9]+), ")


class Faults:
    """The first fault of each of n rows."""

    def __init__(self, rows: int) -> None:
        self._reason = np.zeros(rows, dtype=np.int16)
        self._column = np.full(rows, -1, dtype=np.int16)
        self._columns: list[str] = []

    def add(self, reason: str, column: str, where: npt.NDArray[np.bool_]) -> None:
        """Record a fault for rows of the mask `where` (bool[n]) without an earlier one."""
        if not where.any():
            return
        new = where & (self._reason == 0)
        self._reason[new] = _NAMES.index(reason) + 1
        self._column[new] = len(self._columns)
        self._columns.append(column)

    @property
    def faulty(self) -> npt.NDArray[np.bool_]:
        """bool[n]: rows with a fault."""
        return self._reason > 0

    def reasons(self) -> pa.StringArray:
        """Return string[f]: reason of each faulty row."""
        return pa.array([_NAMES[code - 1] for code in self._reason[self.faulty]], pa.string())

    def details(self) -> pa.StringArray:
        """Return string[f]: column and error; values stay in the payload."""
        return pa.array(
            [
                f"{self._columns[column]}: {REASONS[_NAMES[code - 1]]}"
                for code, column in zip(
                    self._reason[self.faulty], self._column[self.faulty], strict=True
                )
            ],
            pa.string(),
        )


def faults_of_parsing(parsed: pa.RecordBatch) -> Faults:
    """Return the parsing faults of a parsed batch (`records.parse`) of n rows."""
    faults = Faults(len(parsed))
    if REASON in parsed.schema.names:
        unparsed = parsed.column(REASON).is_valid().to_numpy(zero_copy_only=False)
        faults.add("malformed", "record", np.asarray(unparsed, dtype=bool))
    return faults


def at_line(dead: pa.RecordBatch, details: pa.StringArray) -> pa.StringArray:
    """Prefix details by the line of the file, where known (`@line`)."""
    if LINE not in dead.schema.names:
        return details
    lines = dead.column(LINE).cast(pa.string())
    return pc.binary_join_element_wise("line ", lines, ", ", details, "")


def line_of(detail: str | None) -> tuple[int | None, str]:
    """Return the line that a detail names, None if it names none, and the rest of it.

    Example:
      >>> line_of("line 6, a: no amount"), line_of("a: no amount")
      ((6, 'a: no amount'), (None, 'a: no amount'))
    """
    text = detail or ""
    match = _AT_LINE.match(text)
    return (None, text) if match is None else (int(match[1]), text[match.end() :])


def missing_columns(dead_letters: pa.RecordBatch) -> list[str]:
    """Return the column without a value, for each such dead letter (`stages.DEAD_LETTER`)."""
    absent = dead_letters.filter(pc.starts_with(dead_letters.column("reason"), "missing_"))
    reasons, details = (absent.column(name).to_pylist() for name in ("reason", "detail"))
    return [
        line_of(detail)[1].removesuffix(f": {REASONS[reason]}")
        for reason, detail in zip(reasons, details, strict=True)
    ]
