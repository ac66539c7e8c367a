"""Figures of all traffic, estimated from the transactions that people saw and labelled.

What a model flags is labelled; of the rest, an audit shows people a random share. Each labelled
transaction stands for `1 / probability` transactions (Horvitz and Thompson, 1952), so that a fraud
that the audit found counts for all those that the model missed. Ranking figures divide weighted
sums by weighted sums (Hajek, 1971).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import chi2
from sklearn.metrics import average_precision_score

from beam_fraud.evaluation.bootstrap import (
    COVERED,
    Cuts,
    Interval,
    Stratum,
    affordable_resamples,
    cuts_of,
    interval_of,
    resamples,
)
from beam_fraud.evaluation.explore.rows import wilson
from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.records.label_file import UNKNOWN

Mask = npt.NDArray[np.bool_]
_TAIL = (1 - COVERED) / 2
#: Figures of all traffic of any model, by `weighted_figures`.
TRAFFIC_KEYS = ("traffic_recall", "traffic_precision", "traffic_ap")
#: Frauds that the audit has to find for a recall that says something.
FEWEST_FRAUDS = 10
#: Half the width of an interval of recall that an audit should reach.
_NARROW = 0.05
#: Share of the rows that people saw below which missing labels are worth a warning.
_LABELLED = 0.95


@dataclass(frozen=True)
class SeenRows:
    """The transactions of a model that people saw: flagged and audited ones."""

    #: bool[n]: flagged; the others are audited.
    flagged: Mask
    #: int8[n]: 1 is fraud, 0 genuine, `UNKNOWN` without a label.
    labels: Labels
    #: float64[n].
    scores: Floats
    #: float64[n]: with which probability people saw it; 1 for a flagged one.
    probability: Floats
    #: int64[n]: a number for each account from 0 on; None without accounts.
    accounts: Ints | None

    @property
    def labelled(self) -> Mask:
        """bool[n]: those with a label."""
        return np.asarray(self.labels != UNKNOWN, dtype=np.bool_)


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Traffic:
    """Figures of all traffic of a model."""

    #: Flagged transactions, and those of them with a label.
    flagged: int
    flagged_labelled: int
    #: Audited transactions, those with a label, and the frauds among them.
    audited: int
    audited_labelled: int
    audited_frauds: int
    #: Estimated number of all transactions, of frauds, and of those that were not flagged.
    transactions: float
    frauds: Estimate
    missed: Estimate
    precision: Estimate
    recall: Estimate
    average_precision: Estimate
    roc_auc: Estimate
    #: Recall as it looks without the probabilities: of the labelled transactions alone.
    unweighted_recall: float | None
    #: Resamples, and what was resampled, for the intervals of the ranking figures.
    resamples: int
    unit: str
    warnings: tuple[str, ...]


def estimate(seen: SeenRows, *, count: int = 1000, seed: int = 0) -> Traffic:
    """Estimate the figures of all traffic.

    The interval of missed frauds is that of a weighted sum of Poisson counts (Dobson et al., 1991;
    with equal weights the exact one of Garwood, 1936), narrowed by the share that was looked at. It
    also holds for few frauds, or none, where a bootstrap has nothing to draw from. That of recall
    follows from the ratio of missed to caught frauds (Donner and Zou, 2012). Ranking figures are
    resampled by account.

    Rows without a label are taken to be like the others: the flagged, and the audited ones.

    Args:
      seen: n rows.
      count: number of resamples; fewer if there are too many units.
      seed: of the draws.
    """
    labelled, flagged = seen.labelled, seen.flagged
    weights = _weights(seen)
    fraud = labelled & (seen.labels == 1)
    caught = _caught(seen)
    missed = _missed(weights[~flagged & labelled], fraud[~flagged & labelled])
    found = int(fraud[~flagged].sum())
    recall = Estimate(None, None)
    if caught.value is not None and missed.value is not None and caught.value + missed.value > 0:
        value = caught.value / (caught.value + missed.value)
        recall = Estimate(value, _recall_interval(caught, missed))
    hits = int(fraud[flagged].sum())
    ranked, unit, drawn = _ranked(seen, weights, count, seed)
    if found < FEWEST_FRAUDS:
        # Resamples of a few frauds do not tell how many others there are.
        ranked = {name: Estimate(each.value, None) for name, each in ranked.items()}
    traffic = Traffic(
        flagged=int(flagged.sum()),
        flagged_labelled=int((flagged & labelled).sum()),
        audited=int((~flagged).sum()),
        audited_labelled=int((~flagged & labelled).sum()),
        audited_frauds=found,
        transactions=float(flagged.sum() + (1 / seen.probability[~flagged]).sum()),
        frauds=_sum(caught, missed),
        missed=missed,
        precision=_share(hits, int((flagged & labelled).sum()), int(flagged.sum())),
        recall=recall,
        average_precision=ranked["average_precision"],
        roc_auc=ranked["roc_auc"],
        unweighted_recall=hits / (hits + found) if hits + found else None,
        resamples=drawn,
        unit=unit,
        warnings=(),
    )
    return Traffic(**{**vars(traffic), "warnings": tuple(_warnings(traffic, seen))})


def weighted_figures(
    labels: Labels, scores: Floats, threshold: float, weights: Floats
) -> dict[str, float | None]:
    """Return precision, recall and average precision of all traffic, of any model.

    Args:
      labels: int8[n] of all rows, 1 is fraud; unlabelled rows are 0.
      scores: float64[n].
      threshold: a score of at least this is flagged.
      weights: float64[n]: how many transactions a fraud stands for.
    """
    fraud, flagged = labels == 1, scores >= threshold
    frauds, caught = float(weights[fraud].sum()), float(weights[fraud & flagged].sum())
    both = fraud.any() and not fraud.all()
    return {
        "traffic_recall": caught / frauds if frauds else None,
        # The number of flagged rows is known.
        "traffic_precision": min(caught / int(flagged.sum()), 1.0) if flagged.any() else None,
        "traffic_ap": float(average_precision_score(labels, scores, sample_weight=weights))
        if both
        else None,
    }


def _weights(seen: SeenRows) -> Floats:
    """Return how many transactions each labelled one stands for, float64[n]; 0 without a label."""
    weights = np.zeros(len(seen.labels))
    for lane in (seen.flagged, ~seen.flagged):
        of_lane = lane & seen.labelled
        if of_lane.any():
            response = of_lane.sum() / lane.sum()
            weights[of_lane] = 1 / (seen.probability[of_lane] * response)
    return weights


def _share(hits: int, trials: int, of: int) -> Estimate:
    """Return the share of hits in `of` rows, of which `trials` were looked at."""
    if not trials:
        return Estimate(None, None)
    share = hits / trials
    (low,), (high,) = wilson([hits], [trials])
    # Nothing is unknown of a whole that was looked at (finite population correction).
    narrowed = float(np.sqrt(1 - trials / of))
    ends = (share - (share - float(low)) * narrowed, share + (float(high) - share) * narrowed)
    return Estimate(share, Interval(*ends))


def _caught(seen: SeenRows) -> Estimate:
    """Return the number of flagged frauds."""
    rows, labelled = int(seen.flagged.sum()), seen.flagged & seen.labelled
    if not rows:
        return Estimate(0.0, Interval(0.0, 0.0))
    share = _share(int((seen.labels[labelled] == 1).sum()), int(labelled.sum()), rows)
    if share.value is None or share.interval is None:
        return share
    return Estimate(
        share.value * rows, Interval(share.interval.low * rows, share.interval.high * rows)
    )


def _missed(weights: Floats, fraud: Mask) -> Estimate:
    """Return the number of frauds that were not flagged.

    Args:
      weights: float64[a], of labelled audited rows.
      fraud: bool[a].
    """
    if not len(weights):
        return Estimate(None, None)
    found, of_frauds = int(fraud.sum()), weights[fraud]
    total = float(of_frauds.sum())
    low, high = _poisson(found)
    if found:
        spread = float(np.sqrt((of_frauds**2 * (1 - 1 / of_frauds)).sum() / found))
    else:
        # One more would have weighed as much as the heaviest row.
        spread = float(weights.max() * np.sqrt(1 - 1 / weights.max()))
    ends = Interval(max(total + spread * (low - found), found), total + spread * (high - found))
    return Estimate(total, ends)


def _poisson(found: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson count (Garwood, 1936)."""
    low = float(chi2.ppf(_TAIL, 2 * found)) / 2 if found else 0.0
    return low, float(chi2.ppf(1 - _TAIL, 2 * found + 2)) / 2


