"""The first pass over scored rows: counts, and the rows that are flagged or fraud."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.rules.figures import Block as Counted
from beam_fraud.decisions.rules.figures import Caught
from beam_fraud.evaluation.comparison.labels import labels_of
from beam_fraud.evaluation.comparison.scored_rows import Block, Side
from beam_fraud.evaluation.comparison.segmentation import Segmenter
from beam_fraud.evaluation.curves import SCORE_EDGES
from beam_fraud.evaluation.rows import Floats, Ints, Labels, clock_micros
from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.records.label_file import UNKNOWN, LabelFile
from beam_fraud.schema.duration import DAY, HOUR
from beam_fraud.schema.event_time import event_micros

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """The labels that count."""

    #: Labels of a file, which replace those of the archive; None without one.
    file: LabelFile | None
    #: Last event time of the rows whose labels count, microseconds.
    last: int
    #: Time zone of days.
    timezone: str

    def labels(self, rows: pa.Table) -> tuple[Labels, Ints]:
        """Return the known labels of n rows, int8[n], and when each was known, int64[n]."""
        known, known_at = labels_of(rows)
        if self.file is not None:
            self.file.replace(rows.column("transaction_id").combine_chunks(), known, known_at)
        return known, known_at


@dataclass(frozen=True)
class Arrays:
    """n rows as arrays."""

    #: int64[n]: event times, microseconds, UTC and by the clocks of the time zone.
    times: Ints
    clock: Ints
    #: float64[n].
    amounts: Floats
    #: int8[n]: the known label, `UNKNOWN` without one.
    known: Labels
    #: int8[n]: the label that counts, `UNKNOWN` also for rows that are too young.
    labels: Labels
    #: int64[n]: when the label was known.
    known_at: Ints
    #: uint64[n]: a hash of each account, a number of its own for rows without one.
    accounts: Hashes
    #: bool[n]: old enough for its label to count.
    mature: Flags
    #: bool[n] and float64[n] for each side.
    flagged: tuple[Flags, ...]
    scores: tuple[Floats, ...]

    def take(self, rows: Flags) -> Arrays:
        """Return some of the rows."""
        return _mapped([self], lambda parts: parts[0][rows])


def _mapped(parts: Sequence[Arrays], of: Callable[[list[Any]], Any]) -> Arrays:
    """Return the arrays that a function makes of the same arrays of several parts."""
    sides = range(len(parts[0].flagged))
    return Arrays(
        times=of([part.times for part in parts]),
        clock=of([part.clock for part in parts]),
        amounts=of([part.amounts for part in parts]),
        known=of([part.known for part in parts]),
        labels=of([part.labels for part in parts]),
        known_at=of([part.known_at for part in parts]),
        accounts=of([part.accounts for part in parts]),
        mature=of([part.mature for part in parts]),
        flagged=tuple(of([part.flagged[side] for part in parts]) for side in sides),
        scores=tuple(of([part.scores[side] for part in parts]) for side in sides),
    )


def arrays_of(block: Block, cut: Cut, accounts: IdHash) -> Arrays:
    """Return the arrays of a block with scores and flags of all sides."""
    times = event_micros(block.rows)
    known, known_at = cut.labels(block.rows)
    mature = times <= cut.last
    ids = block.rows.column("account_id").combine_chunks()
    hashes = accounts.of(ids.fill_null(""))
    if ids.null_count:
        # Rows of unknown accounts are units of their own.
        absent = ids.is_null().to_numpy(zero_copy_only=False)
        own = accounts.of(block.rows.column("transaction_id").combine_chunks())
        hashes[absent] = own[absent]
    return Arrays(
        times=times,
        clock=clock_micros(block.rows.column("event_time"), cut.timezone),
        amounts=np.asarray(block.rows.column("amount").to_numpy(), dtype=np.float64),
        known=known,
        labels=np.where(mature, known, UNKNOWN),
        known_at=known_at,
        accounts=hashes,
        mature=mature,
        flagged=tuple(
            np.asarray(side.column("flagged").to_numpy(), dtype=bool) for side in block.sides
        ),
        scores=tuple(
            np.asarray(side.column("score").to_numpy(), dtype=np.float64) for side in block.sides
        ),
    )


@dataclass
class RuleTally:
    """The counts of a rule."""

    #: Whether it is in shadow: then it fires without effect.
    shadow: bool = False
    #: Rows it fires on.
    fired: Caught = field(default_factory=Caught)
    #: Rows that are flagged by this rule alone: neither the model nor another rule flags them. Of a
    #: rule in shadow, the rows that nothing flags.
    alone: Caught = field(default_factory=Caught)
    #: Rows that the model flags and that pass, where no other rule fires.
    let_pass: Caught = field(default_factory=Caught)


class Tally:
    """Sums over all rows, and the arrays of rows that a side flags or that are fraud.

    Memory grows with flagged rows and frauds, about 100 bytes each, with days and with the values
    of segments; not with other rows.

    Args:
      sides: the sides, the new one first.
      segmenters: segmentations of the rows.
      changed: receives each block with rows that sides decide differently, and which rows.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        segmenters: Sequence[Segmenter],
        changed: Callable[[Block, Arrays, Flags], None],
    ) -> None:
        self._sides = sides
        self._segmenters = segmenters
        self._changed = changed
        self.rows = 0
        #: Rows old enough for a label to count, and those of them that have one.
        self.mature = 0
        self.labelled = 0
        self.without_account = 0
        #: Day, as a number since 1970, to rows and to rows old enough; hour to rows old enough.
        self.days: dict[int, int] = {}
        self.mature_days: dict[int, int] = {}
        self.hours: dict[int, int] = {}
        #: int64[sides, 3, bins]: rows by score, of frauds, genuine and unlabelled rows.
        self.histograms = np.zeros((len(sides), 3, len(SCORE_EDGES) - 1), dtype=np.int64)
        self.rules: tuple[dict[str, RuleTally], ...] = tuple({} for _ in sides)
        #: For each segmentation, int64[codes]: rows old enough.
        self.segments: list[Ints] = [np.zeros(0, dtype=np.int64) for _ in segmenters]
        self._kept: list[Arrays] = []
        self._kept_codes: list[list[Ints]] = [[] for _ in segmenters]

    def add(self, block: Block, arrays: Arrays) -> None:
        """Count a block."""
        self.rows += len(arrays.times)
        self.mature += int(arrays.mature.sum())
        self.labelled += int(np.count_nonzero(arrays.labels != UNKNOWN))
        self.without_account += block.rows.column("account_id").null_count
        _count(self.days, arrays.clock // DAY)
        _count(self.mature_days, arrays.clock[arrays.mature] // DAY)
        _count(self.hours, arrays.times[arrays.mature] // HOUR)
        flagged_by_any = np.logical_or.reduce(arrays.flagged)
        keep = flagged_by_any | (arrays.known == 1)
        self._kept.append(arrays.take(keep))
        for place, segmenter in enumerate(self._segmenters):
            codes = segmenter.codes(block.rows, arrays.amounts, arrays.clock)
            # Also codes of rows that are too young.
            size = max(len(self.segments[place]), int(codes.max(initial=-1)) + 1)
            counts = np.bincount(codes[arrays.mature], minlength=size)
            counts[: len(self.segments[place])] += self.segments[place]
            self.segments[place] = counts
            self._kept_codes[place].append(codes[keep])
        for place, side in enumerate(self._sides):
            for row, label in enumerate((1, 0, UNKNOWN)):
                scores = arrays.scores[place][arrays.labels == label]
                self.histograms[place, row] += np.histogram(scores, SCORE_EDGES)[0]
            answers = block.sides[place]
            self._add_rules(place, side, answers.column("rules"), arrays)
            # Archives of earlier versions have no rules in shadow.
            if "shadow_rules" in answers.column_names:
                self._add_rules(place, side, answers.column("shadow_rules"), arrays, shadow=True)
        decisions = [side.column("decision") for side in block.sides]
        differing = np.zeros(len(arrays.times), dtype=bool)
        for other in decisions[1:]:
            differing |= np.asarray(pc.not_equal(decisions[0], other), dtype=bool)
        if differing.any():
            self._changed(block, arrays, differing)

    def kept(self) -> tuple[Arrays, list[Ints]]:
        """Return the arrays of the kept rows, and their codes by each segmentation."""
        together = _mapped(self._kept or [_none(len(self._sides))], np.concatenate)
        none = np.zeros(0, dtype=np.int64)
        codes = [np.concatenate([none, *each]) for each in self._kept_codes]
        self._kept, self._kept_codes = [together], [[each] for each in codes]
        return together, codes

    def _add_rules(
        self,
        place: int,
        side: Side,
        column: pa.ChunkedArray,
        arrays: Arrays,
        *,
        shadow: bool = False,
    ) -> None:
        lists = column.combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
        some = lengths > 0
        if not some.any():
            return
        names = lists.filter(pa.array(some)).flatten().dictionary_encode()
        rows = np.repeat(np.flatnonzero(some), lengths[some])
        codes = np.asarray(names.indices, dtype=np.int64)
        flagged, by_model = arrays.flagged[place], arrays.scores[place] >= side.threshold
        counted = Counted(arrays.amounts, arrays.labels == 1, arrays.labels == 0, by_model, flagged)
        for code, name in enumerate(names.dictionary.to_pylist()):
            fired = np.zeros(len(flagged), dtype=bool)
            fired[rows[codes == code]] = True
            tally = self.rules[place].setdefault(name, RuleTally(shadow))
            tally.fired.add(fired, counted)
            if shadow:
                tally.alone.add(fired & ~flagged, counted)
                continue
            # Scored rows do not say which of several rules decided.
            alone = fired & (lengths == 1)
            tally.alone.add(alone & flagged & ~by_model, counted)
            tally.let_pass.add(alone & by_model & ~flagged, counted)


def _none(sides: int) -> Arrays:
    ints, floats = np.zeros(0, dtype=np.int64), np.zeros(0)
    labels, flags = np.zeros(0, dtype=np.int8), np.zeros(0, dtype=bool)
    return Arrays(
        times=ints,
        clock=ints,
        amounts=floats,
        known=labels,
        labels=labels,
        known_at=ints,
        accounts=np.zeros(0, dtype=np.uint64),
        mature=flags,
        flagged=(flags,) * sides,
        scores=(floats,) * sides,
    )


def _count(counts: dict[int, int], values: Ints) -> None:
    numbers, rows = np.unique(values, return_counts=True)
    for number, count in zip(numbers.tolist(), rows.tolist(), strict=True):
        counts[number] = counts.get(number, 0) + count
