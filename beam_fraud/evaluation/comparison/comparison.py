"""Compare a new side with others on the scored rows of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from beam_fraud.evaluation.comparison.breakdown import (
    accounts_of,
    capacity_of,
    days_of,
    outcome_of,
    segments_of,
)
from beam_fraud.evaluation.comparison.changed import ChangedRows
from beam_fraud.evaluation.comparison.figures import (
    Change,
    Comparison,
    Outcome,
    Prices,
    RuleEffect,
    SideFigures,
)
from beam_fraud.evaluation.comparison.finding import sentence_of, warnings_of
from beam_fraud.evaluation.comparison.maturity import Maturity, maturity_of
from beam_fraud.evaluation.comparison.ranking import Grouping, Rankings, rank
from beam_fraud.evaluation.comparison.resampling import FIGURES, Resamples, resample
from beam_fraud.evaluation.comparison.scored_rows import (
    LATER_OF_SIDE,
    OF_LABEL,
    OF_ROW,
    OF_SIDE,
    Partition,
    ScoredRows,
    Side,
)
from beam_fraud.evaluation.comparison.segmentation import Segmenter, segmenters_of
from beam_fraud.evaluation.comparison.swap import swap_set
from beam_fraud.evaluation.comparison.tally import Arrays, Cut, RuleTally, Tally, arrays_of
from beam_fraud.evaluation.rows import Ints
from beam_fraud.features.hashing import IdHash
from beam_fraud.models.label_delay import estimate_delays
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.label_file import NEVER, read_label_file
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.event_time import moment_of


@dataclass(frozen=True)
class ComparisonSettings:
    """Options of a comparison."""

    #: Prices of a missed fraud and a false alarm.
    prices: Prices
    #: Minimum age of rows whose labels count, microseconds; None counts all.
    maturity: int | None = None
    #: A file of labels that replace those of the archive.
    labels: Path | None = None
    #: Columns of the scored rows by whose values figures are shown.
    segments: tuple[str, ...] = ()
    #: Time zone of days.
    timezone: str = "UTC"
    #: Bootstrap resamples, and the seed of their draws.
    resamples: int = 1000
    seed: int = 0


def compare(
    partitions: Sequence[Partition],
    new: Side,
    against: Sequence[Side],
    settings: ComparisonSettings,
    changed: Path | None = None,
) -> Comparison:
    """Compare a new side with others.

    The rows are read twice, block by block. In memory are the rows that a side flags or that are
    fraud (about 100 bytes each), the labels of a file (17 bytes each), and the counts of days,
    segments and cells between the scores of frauds: nothing grows with other rows.

    Args:
      partitions: the partitions of the archive.
      new: the side to decide on.
      against: the others; without any, the new one is measured alone.
      settings: the options.
      changed: file of the rows that sides decide differently; None writes none.

    Raises:
      UsageError: the scored rows lack the column of a segment.
      FraudError: a file cannot be read or written.
    """
    sides = (new, *against)
    scored = ScoredRows(partitions, sides)
    file = None if settings.labels is None else read_label_file(settings.labels)
    span = scored.bounds("event_time")
    newest = scored.bounds("labelled_at")
    moments = [*(span or ())[1:], *(newest or ())[1:]]
    if file is not None and file.newest is not None:
        moments.append(file.newest)
    as_of = max(moments, default=0)
    cut = Cut(file, as_of - (settings.maturity or 0), settings.timezone)
    segmenters = segmenters_of(settings.segments)
    rows = ChangedRows(sides, settings.segments, changed)
    try:
        tally = Tally(sides, segmenters, rows.add)
        hashing = IdHash.random()
        columns = dict.fromkeys((*OF_ROW, *OF_LABEL, *settings.segments))
        with doing("comparing", lambda: f"{tally.rows:,} rows"):
            for block in scored.blocks(list(columns), (*OF_SIDE, *LATER_OF_SIDE)):
                tally.add(block, arrays_of(block, cut, hashing))
        rows.close()
    except BaseException:
        rows.give_up()
        raise
    left_out = scored.left_out
    kept, codes = tally.kept()
    groupings = _groupings(segmenters, tally, kept, codes)
    with doing("ranking frauds among all rows"):
        rankings = rank(scored, sides, kept, codes, groupings, cut)
    resampled = resample(
        kept,
        [ranking.whole for ranking in rankings],
        settings.prices,
        count=settings.resamples,
        seed=settings.seed,
    )
    figures = _sides(sides, tally, kept, rankings, resampled, settings.prices)
    mature = kept.take(kept.mature)
    fraud = mature.labels == 1
    maturity = _maturity(tally, kept, as_of, settings.maturity)
    changes = tuple(_change(kept, place, figures, resampled) for place in range(1, len(sides)))
    found = Comparison(
        sentence="",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        partitions=len(partitions),
        rows=tally.rows,
        left_out=left_out,
        span=None if span is None else (_written(span[0]), _written(span[1])),
        timezone=settings.timezone,
        days_count=len(tally.days),
        mature_rows=tally.mature,
        mature_days=len(tally.mature_days),
        labelled=tally.labelled,
        frauds=int(fraud.sum()),
        fraud_amount=float(np.maximum(mature.amounts[fraud], 0).sum()),
        maturity=maturity,
        prices=settings.prices,
        warnings=(),
        sides=figures,
        changes=changes,
        days=days_of(tally.days, kept, len(sides)),
        segments=segments_of(groupings, tally.segments, kept, codes, rankings, settings.prices),
        changed_rows=rows.rows,
        sample=rows.sample(),
        resamples=resampled.count,
        seed=settings.seed,
    )
    return replace(found, sentence=sentence_of(found), warnings=warnings_of(found))


def _groupings(
    segmenters: Sequence[Segmenter], tally: Tally, kept: Arrays, codes: Sequence[Ints]
) -> tuple[Grouping, ...]:
    groupings = []
    for segmenter, totals, own in zip(segmenters, tally.segments, codes, strict=True):
        frauds = np.bincount(own[kept.labels == 1], minlength=len(totals))
        groupings.append(Grouping(segmenter, *segmenter.groups(totals, frauds)))
    return tuple(groupings)


def _sides(
    sides: Sequence[Side],
    tally: Tally,
    kept: Arrays,
    rankings: Sequence[Rankings],
    resampled: Resamples,
    prices: Prices,
) -> tuple[SideFigures, ...]:
    mature = kept.take(kept.mature)
    days = len(tally.mature_days)
    figures = []
    for place, side in enumerate(sides):
        frauds, genuine, unlabelled = tally.histograms[place]
        flagged = int(kept.flagged[place].sum())
        figures.append(
            SideFigures(
                key=side.key,
                name=side.name,
                model_id=side.model_id,
                rule_set=side.rule_set,
                flagged=flagged,
                flags_per_day=flagged / max(len(tally.days), 1),
                outcome=outcome_of(mature, place, rankings[place].whole, prices),
                intervals=resampled.intervals(place),
                accounts=(
                    accounts_of(mature, place, days) if tally.without_account < tally.rows else None
                ),
                capacity=capacity_of(kept, place, rankings[place].whole, days),
                score_frauds=frauds,
                score_genuine=genuine,
                score_unlabelled=unlabelled,
                rules=tuple(
                    _effect(name, rule, prices) for name, rule in sorted(tally.rules[place].items())
                ),
            )
        )
    return tuple(figures)


def _effect(name: str, rule: RuleTally, prices: Prices) -> RuleEffect:
    gains = [
        prices.cost(float(rows.frauds), rows.fraud_amount, -float(rows.genuine))
        for rows in (rule.alone, rule.let_pass)
    ]
    gain = gains[0] - gains[1]
    return RuleEffect(name, rule.fired, rule.alone, rule.let_pass, gain, rule.shadow)


def _change(
    kept: Arrays, place: int, figures: Sequence[SideFigures], resampled: Resamples
) -> Change:
    swap = swap_set(kept.flagged[0], kept.flagged[place], kept.labels, kept.amounts)
    observed = [_observed(side.outcome) for side in figures]
    return Change(
        against=figures[place].key,
        swap=swap,
        swap_share=swap.share,
        differences=resampled.differences(place, observed),
    )


def _observed(outcome: Outcome) -> dict[str, float | None]:
    values = asdict(outcome)
    return {name: values[name] for name in FIGURES}


def _maturity(tally: Tally, kept: Arrays, as_of: int, waited: int | None) -> Maturity:
    measured = (kept.known == 1) & (kept.known_at != NEVER)
    times = kept.times[measured]
    hours = np.array(list(tally.hours), dtype=np.int64)
    rows = np.array(list(tally.hours.values()), dtype=np.int64)
    return maturity_of(
        estimate_delays(kept.known_at[measured] - times, as_of - times),
        int(measured.sum()),
        np.maximum(as_of - hours * HOUR - HOUR // 2, 0),
        rows,
        int((kept.labels == 1).sum()),
        waited=waited,
        as_of=_written(as_of),
    )


def _written(micros: int) -> str:
    return moment_of(micros).isoformat(timespec="seconds")