def _ratio(one: Estimate, other: Estimate) -> Interval | None:
    """Return the interval of a ratio of independent estimates (Donner and Zou, 2012)."""
    if one.value is None or other.value is None or one.interval is None or other.interval is None:
        return None
    a, b = one.value, other.value
    (low_a, high_a), (low_b, high_b) = (
        (each.low, each.high) for each in (one.interval, other.interval)
    )
    upper = float("inf")
    if low_b > 0 and 2 * b > low_b:
        part = high_a * low_b * (2 * a - high_a) * (2 * b - low_b)
        upper = (a * b + np.sqrt(max((a * b) ** 2 - part, 0))) / (low_b * (2 * b - low_b))
    lower = 0.0
    if high_b > 0 and 2 * b > high_b:
        part = low_a * high_b * (2 * a - low_a) * (2 * b - high_b)
        lower = (a * b - np.sqrt(max((a * b) ** 2 - part, 0))) / (high_b * (2 * b - high_b))
    return Interval(float(lower), float(upper))


def _recall_interval(caught: Estimate, missed: Estimate) -> Interval | None:
    """Return the interval of recall, from that of missed over caught frauds.

    Of none caught, that ratio has no upper bound, though the audit bounds recall: its inverse does.
    """
    if caught.value:
        ratio = _ratio(missed, caught)
        return None if ratio is None else Interval(1 / (1 + ratio.high), 1 / (1 + ratio.low))
    ratio = _ratio(caught, missed)
    if ratio is None:
        return None
    return Interval(1 - 1 / (1 + ratio.low), 1 - 1 / (1 + ratio.high))


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Return the sum of independent estimates; intervals as their squares add up."""
    if one.value is None or other.value is None or one.interval is None or other.interval is None:
        return Estimate(None, None)
    below = np.hypot(one.value - one.interval.low, other.value - other.interval.low)
    above = np.hypot(one.interval.high - one.value, other.interval.high - other.value)
    total = one.value + other.value
    return Estimate(total, Interval(float(total - below), float(total + above)))


_RANKED = ("average_precision", "roc_auc")


def _ranked(
    seen: SeenRows, weights: Floats, count: int, seed: int
) -> tuple[dict[str, Estimate], str, int]:
    """Return the ranking figures by weighted rows, what was resampled, and how often."""
    chosen = seen.labelled
    labels, scores, weights = seen.labels[chosen], seen.scores[chosen], weights[chosen]
    unit = "rows" if seen.accounts is None else "accounts"
    if len(np.unique(labels)) < 2:
        return dict.fromkeys(_RANKED, Estimate(None, None)), unit, 0
    cuts = cuts_of(labels, scores, float(scores.max()))
    own = np.arange(len(labels)) if seen.accounts is None else seen.accounts[chosen]
    units = np.unique(own, return_inverse=True)[1]
    counts = [_in_cells(cuts, weights * (labels == label), units) for label in (1, 0)]
    observed = cuts.figures(*(np.asarray(each.sum(axis=1)).reshape(1, -1) for each in counts))
    count = affordable_resamples(count, int(units.max()) + 1)
    strata = list(_strata(counts, np.bincount(units, labels == 1) > 0))
    drawn: dict[str, list[Floats]] = {name: [] for name in _RANKED}
    for ((frauds, genuine),) in resamples(strata, [cuts], count, seed):
        figures = cuts.figures(frauds, genuine)
        for name in _RANKED:
            drawn[name].append(figures[name])
    estimates = {
        name: Estimate(float(observed[name][0]), interval_of(np.concatenate(drawn[name])))
        for name in _RANKED
    }
    return estimates, unit, count


def _in_cells(cuts: Cuts, weights: Floats, units: Ints) -> csr_array:
    """Return the weight that each unit adds to each cell, sparse [cells, units]."""
    shape = (cuts.count, int(units.max()) + 1)
    return csr_array((weights, (cuts.cells, units)), shape=shape)


def _strata(counts: list[csr_array], defrauded: Mask) -> Iterator[Stratum]:
    for members in (defrauded, ~defrauded):
        frauds, genuine = (each[:, np.flatnonzero(members)] for each in counts)
        yield Stratum(np.ones(int(members.sum()), np.int64), (frauds,), (genuine,))


def _warnings(traffic: Traffic, seen: SeenRows) -> Iterator[str]:
    lanes = (
        ("flagged", traffic.flagged, traffic.flagged_labelled),
        ("audited", traffic.audited, traffic.audited_labelled),
    )
    for name, rows, labelled in lanes:
        if rows and labelled < _LABELLED * rows:
            yield (
                f"{rows - labelled:,} of {rows:,} {name} transactions have no label; the figures "
                "take them to be like the labelled ones"
            )
    if not traffic.audited_labelled:
        yield "no audited transaction has a label, so nothing tells how much fraud was missed"
        return
    interval, recall = traffic.recall.interval, traffic.recall.value
    if recall is None or interval is None:
        return
    if traffic.audited_frauds < FEWEST_FRAUDS and interval.high - interval.low > 2 * _NARROW:
        yield (
            f"the audit is small: {traffic.audited_labelled:,} labelled transactions with "
            f"{traffic.audited_frauds:,} frauds leave a recall of {interval.low:.1%} to "
            f"{interval.high:.1%}; {_advice(traffic, seen)}"
        )


def _advice(traffic: Traffic, seen: SeenRows) -> str:
    """Return which share of the unflagged transactions would narrow the interval."""
    share = float(np.median(seen.probability[~seen.flagged]))
    recall = traffic.recall.value or 0.0
    # The relative error of a count is one over its root.
    needed = (1.96 * recall * (1 - recall) / _NARROW) ** 2
    wanted = share * max(needed, FEWEST_FRAUDS) / max(traffic.audited_frauds, 1)
    if wanted >= 1:
        return "look at a longer time"
    return f"a longer time, or an --audit-share of {wanted:.1%}, narrows that"
