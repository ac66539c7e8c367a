"""Divide rows into training, validation and held-out rows, once or in folds."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.handbook import CARDS, card_precision, known_from
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import micros_of, moment_of

#: Share of validation rows without an explicit time.
VALIDATION_SHARE = 0.2
#: Share of held-out rows of a stratified split, as in published work.
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class Split:
    """Positions of rows, in time order."""

    #: int64: training rows.
    train: npt.NDArray[np.int64]
    #: int64: validation rows, which choose settings and threshold.
    valid: npt.NDArray[np.int64]
    #: int64: held-out rows, used for the report alone; empty if it uses the validation rows.
    held_out: npt.NDArray[np.int64]

    @property
    def refit(self) -> npt.NDArray[np.int64]:
        """int64: rows of the final fit, all but the held-out ones."""
        return np.sort(np.concatenate([self.train, self.valid]))


def split_by_time(event_time: pa.ChunkedArray, valid_from: datetime | None) -> Split:
    """Split by time: fit on earlier rows, validate on later ones.

    Args:
      event_time: timestamp[us, UTC][n], rising.
      valid_from: begin of the validation rows; None for the last fifth of the rows; rows of one
        time stay together.

    Raises:
      FraudError: a part would be empty.
    """
    times = np.asarray(event_time.cast(pa.int64()).to_numpy())
    if valid_from is None:
        at = times[int(len(times) * (1 - VALIDATION_SHARE))]
        start = int(np.searchsorted(times, at, side="left"))
        start = start or int(np.searchsorted(times, at, side="right"))
    else:
        moment = pa.scalar(valid_from, event_time.type).cast(pa.int64()).as_py()
        start = int(np.searchsorted(times, moment, side="left"))
    if not 0 < start < len(times):
        first, last = (value.as_py().isoformat() for value in pc.min_max(event_time).values())
        raise FraudError(
            f"no time divides the rows into earlier and later ones (they are from {first} to "
            f"{last}); give another --valid-from",
            Code.DIVISION_IMPOSSIBLE,
        )
    rows = np.arange(len(times))
    return Split(rows[:start], rows[start:], rows[:0])


def split_stratified(labels: npt.NDArray[np.int8], seed: int) -> Split:
    """Split at random with equal shares of fraud: 30 % held out, a fifth of the rest validates.

    Args:
      labels: int8[n].
      seed: of the choice of rows.

    Raises:
      FraudError: a class has too few rows for all parts.
    """
    try:
        rest, held_out = _hold_out(labels, seed)
        train, valid = train_test_split(
            rest, test_size=VALIDATION_SHARE, stratify=labels[rest], random_state=seed
        )
    except ValueError:
        frauds = int(labels.sum())
        raise FraudError(
            f"--split stratified: {len(labels)} rows with {frauds} frauds are too few to divide",
            Code.CLASSES_MISSING,
        ) from None
    return Split(np.sort(train), np.sort(valid), np.sort(held_out))


Positions = npt.NDArray[np.int64]


def _hold_out(labels: npt.NDArray[np.int8], seed: int) -> tuple[Positions, Positions]:
    """Return random positions to work on, and those to hold out, with equal shares of fraud.

    Raises:
      ValueError: a class has too few rows.
    """
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT_SHARE, stratify=labels, random_state=seed
    )
    return rest, held_out


#: Number of validation days from which folds begin at midnight: analysts work by the day.
WHOLE_DAYS = 2


@dataclass(frozen=True)
class Fold:
    """One division of rows into training and validation rows."""

    #: int64: positions of the training rows.
    train: Positions
    #: int64: positions of the validation rows.
    valid: Positions
    #: Number of rows between the two, whose labels are unknown when validation begins.
    unlabelled: int = 0
    #: Number of validation rows dropped because their cards are known to be compromised by then.
    known: int = 0


@dataclass(frozen=True)
class Division:
    """The use of each row."""

    #: The folds, in time order unless they are random.
    folds: tuple[Fold, ...]
    #: int64: positions of the rows that the final model is fitted on.
    refit: Positions
    #: int64: positions of held-out rows, used for the report alone.
    held_out: Positions

    @property
    def valid(self) -> Positions:
        """int64: positions of all validation rows, fold by fold."""
        return np.concatenate([fold.valid for fold in self.folds])

    def validated_until(self, times: npt.NDArray[np.int64], end: int) -> Division:
        """Return the division without validation rows from a time on.

        Args:
          times: int64[n], event times in microseconds.
          end: event time, microseconds.
        """
        folds = tuple(replace(f, valid=f.valid[times[f.valid] < end]) for f in self.folds)
        return replace(self, folds=folds)


def block_begins(
    times: npt.NDArray[np.int64], blocks: int, valid_from: datetime | None, delay: int
) -> npt.NDArray[np.int64]:
    """Return the start of each of several consecutive validation blocks.

    The blocks have about equally many rows. They begin at midnight (UTC) where they are some days
    long, because analysts work by the day.

    Args:
      times: int64[n], event times in microseconds, rising, n > 0.
      blocks: number of blocks.
      valid_from: begin of the first block; None: after as many rows as a block has, counted from
        the first known labels.
      delay: label delay in microseconds.

    Returns:
      int64[blocks], microseconds.

    Raises:
      FraudError: there are too few rows for so many blocks.

    Example:
      >>> block_begins(np.arange(6), 2, None, 0)
      array([2, 4])
    """
    if valid_from is None:
        labelled = int(np.searchsorted(times, times[0] + delay))
        first = labelled + (len(times) - labelled) // (blocks + 1)
    else:
        first = int(np.searchsorted(times, micros_of(valid_from)))
    at = np.linspace(first, len(times), blocks, endpoint=False).astype(np.int64)
    begins = times[np.minimum(at, len(times) - 1)]
    if times[-1] - begins[0] >= blocks * WHOLE_DAYS * DAY:
        begins = begins // DAY * DAY
    if valid_from is not None:
        begins[0] = micros_of(valid_from)
    edges = np.searchsorted(times, begins)
    if edges[0] == 0 or np.any(np.diff([*edges, len(times)]) <= 0):
        span = f"{moment_of(int(times[0])).isoformat()} to {moment_of(int(times[-1])).isoformat()}"
        raise FraudError(
            f"--folds {blocks}: the rows (from {span}) can't be divided so; ask for fewer folds or "
            "give other times (--from, --valid-from, --until)",
            Code.DIVISION_IMPOSSIBLE,
        )
    return begins


def chained_folds(
    times: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], delay: int
) -> Division:
    """Return folds forward in time: each block validates a candidate fitted on earlier rows.

    When a block begins, a label is known if its transaction is older than `delay`. Younger rows are
    neither training nor validation rows of this fold.

    Args:
      times: int64[n], event times in microseconds, rising.
      begins: int64[k], begin of each block; a block ends where the next begins.
      delay: label delay in microseconds.

    Raises:
      FraudError: a block has no known label before it.

    Example:
      >>> for fold in chained_folds(np.arange(6), np.array([2, 4]), 1).folds:
      ...     print(fold.train, fold.unlabelled, fold.valid)
      [0] 1 [2 3]
      [0 1 2] 1 [4 5]
    """
    rows = np.arange(len(times))
    edges = np.searchsorted(times, begins)
    labelled = np.searchsorted(times, begins - delay)
    if not labelled[0]:
        raise FraudError(
            f"--label-delay: on {moment_of(int(begins[0])).isoformat()} no label would be known "
            f"yet (the first row is of {moment_of(int(times[0])).isoformat()}); give a later "
            "--valid-from, earlier rows (--from) or a shorter delay",
            Code.DIVISION_IMPOSSIBLE,
        )
    folds = tuple(
        Fold(rows[:known], rows[start:end], int(start - known))
        for known, start, end in zip(labelled, edges, [*edges[1:], len(times)], strict=True)
    )
    return Division(folds, rows, rows[:0])


def stratified_folds(labels: npt.NDArray[np.int8], folds: int, seed: int) -> Division:
    """Return random folds with equal shares of fraud: 30 % held out, the rest validates once.

    Args:
      labels: int8[n].
      folds: number of folds.
      seed: of the choice of rows.

    Raises:
      FraudError: a class has too few rows for all parts.
    """
    try:
        rest, held_out = _hold_out(labels, seed)
        frauds = int(labels[rest].sum())
        if min(frauds, len(rest) - frauds) < folds:
            raise ValueError("a fold would have rows of one class")
    except ValueError:
        raise FraudError(
            f"--split stratified --folds {folds}: {len(labels)} rows with {int(labels.sum())} "
            "frauds are too few to divide",
            Code.CLASSES_MISSING,
        ) from None
    rest = np.sort(rest)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rest, labels[rest])
    random = tuple(Fold(rest[train], rest[valid]) for train, valid in cut)
    return Division(random, rest, np.sort(held_out))


def without_known_cards(
    division: Division,
    times: npt.NDArray[np.int64],
    cards: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int8],
    delay: int,
) -> Division:
    """Return a division whose cards leave validation once a fraud of theirs is known.

    Args:
      division: folds in time.
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card.
      labels: int8[n], 1 is fraud.
      delay: label delay in microseconds.
    """
    known = times >= known_from(times, cards, labels == 1, delay)[cards]
    folds = tuple(
        replace(fold, valid=fold.valid[~known[fold.valid]], known=int(known[fold.valid].sum()))
        for fold in division.folds
    )
    return replace(division, folds=folds)


#: Figures of a fold that are summarised by mean and spread.
COMPARED = ("average_precision", "roc_auc", f"card_precision_at_{CARDS}")


@dataclass(frozen=True)
class FoldFigures:
    """One fold: its rows, and figures of its validation rows."""

    #: First and last event time of the rows fitted on, ISO 8601.
    trained_on: tuple[str, str]
    #: First and last event time of the validation rows, ISO 8601.
    validated_on: tuple[str, str]
    #: Rows fitted on.
    rows_train: int
    #: Validation rows.
    rows_valid: int
    #: Frauds among the validation rows.
    frauds: int
    #: Rows before the validation rows whose labels are unknown by then: not fitted on.
    rows_unlabelled: int
    #: Rows of cards known to be compromised, left out of the validation rows.
    rows_known_cards: int
    #: Area under the precision-recall curve, as average precision.
    average_precision: float
    #: Area under the receiver operating characteristic.
    roc_auc: float
    #: Card precision@100: share of compromised cards among the hundred checked per day; None
    #: without accounts.
    card_precision_at_100: float | None


def fold_figures(
    fold: Fold,
    times: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int8],
    scores: npt.NDArray[np.float64],
    cards: npt.NDArray[np.int64] | None,
) -> FoldFigures:
    """Return the figures of one fold.

    Args:
      fold: the fold.
      times: int64[n], event times of all rows in microseconds.
      labels: int8[n] of all rows; the validation rows have both classes.
      scores: float64[len(fold.valid)], of the validation rows.
      cards: int64[n], a number for each card; None without accounts.
    """
    at, judged = fold.valid, labels[fold.valid]
    precision = None if cards is None else card_precision(times[at], cards[at], judged, scores)
    return FoldFigures(
        trained_on=_span(times[fold.train]),
        validated_on=_span(times[at]),
        rows_train=len(fold.train),
        rows_valid=len(at),
        frauds=int(judged.sum()),
        rows_unlabelled=fold.unlabelled,
        rows_known_cards=fold.known,
        average_precision=float(average_precision_score(judged, scores)),
        roc_auc=float(roc_auc_score(judged, scores)),
        card_precision_at_100=precision,
    )


def summary(figures: tuple[FoldFigures, ...]) -> dict[str, Any]:
    """Return the folds and the `mean` and `spread` of each compared figure.

    The spread is the standard deviation between folds (n - 1), None for a single fold.
    """
    folds = [asdict(fold) for fold in figures]
    compared = {}
    for name in COMPARED:
        values = [fold[name] for fold in folds]
        if None not in values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            compared[name] = {"mean": statistics.fmean(values), "spread": spread}
    return {"folds": folds, **compared}


def _span(times: npt.NDArray[np.int64]) -> tuple[str, str]:
    first, last = (moment_of(int(at)).isoformat() for at in (times.min(), times.max()))
    return first, last
