"""Score transactions by plain calls, without a pipeline."""

from __future__ import annotations

import pyarrow as pa
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.predict import predict_scores


class Scorer:
    """A model and rules: the steps of the graph in plain calls."""

    def __init__(
        self, bundle: Bundle, features: FeatureSet, rules: RuleSet | None, reasons: int
    ) -> None:
        """Load the model.

        Args:
          bundle: bundle of the model.
          features: the model's features in the schema of the transactions.
          rules: rules that may overrule the model, or None.
          reasons: maximum of reasons per flagged row; 0 for none.

        Raises:
          FraudError: a file of the bundle is missing or changed, or the model cannot be opened.
        """
        self._bundle = bundle
        self._features = features
        self._model = shared_model(bundle)
        self._program = None if rules is None else Program(rules, features)
        self._reasons = Reasons.of(bundle, reasons) if reasons else None

    def score(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Score n transactions.

        Args:
          transactions: rows as `Schema.transactions` describes them, with velocity features.

        Returns:
          n rows of `stages.SCORED`, in the same order.
        """
        block = feature_matrix(transactions, self._features)
        # As in the graph, so that BLAS sums are equal; set here only, because other code shares the
        # process.
        with threadpool_limits(1):
            scores = predict_scores(self._model, block)
            fired = None
            if self._program is not None:
                fired = self._program.fired(transactions, block, scores)
            bundle = self._bundle
            scored = decide(transactions, scores, bundle.thresholds, bundle.model_id, fired)
            return scored if self._reasons is None else self._reasons.add(scored, block)
