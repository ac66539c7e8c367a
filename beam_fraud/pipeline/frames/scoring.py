"""Score rows and compute features in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.decider import Pair, decide_block, explain_block
from beam_fraud.decisions.decision import DecidedRow, decided_rows
from beam_fraud.decisions.inputs import DecisionInputs
from beam_fraud.decisions.linked_values import LinkedColumns
from beam_fraud.decisions.reasons.reasons import Reasons, reasons_of
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import Fired, RuleSet
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import (
    FeatureSet,
    RowFeatures,
    Values,
    feature_matrix,
    feature_table,
    table_schema,
)
from beam_fraud.features.velocity.columns import with_columns
from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import predict_scores
from beam_fraud.pipeline.frames.rows import (
    Checked,
    Files,
    OnInvalid,
    Transactions,
    bundle_of,
    read,
    schema_of,
)
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.stages import SCORED

#: Rows scored together, as in the pipeline.
_BLOCK_ROWS = 50_000
Block = npt.NDArray[np.float64]


#: Type: the probabilities of fraud, float64[n], of a block of features, float64[n, features].
Predict = Callable[[Block], Block]


class ScoredRows(NamedTuple):
    """The scores of n transactions that are values."""

    #: float64[n, features], the model's input.
    block: Block
    #: float64[n].
    scores: Block
    #: The rules that hold; None without rules.
    fired: Fired | None


class Scorer:
    """A model and rules: the steps of the graph in plain calls.

    The caller limits OpenMP and BLAS to one thread, as in the graph, so that sums are equal.
    """

    def __init__(
        self,
        bundle: Bundle,
        features: FeatureSet,
        rules: RuleSet | None,
        reasons: Reasons | None,
        predict: Predict | None = None,
        kept: DecisionInputs | None = None,
        audit: AuditLane | None = None,
        linked: LinkedColumns | None = None,
    ) -> None:
        """Load the model.

        Args:
          bundle: bundle of the model.
          features: the model's features in the schema of the transactions.
          rules: rules that may overrule the model, or None.
          reasons: explains the model; None for no reasons.
          predict: predicts as the bundle's model does; None for the model itself.
          kept: what rows keep of the inputs of their decisions, or None.
          audit: which unflagged rows get reasons as well, or None.
          linked: columns whose values decided rows have beside them, or None.

        Raises:
          FraudError: a file of the bundle is missing or changed, or the model cannot be opened.
        """
        self._bundle = bundle
        #: The model's features in the schema of the transactions.
        self.features = features
        #: The rules, or None.
        self.rules = rules
        self._predict = predict or partial(predict_scores, shared_model(bundle))
        self._row_features = RowFeatures(features)
        self._program = None if rules is None else Program(rules, features)
        #: Id of the rule set; None without rules.
        self.rules_id = None if rules is None else rules.id
        self._ruled = () if rules is None else tuple(rules.columns)
        self._reasons = reasons
        #: What rows keep of the inputs of their decisions, or None.
        self.kept = kept
        #: Which unflagged rows get reasons as well, or None.
        self.audit = audit
        #: Columns whose values decided rows have beside them, or None.
        self.linked = linked

    @property
    def model_id(self) -> str:
        """Id of the model."""
        return self._bundle.model_id

    @property
    def pair(self) -> Pair:
        """Ids of the model and the rules."""
        return self._bundle.model_id, self.rules_id

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds of the model."""
        return self._bundle.thresholds

    def decide(
        self,
        transactions: pa.RecordBatch,
        computed: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType({}),
    ) -> tuple[pa.RecordBatch, Block]:
        """Decide on n transactions.

        Args:
          transactions: rows as `Schema.transactions` describes them, with velocity features.
          computed: velocity features that are no columns, float64[n] each.

        Returns:
          n rows of `stages.SCORED` without reasons, in the same order; and the model's input,
          float64[n, features].
        """
        block = feature_matrix(transactions, self.features, computed)
        return self.rule(transactions, block, self._predict(block), computed), block

    def rule(
        self,
        transactions: pa.RecordBatch,
        block: Block,
        scores: Block,
        computed: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType({}),
    ) -> pa.RecordBatch:
        """Return the rows that `decide` returns, by the model's input and scores."""
        fired = None
        if self._program is not None:
            also = {name: computed[name] for name in self._ruled if name in computed}
            transactions = with_columns(transactions, also) if also else transactions
            fired = self._program.fired(transactions, block, scores)
        return decide_block(self._bundle, transactions, scores, fired, self.kept, self.linked)

    def score_rows(
        self, rows: Sequence[Values], computed: Sequence[Mapping[str, float]]
    ) -> ScoredRows:
        """Score a few transactions that are values, with the results of `decide`.

        Args:
          rows: n transactions, by the columns of `Schema.transactions`.
          computed: the velocity features of each.
        """
        block = self._row_features.matrix(rows, computed)
        scores = self._predict(block)
        fired = None
        if self._program is not None:
            fired = self._program.fired_of_rows(rows, computed, block, scores)
        return ScoredRows(block, scores, fired)

    def decide_rows(self, scored: ScoredRows) -> list[DecidedRow]:
        """Return the decision on each row."""
        return decided_rows(scored.scores, self._bundle.thresholds, scored.fired)

    def explain_rows(self, block: Block) -> list[list[dict[str, Any]]] | None:
        """Return the reasons of rows that people see, by the model's input; None without any."""
        return None if self._reasons is None else self._reasons.of_rows(block)

    def explain(self, decided: pa.RecordBatch, block: Block) -> pa.RecordBatch:
        """Add the reasons of rows that people see to the results of `decide`.

        Rows that keep the inputs of their decisions get the features, too.
        """
        return explain_block(decided, block, self._reasons, self.audit, self.kept)


