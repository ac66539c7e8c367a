"""The decider of transactions: a model, its thresholds and features, and the rules beside it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.inputs import DecisionInputs
from beam_fraud.decisions.linked_values import LinkedColumns
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import Fired, RuleSet
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.predict import libraries_loaded, use_one_thread

_Floats = npt.NDArray[np.float64]
#: Type: ids of a model and of the rules beside it; None without rules.
Pair: TypeAlias = tuple[str, str | None]


def shown(pair: Pair) -> str:
    """Return the ids of what decides, for messages.

    Example:
      >>> shown(("forest@0123456789ab", "night@ba9876543210"))
      'forest@0123456789ab with the rules night@ba9876543210'
    """
    model, rules = pair
    return model if rules is None else f"{model} with the rules {rules}"


@dataclass(frozen=True)
class Decider:
    """A model and the rules beside it, small enough to be sent to every worker."""

    #: The model.
    bundle: Bundle
    #: The model's features, with those for the rules, in the schema of the transactions.
    features: FeatureSet
    #: Rules that may overrule the model, or None.
    rules: RuleSet | None = None
    #: Whether rows keep the inputs of their decisions.
    keep_features: bool = False
    #: Which unflagged rows people see as well, with reasons like flagged ones; None for none.
    audit: AuditLane | None = None
    #: Columns whose values decided rows have beside them, to link cases; or None.
    linked: LinkedColumns | None = None

    @property
    def kept(self) -> DecisionInputs | None:
        """The inputs of decisions that rows keep, or None."""
        return DecisionInputs.of(self.features, self.rules) if self.keep_features else None

    @property
    def pair(self) -> Pair:
        """Ids of the model and the rules."""
        return self.bundle.model_id, None if self.rules is None else self.rules.id

    @property
    def context(self) -> AlertContext:
        """The settings that alerts need beside their rows."""
        thresholds, terms = self.bundle.thresholds, () if self.rules is None else self.rules.terms
        timezone = self.features.schema.timezone
        return AlertContext(timezone, thresholds.review, thresholds.decline, terms)


class OpenDecider:
    """A decider in use by the threads of a process: each part is opened once, when it is needed.

    Args:
      decider: what decides.
      reasons: maximum of reasons per flagged row; 0 for none.
      known: another one, whose model is not opened and explained again if it is the same.
    """

    def __init__(self, decider: Decider, reasons: int, known: OpenDecider | None = None) -> None:
        self.decider = decider
        self.context = decider.context
        self._kept = decider.kept
        self._most = reasons
        self._model: Any = None
        self._program: Program | None = None
        self._reasons: Reasons | None = None
        if known is not None and known.decider.bundle == decider.bundle:
            # Rules change much more often than models, whose explainers take long to make.
            self._model, self._reasons = known._model, known._reasons
        self._opening = threading.RLock()

    def open(self) -> None:
        """Open every part, so that no transaction waits for it.

        Raises:
          FraudError: a file of the bundle is missing or changed, the model cannot be opened, or a
            list cannot be read.
        """
        _ = self.model, self.program, self.reasons

    @property
    def model(self) -> Any:
        """The fitted classifier."""
        if self._model is None:
            with self._opening:
                self._model = shared_model(self.decider.bundle)
                libraries_loaded()
        return self._model

    @property
    def program(self) -> Program | None:
        """The compiled rules, or None without rules."""
        rules = self.decider.rules
        if self._program is None and rules is not None:
            with self._opening:
                self._program = self._program or Program(rules, self.decider.features)
        return self._program

    @property
    def reasons(self) -> Reasons | None:
        """The explainer of the scores, or None without reasons."""
        if self._reasons is None and self._most:
            with self._opening:
                if self._reasons is None:
                    self._reasons = Reasons.of(self.decider.bundle, self._most)
                    libraries_loaded()
        return self._reasons

    def decide(
        self, transactions: pa.RecordBatch, block: _Floats, scores: _Floats
    ) -> tuple[pa.RecordBatch, Fired | None]:
        """Decide on n transactions.

        Args:
          transactions: rows as `Schema.transactions` describes them, with velocity features.
          block: float64[n, features], the model's input.
          scores: float64[n].

        Returns:
          n rows of `stages.SCORED` without reasons, in the same order, with the inputs of their
          decisions if they keep them, and linked values; and the rules that hold.
        """
        fired, decider = self.fired(transactions, block, scores), self.decider
        decided = decide_block(
            decider.bundle, transactions, scores, fired, self._kept, decider.linked
        )
        return decided, fired

    def fired(self, transactions: pa.RecordBatch, block: _Floats, scores: _Floats) -> Fired | None:
        """Return the rules that hold for n transactions, or None without rules."""
        program = self.program
        return None if program is None else program.fired(transactions, block, scores)

    def explain(self, scored: pa.RecordBatch, block: _Floats) -> pa.RecordBatch:
        """Add reasons to rows of `stages.SCORED` that people see, by the model's input.

        Rows that keep the inputs of their decisions get the features, too.
        """
        if self.reasons is not None:
            use_one_thread()
        return explain_block(scored, block, self.reasons, self.decider.audit, self._kept)


def decide_block(
    bundle: Bundle,
    transactions: pa.RecordBatch,
    scores: _Floats,
    fired: Fired | None,
    kept: DecisionInputs | None,
    linked: LinkedColumns | None,
) -> pa.RecordBatch:
    """Decide on n transactions; append the inputs of the decisions, then the linked values.

    Args:
      bundle: the model that decides.
      transactions: rows as `Schema.transactions` describes them, with velocity features.
      scores: float64[n].
      fired: the rules that hold; None without rules.
      kept: the inputs that rows keep, or None.
      linked: columns whose values rows have beside them, or None.

    Returns:
      n rows of `stages.SCORED` without reasons and features, in the same order.
    """
    decided = decide(transactions, scores, bundle.thresholds, bundle.model_id, fired)
    if kept is not None:
        decided = kept.with_rule_inputs(decided, transactions, fired)
    return decided if linked is None else linked.beside(decided, transactions)


def explain_block(
    decided: pa.RecordBatch,
    block: _Floats,
    reasons: Reasons | None,
    audit: AuditLane | None,
    kept: DecisionInputs | None,
) -> pa.RecordBatch:
    """Add reasons to the n rows of `decide_block` that people see; append the features.

    Args:
      decided: the rows.
      block: float64[n, features], the model's input.
      reasons: explains the model; None for no reasons.
      audit: which unflagged rows people see as well; None for none.
      kept: the inputs that rows keep; None if they keep none, nor features.
    """
    if reasons is not None:
        seen = None if audit is None else audit.seen(decided)
        decided = reasons.add(decided, block, seen)
    return decided if kept is None else kept.with_features(decided, block)
