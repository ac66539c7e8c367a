"""Figures of rules on labelled and unlabelled transactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.rules.rule import Fired, Rule

_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """n transactions."""

    #: float64[n].
    amounts: npt.NDArray[np.float64]
    #: bool[n]: labelled as fraud; labelled as genuine. Neither without a label.
    fraud: _Flags
    genuine: _Flags
    #: bool[n]: flagged by the model alone; all False without a model.
    by_model: _Flags
    #: bool[n]: flagged after all rules.
    flagged: _Flags


@dataclass
class Caught:
    """Counts of flagged rows."""

    #: Rows.
    rows: int = 0
    #: Labelled frauds and genuine transactions among them.
    frauds: int = 0
    genuine: int = 0
    #: Total amount of the frauds among them.
    fraud_amount: float = 0.0

    def add(self, flagged: _Flags, block: Block) -> None:
        """Count the rows of a block that are flagged, bool[n]."""
        frauds = flagged & block.fraud
        self.rows += int(np.count_nonzero(flagged))
        self.frauds += int(np.count_nonzero(frauds))
        self.genuine += int(np.count_nonzero(flagged & block.genuine))
        self.fraud_amount += float(block.amounts[frauds].sum())

    def figures(self, everything: Caught) -> dict[str, object]:
        """Return JSON-compatible figures relative to all rows; None where undefined."""
        labelled = self.frauds + self.genuine
        return {
            "fired": self.rows,
            "share": self.rows / everything.rows if everything.rows else 0.0,
            "frauds": self.frauds,
            "genuine": self.genuine,
            "precision": self.frauds / labelled if labelled else None,
            "recall": self.frauds / everything.frauds if everything.frauds else None,
            "fraud_amount_share": (
                self.fraud_amount / everything.fraud_amount if everything.fraud_amount else None
            ),
        }


class RuleFigures:
    """Sum the effects of each rule, and of all rules, over blocks."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self.everything = Caught()
        self.model = Caught()
        self.together = Caught()
        self._fired = [Caught() for _ in rules]
        self._beyond = [Caught() for _ in rules]
        self._taken_back = [Caught() for _ in rules]

    def add(self, fired: Fired, block: Block) -> None:
        """Count a block and the rules that fired for its rows."""
        self.everything.add(np.ones(len(block.amounts), dtype=bool), block)
        self.model.add(block.by_model, block)
        self.together.add(block.flagged, block)
        for number, holds in enumerate(fired.holds):
            self._fired[number].add(holds, block)
            self._beyond[number].add(holds & ~block.by_model, block)
            self._taken_back[number].add(holds & block.by_model & ~block.flagged, block)

    def of_rules(self, *, model: bool) -> dict[str, dict[str, object]]:
        """Return the figures of each rule.

        Args:
          model: whether a model is used: then include rows that a rule flags or approves against
            the model.
        """
        by_rule: dict[str, dict[str, object]] = {}
        for number, rule in enumerate(self._rules):
            figures = self._fired[number].figures(self.everything)
            about: dict[str, object] = {"decision": rule.decision, "priority": rule.priority}
            about |= {"condition": rule.written, "description": rule.description, **rule.staged}
            by_rule[rule.name] = {**about, **figures}
            if model and rule.raises:
                beyond = self._beyond[number]
                by_rule[rule.name] |= {
                    "frauds_beyond_model": beyond.frauds,
                    "genuine_beyond_model": beyond.genuine,
                }
            elif model:
                by_rule[rule.name]["frauds_let_pass"] = self._taken_back[number].frauds
        return by_rule
