"""Count the rows of several archives, and of what streams and servers counted themselves."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

import numpy as np

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.drift import counts_of, letters_in, letters_of, with_letters, zone_of
from beam_fraud.monitoring.drift.counts import NO_MODEL, ModelCounts
from beam_fraud.monitoring.drift.statistics import DECISION, LATENESS
from beam_fraud.monitoring.drift.summary import Layout, Segments, Summary
from beam_fraud.operations.drift.archive import Counted, count_archive, dead_letters_of
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.operations.drift.quality import RowsByScore
from beam_fraud.operations.drift.weights import reference_sample
from beam_fraud.records.label_file import LabelFile
from beam_fraud.storage.urls import Place

#: A note on counts of several workers.
_NO_LATENESS = (
    "how late rows arrive is not counted by several workers, which do not know each other's rows: "
    "an archive of --keep-features tells"
)
#: Notes on quality.
_UNLABELLED = "quality is that of the rows of archives: counts have no rows to find the labels of"
_PARTLY = (
    "quality lacks {days} days, the last of them {last}, some of whose rows an earlier version "
    "counted, which did not count scores by decision"
)


def count_places(
    places: Sequence[Place],
    bundle: Bundle,
    segments: Sequence[str] = (),
    labels: LabelFile | None = None,
) -> Counted:
    """Count the rows of all places that a model decided.

    Args:
      places: of archives (`count_archive`), or directories of counts (`live.read_counts`), with
        rows of other days or of other places.
      bundle: the model.
      segments: columns whose values divide the rows, too; none for those of the counts.
      labels: labels of frauds to find among the rows of archives, or None.

    Raises:
      FraudError: a place holds no rows of the model, or cannot be read.
      UsageError: the column of a segment is missing, or has too many values.
    """
    read = [(place, read_counts(place)) for place in places]
    archives = [place for place, found in read if found is None]
    # The same bins in all.
    letters = Tally[str]()
    if len(places) > 1:
        for place, found in read:
            letters.update(
                dead_letters_of(place, bundle) if found is None else letters_in(letters_of(found))
            )
    counted = [
        _of_counts(place, found, bundle, letters) for place, found in read if found is not None
    ]
    wanted = _segments(segments, [one.summary.layout for one in counted])
    for place in archives:
        counted.append(
            count_archive(place, bundle, wanted, zone_of(bundle), letters or None, labels)
        )
        # Of the first archive that has them: the same values in all.
        wanted = counted[-1].summary.layout.segments
    if len(counted) == 1:
        return counted[0]
    by_width = sorted((one.summary.layout for one in counted), key=lambda one: -len(one.measures))
    measures = {
        measure.name: measure for layout in reversed(by_width) for measure in layout.measures
    }
    ordered = dict.fromkeys(measure.name for layout in by_width for measure in layout.measures)
    layout = Layout(
        tuple(measures[name] for name in ordered),
        tuple(one for one in wanted if isinstance(one, Segments)),
    )
    total = Tally[str]()
    for one in counted:
        total.update(one.dead_letters)
    by_score, notes = [one.by_score for one in counted], [one.notes for one in counted]
    if labels is not None and 0 < len(archives) < len(counted):
        by_score = [one for one in by_score if one.newest is not None]
        notes.append((_UNLABELLED,))
    return Counted(
        Summary.merged(layout, (one.summary.within(layout) for one in counted)),
        RowsByScore.merged(by_score),
        counted[0].reference,
        sum(one.rows_other_models for one in counted),
        dict(total.most_common()),
        sum(one.dead_letters_undated for one in counted),
        tuple(dict.fromkeys(note for some in notes for note in some)),
        next((one.sample for one in reversed(counted) if one.sample is not None), None),
    )


def _of_counts(
    place: Place, found: Sequence[ModelCounts], bundle: Bundle, reasons: Mapping[str, int]
) -> Counted:
    own, scores = counts_of(found, bundle.model_id)
    if not own:
        models = ", ".join(sorted({one.model_id for one in found} - {NO_MODEL})) or "no model"
        raise FraudError(
            f"{place.shown}: has no rows of {bundle.model_id}, but of {models}; give the bundle "
            "that scored them",
            Code.PLACE_EMPTY,
        )
    # A stream that was started with other segments has begun other counts.
    layout = own[-1].layout if len(own) == 1 else _together([one.layout for one in own])
    reference = read_reference(bundle)
    sample = reference_sample(reference, bundle.features)
    others = {one.model_id for one in found} - {bundle.model_id, NO_MODEL}
    letters = letters_of(found)
    own_reasons = letters_in(letters)
    rows = Summary.merged(layout, (one.within(layout) for one in own))
    by_score = RowsByScore.of_counts(scores, rows)
    summary, undated = with_letters(rows, letters, reasons or own_reasons)
    notes = [] if layout.measure(LATENESS) else [_NO_LATENESS]
    lacking = np.setdiff1d(rows.days, by_score.summary.days)
    if len(lacking):
        notes.append(_PARTLY.format(days=len(lacking), last=np.datetime64(int(lacking[-1]), "D")))
    return Counted(
        summary,
        by_score,
        reference,
        sum(int(one.of(DECISION).sum()) for model in others for one in counts_of(found, model)[0]),
        own_reasons,
        undated,
        tuple(notes),
        None if sample is None else np.ascontiguousarray(sample),
    )


def _together(layouts: Sequence[Layout]) -> Layout:
    """Return the layout of what all have: segments of some days would look like a change."""
    shared = [one for one in layouts[0].segments if all(one in each.segments for each in layouts)]
    return Layout(layouts[0].measures, tuple(shared))


def _segments(columns: Sequence[str], layouts: Sequence[Layout]) -> tuple[str | Segments, ...]:
    """Return what divides the rows: as the counts are divided, if there are any."""
    if not layouts:
        return tuple(columns)
    shared = {one.column: one for one in _together(layouts).segments}
    if unknown := [column for column in columns if column not in shared]:
        raise UsageError(
            f"--segment {unknown[0]}: the rows were not counted by it; start the stream or server "
            "with it, too",
            Code.COLUMN_MISSING,
        )
    return tuple(shared[column] for column in columns or shared)
