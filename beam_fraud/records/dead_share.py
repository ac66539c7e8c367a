"""The share of dead letters of an input, and its limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from beam_fraud.records.faults import SETTINGS, line_of

#: Share of dead letters from which a run warns.
WARNING_SHARE = 0.05
#: Share of numbers in another notation from which a run fails: such numbers are the large ones.
NOTATION_SHARE = 0.001


@dataclass(frozen=True)
class DeadShare:
    """Counts of an input's rows and dead letters."""

    #: All rows, including repeated ones.
    rows: int = 0
    #: Dead letters by reason.
    reasons: Mapping[str, int] = field(default_factory=dict)
    #: Source, position and fault of the first known dead letter, or None.
    first: tuple[str, int, str] | None = None

    @property
    def dead(self) -> int:
        """Number of dead letters."""
        return sum(self.reasons.values())

    @property
    def share(self) -> float:
        """Share of dead letters in all rows; 0.0 for an empty input."""
        return self.dead / self.rows if self.rows else 0.0

    @property
    def remarkable(self) -> bool:
        """Return whether there are enough dead letters to warn of."""
        return self.dead > 0 and self.share >= WARNING_SHARE

    def refusal(self, most: float | None) -> str | None:
        """Return why a run over this input fails, in one line; None if it does not.

        Args:
          most: maximum share of dead letters (0 to 1), `--max-dead`; None for any but all.

        >>> DeadShare(4, {"malformed": 4}).refusal(None)
        'none of 4 records is a transaction (4 malformed)'
        >>> DeadShare(4, {"malformed": 1}).refusal(0.2)
        '1 of 4 records are dead letters, more than --max-dead 0.2 (1 malformed)'
        """
        if most is not None and self.share > most:
            more = f"more than --max-dead {most:g}"
            return f"{self.dead:,} of {self.rows:,} records are dead letters, {more} {self.why}"
        if self.rows and self.dead == self.rows:
            return f"none of {self.rows:,} records is a transaction {self.why}"
        written = self.reasons.get("number_notation", 0)
        if most is None and written > NOTATION_SHARE * self.rows:
            return (
                f"{written:,} of {self.rows:,} records have a number in another notation than the "
                f"schema's, which are often the large ones; --max-dead allows them {self.why}"
            )
        return None

    def warning(self) -> str:
        """Return the number and reasons of dead letters in one line."""
        return (
            f"{self.dead:,} of {self.rows:,} records ({self.share:.1%}) are dead letters {self.why}"
        )

    def merged(self, other: DeadShare) -> DeadShare:
        """Return the counts of both inputs together."""
        known = [one for one in (self.first, other.first) if one is not None]
        reasons = dict(Counter(self.reasons) + Counter(other.reasons))
        return DeadShare(self.rows + other.rows, reasons, min(known, default=None))

    @property
    def why(self) -> str:
        """Return the number per reason, and the first dead letter."""
        most_first = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        why = ", ".join(f"{rows:,} {reason}" for reason, rows in most_first)
        if setting := next((SETTINGS[r] for r, _ in most_first if r in SETTINGS), None):
            why += f"; {setting}"
        if self.first is None:
            return f"({why})"
        source, position, detail = self.first
        line, fault = line_of(detail)
        where = f"{source}:{position}" if line is None else f"{source} line {line}"
        return f"({why}); first: {where}: {fault}"


def dead_share(rows: int, dead_letters: pa.RecordBatch | None = None) -> DeadShare:
    """Return the share of a batch.

    Args:
      rows: rows of the input, dead letters included.
      dead_letters: rows of the schema `stages.DEAD_LETTER`.
    """
    if not dead_letters:
        return DeadShare(rows)
    reasons = Counter[str](dead_letters.column("reason").to_pylist())
    return DeadShare(rows, dict(reasons), first_dead_letter([dead_letters]))


def first_dead_letter(batches: Iterable[pa.RecordBatch]) -> tuple[str, int, str] | None:
    """Return source, position and fault of the first row of batches of `stages.DEAD_LETTER`."""
    for batch in batches:
        if len(batch):
            columns = ["source", "position", "detail", "reason"]
            row = batch.slice(0, 1).select(columns).to_pylist()[0]
            return row["source"], row["position"], row["detail"] or row["reason"]
    return None
