"""Compare two rule sets beside one model on the same transactions, before either decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decision import DECISIONS, decision_codes
from beam_fraud.decisions.rules.difference import RuleChange, RulesDifference
from beam_fraud.decisions.rules.rule import Fired
from beam_fraud.evaluation.comparison.changed import lowest
from beam_fraud.evaluation.comparison.swap import SwapCell, SwapSet, swap_cell, swap_set
from beam_fraud.evaluation.rows import Floats, Labels
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.event_time import moment_of

_Codes = npt.NDArray[np.int8]
_NOTHING = SwapCell(0, 0.0, 0, 0.0, 0)
#: Codes of different decisions.
_PAIRS = [(old, new) for old in range(3) for new in range(3) if old != new]


@dataclass(frozen=True)
class Transition:
    """Rows whose decision changes from one to another."""

    #: The decision by the old and by the new rules.
    old: str
    new: str
    rows: SwapCell


@dataclass(frozen=True)
class ChangeEffect:
    """The effect of one rule's change on the old rules, without the other changes."""

    #: Name of the rule; `added`, `removed` or `changed`; changed field to its old and new value.
    rule: str
    change: str
    fields: dict[str, tuple[str, str]]
    #: Rows that the rule fires on in each rule set.
    fired_old: int
    fired_new: int
    #: Rows that it alone flags, that it alone lets pass, and all that it alone decides otherwise.
    adds: SwapCell
    removes: SwapCell
    otherwise: SwapCell


@dataclass(frozen=True)
class SampledRow:
    """A row that the rule sets decide differently."""

    transaction_id: str
    #: ISO 8601, UTC.
    event_time: str
    amount: float
    #: The model's; None without a model.
    score: float | None
    #: 1 is fraud, 0 genuine, None unknown.
    label: int | None
    decision_old: str
    decision_new: str
    rules_old: tuple[str, ...]
    rules_new: tuple[str, ...]


@dataclass(frozen=True)
class RuleSetsCompared:
    """The figures of two rule sets."""

    #: Names for people.
    old: str
    new: str
    #: Id of the model beside them; None without one.
    model_id: str | None
    rows: int
    #: Rows with a label, and frauds among them.
    labelled: int
    frauds: int
    #: Flagged rows by each.
    flagged_old: int
    flagged_new: int
    #: Rows that both flag, that the new rules alone flag, and that the old rules alone flag.
    both: SwapCell
    only_new: SwapCell
    only_old: SwapCell
    #: Rows that one alone flags among those that either flags; None if none is flagged.
    swap_share: float | None
    #: All rows that are decided otherwise, and the same by old and new decision.
    otherwise: SwapCell
    transitions: tuple[Transition, ...]
    #: The rules that differ, and the number of those that do not.
    rules: tuple[ChangeEffect, ...]
    same_rules: int
    #: Newly flagged rows first, then those no longer flagged, then others.
    sample: tuple[SampledRow, ...]