@overload
def score(
    transactions: pd.DataFrame,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    rules: str | Path | None = None,
    reasons: int = 5,
    on_invalid: Literal["raise"] = "raise",
) -> pd.DataFrame: ...
@overload
def score(
    transactions: pd.DataFrame,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    rules: str | Path | None = None,
    reasons: int = 5,
    on_invalid: Literal["keep"],
) -> Checked[pd.DataFrame]: ...
@overload
def score(
    transactions: pa.Table | Files,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    rules: str | Path | None = None,
    reasons: int = 5,
    on_invalid: Literal["raise"] = "raise",
) -> pa.Table: ...
@overload
def score(
    transactions: pa.Table | Files,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    rules: str | Path | None = None,
    reasons: int = 5,
    on_invalid: Literal["keep"],
) -> Checked[pa.Table]: ...
def score(
    transactions: Transactions,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    rules: str | Path | None = None,
    reasons: int = 5,
    on_invalid: OnInvalid = "raise",
) -> pd.DataFrame | pa.Table | Checked[pd.DataFrame] | Checked[pa.Table]:
    """Score transactions, with the features, scores and decisions of `beam-fraud score`.

    Args:
      transactions: n rows with the columns that the bundle's schema reads: a data frame, an Arrow
        table, or paths, directories or globs of files. The order does not matter.
      model: a bundle, its directory or its URL.
      history: earlier transactions, which fill the windows of velocity features.
      rules: a TOML file of rules that raise or lower decisions.
      reasons: maximum of reasons per flagged row; 0 for none.
      on_invalid: `raise` an error for invalid rows, or `keep` them: the result is then a `Checked`,
        with dead letters beside the scores.

    Returns:
      A row for each transaction, in the order and (of a data frame) with the index of
      `transactions`: `transaction_id`, `event_time`, `account_id`, `merchant_id`, `amount`,
      `score` (float64, 0 to 1), `flagged`, `decision`, `rules`, `reasons`, `model_id`,
      `rules_id`, `shadow_rules`. A data frame for a data frame, an Arrow table for a table or
      files. Of rows with the same transaction_id only the first is scored, with a warning.

    Raises:
      UsageError: an argument is invalid.
      FraudError: the bundle, a file or a column cannot be used, or some rows are invalid.
    """
    if reasons < 0:
        raise UsageError(f"reasons={reasons}: must be 0 or more", Code.OPTION_VALUE)
    bundle = bundle_of(model)
    schema = bundle.schema
    known = vocabulary(schema, bundle.velocity_names(), scored=True)
    ruled = None if rules is None else load_rules(str(rules), known)
    features = bundle.features_in(schema, () if ruled is None else ruled.columns)
    reading = read(transactions, history, features, on_invalid)
    scorer = Scorer(bundle, features, ruled, reasons_of(bundle, reasons))
    blocks = reading.transactions.to_batches(_BLOCK_ROWS)
    # Set here only, because other code shares the process.
    with threadpool_limits(1):
        scored = [scorer.explain(*scorer.decide(block)) for block in blocks]
    return reading.result(pa.Table.from_batches(scored, SCORED), transactions, on_invalid)


@overload
def features(
    transactions: pd.DataFrame,
    schema: Schema | str | Path,
    *,
    history: Transactions | None = None,
    on_invalid: Literal["raise"] = "raise",
) -> pd.DataFrame: ...
@overload
def features(
    transactions: pd.DataFrame,
    schema: Schema | str | Path,
    *,
    history: Transactions | None = None,
    on_invalid: Literal["keep"],
) -> Checked[pd.DataFrame]: ...
@overload
def features(
    transactions: pa.Table | Files,
    schema: Schema | str | Path,
    *,
    history: Transactions | None = None,
    on_invalid: Literal["raise"] = "raise",
) -> pa.Table: ...
@overload
def features(
    transactions: pa.Table | Files,
    schema: Schema | str | Path,
    *,
    history: Transactions | None = None,
    on_invalid: Literal["keep"],
) -> Checked[pa.Table]: ...
def features(
    transactions: Transactions,
    schema: Schema | str | Path,
    *,
    history: Transactions | None = None,
    on_invalid: OnInvalid = "raise",
) -> pd.DataFrame | pa.Table | Checked[pd.DataFrame] | Checked[pa.Table]:
    """Compute the features of transactions, those of `beam-fraud features`.

    Args:
      transactions: n rows, as for `score`.
      schema: a schema, the name of a preset or a TOML file.
      history: earlier transactions, which fill the windows of velocity features.
      on_invalid: as in `score`.

    Returns:
      A row for each transaction, in the order and (of a data frame) with the index of
      `transactions`: `transaction_id`, then a float64 column for each feature, NaN where a value is
      absent; categories are text.

    Raises:
      UsageError: an argument is invalid.
      FraudError: a file or a column cannot be used, or some rows are invalid.
    """
    chosen = FeatureSet(schema_of(schema))
    reading = read(transactions, history, chosen, on_invalid)
    blocks = reading.transactions.to_batches(_BLOCK_ROWS)
    computed = [feature_table(block, chosen) for block in blocks]
    table = pa.Table.from_batches(computed, table_schema(chosen))
    return reading.result(table, transactions, on_invalid)