class RuleSetComparison:
    """Sums over blocks of rows on which both rule sets were evaluated.

    Args:
      changes: what differs between them.
      thresholds: of the model; 1 without one.
    """

    def __init__(self, changes: RulesDifference, thresholds: Thresholds) -> None:
        self._changes = changes
        self._thresholds = thresholds
        self._rows = self._labelled = 0
        self._frauds = 0
        self._swap = SwapSet(_NOTHING, _NOTHING, _NOTHING)
        self._transitions: dict[tuple[int, int], SwapCell] = {}
        self._effects = {
            change.name: ChangeEffect(
                *(change.name, change.kind, change.fields, 0, 0),
                *(_NOTHING, _NOTHING, _NOTHING),
            )
            for change in changes.changes
        }
        self._sampled: list[pa.Table] = []

    def add(
        self,
        rows: pa.RecordBatch,
        scores: Floats,
        labels: Labels,
        old: Fired | None,
        new: Fired | None,
    ) -> None:
        """Count a block.

        Args:
          rows: n rows as `Schema.transactions` describes them.
          scores: float64[n].
          labels: int8[n], 1 is fraud, 0 genuine, anything else unknown.
          old: the old rules that hold for them; None without rules.
          new: the new ones.
        """
        old, new = (each or _no_rules(len(scores)) for each in (old, new))
        amounts = np.asarray(rows.column("amount"), dtype=np.float64)
        before, after = (decision_codes(scores, self._thresholds, each) for each in (old, new))
        self._rows += len(scores)
        self._labelled += int(np.count_nonzero((labels == 0) | (labels == 1)))
        self._frauds += int(np.count_nonzero(labels == 1))
        self._swap += swap_set(after > 0, before > 0, labels, amounts)
        differing = before != after
        for pair in _PAIRS:
            chosen = (before == pair[0]) & (after == pair[1])
            if chosen.any():
                cell = swap_cell(chosen, labels, amounts)
                self._transitions[pair] = self._transitions.get(pair, _NOTHING) + cell
        for change in self._changes.changes:
            alone = decision_codes(scores, self._thresholds, _with_change(old, new, change))
            effect = self._effects[change.name]
            self._effects[change.name] = replace(
                effect,
                fired_old=effect.fired_old + _fired(old, change.name),
                fired_new=effect.fired_new + _fired(new, change.name),
                adds=effect.adds + swap_cell((alone > 0) & (before == 0), labels, amounts),
                removes=effect.removes + swap_cell((alone == 0) & (before > 0), labels, amounts),
                otherwise=effect.otherwise + swap_cell(alone != before, labels, amounts),
            )
        if differing.any():
            self._sample(rows, scores, labels, (before, after), (old, new), differing)

    def figures(self, old: str, new: str, model_id: str | None) -> RuleSetsCompared:
        """Return the figures of all blocks.

        Args:
          old: name of the old rules, for people.
          new: name of the new ones.
          model_id: id of the model beside them, or None.
        """
        swap = self._swap
        return RuleSetsCompared(
            old=old,
            new=new,
            model_id=model_id,
            rows=self._rows,
            labelled=self._labelled,
            frauds=self._frauds,
            flagged_old=swap.both.rows + swap.only_second.rows,
            flagged_new=swap.both.rows + swap.only_first.rows,
            both=swap.both,
            only_new=swap.only_first,
            only_old=swap.only_second,
            swap_share=swap.share,
            otherwise=sum(self._transitions.values(), _NOTHING),
            transitions=tuple(
                Transition(DECISIONS[one], DECISIONS[other], cell)
                for (one, other), cell in sorted(self._transitions.items())
            ),
            rules=tuple(self._effects.values()),
            same_rules=self._changes.same,
            sample=tuple(
                _sampled_row(row, scored=model_id is not None)
                for table in self._sampled
                for row in table.sort_by("event_time").to_pylist()
            ),
        )

    def _sample(
        self,
        rows: pa.RecordBatch,
        scores: Floats,
        labels: Labels,
        codes: tuple[_Codes, _Codes],
        fired: tuple[Fired, Fired],
        differing: npt.NDArray[np.bool_],
    ) -> None:
        """Keep the rows with the lowest hashes of ids: at random, and the same in every run."""
        before, after = codes
        groups = (before == 0, after == 0, (before > 0) & (after > 0))
        tables = []
        for group in groups:
            places = np.flatnonzero(group & differing)
            chosen = rows.take(pa.array(places))
            columns = {
                "transaction_id": chosen.column("transaction_id"),
                "event_time": chosen.column("event_time").cast(pa.int64()),
                "amount": chosen.column("amount"),
                "score": scores[places],
                "label": labels[places],
                "before": before[places],
                "after": after[places],
                "place": places,
            }
            # Names of rules cost a loop, so only of few rows.
            few = lowest(pa.table(columns))
            for name, each in zip(("rules_old", "rules_new"), fired, strict=True):
                names = _names_at(each, few.column("place").to_numpy())
                few = few.append_column(name, pa.array(names, pa.list_(pa.string())))
            tables.append(few)
        kept = self._sampled or [table.slice(0, 0) for table in tables]
        self._sampled = [lowest(pa.concat_tables(pair)) for pair in zip(kept, tables, strict=True)]


def _no_rules(rows: int) -> Fired:
    return Fired((), np.zeros((0, rows), dtype=bool))


def _fired(fired: Fired, name: str) -> int:
    for rule, places in zip(fired.rules, fired.places, strict=True):
        if rule.name == name:
            return len(places)
    return 0


def _with_change(old: Fired, new: Fired, change: RuleChange) -> Fired:
    """Return the old rules with one change, and where they hold."""
    before, after = (list(zip(each.rules, each.holds, strict=True)) for each in (old, new))
    pairs = [pair for pair in before if pair[0].name != change.name]
    pairs += [pair for pair in after if pair[0].name == change.name]
    pairs.sort(key=lambda pair: -pair[0].priority)
    rows = old.holds.shape[1]
    holds = np.array([holds for _, holds in pairs], dtype=bool).reshape(len(pairs), rows)
    return Fired(tuple(rule for rule, _ in pairs), holds)


def _names_at(fired: Fired, places: npt.NDArray[np.int64]) -> list[list[str]]:
    """Return the names of the rules that hold, without those in shadow, of some rows."""
    numbered = [(number, rule.name) for number, rule in enumerate(fired.rules) if not rule.shadow]
    return [[name for number, name in numbered if fired.holds[number, at]] for at in places]


def _sampled_row(row: dict[str, Any], *, scored: bool) -> SampledRow:
    return SampledRow(
        transaction_id=row["transaction_id"],
        event_time=moment_of(row["event_time"]).isoformat(),
        amount=row["amount"],
        score=row["score"] if scored else None,
        label=row["label"] if row["label"] in (0, 1) else None,
        decision_old=DECISIONS[row["before"]],
        decision_new=DECISIONS[row["after"]],
        rules_old=tuple(row["rules_old"]),
        rules_new=tuple(row["rules_new"]),
    )
