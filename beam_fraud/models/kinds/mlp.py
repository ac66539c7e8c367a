"""Multilayer perceptron: scikit-learn's, which needs nothing beside it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from beam_fraud.models.kinds.base import ModelKind, refused_settings
from beam_fraud.models.kinds.prepare import scaled_columns
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.predict import set_single_threaded
from beam_fraud.models.space import Real, Space, Whole


@dataclass(frozen=True)
class MLP(ModelKind):
    """Medians for absent numbers, scaling, a column for each category, then hidden layers.

    The number of epochs is fixed: scikit-learn's own early stopping looks at the accuracy of random
    rows, which is as good as perfect where nothing is ever called a fraud. Ten are a compromise:
    twenty give 0.03 less of average precision on later ULB rows, and 0.01 more on the handbook's.
    Weights of frauds are worth 0.03 there, for ten epochs are few without them.
    """

    name: ClassVar[str] = "mlp"
    space: ClassVar[Space] = {
        "units": Whole(16, 128, log=True),
        "layers": Whole(1, 3),
        "alpha": Real(1e-5, 1e-1, log=True),
        "learning_rate": Real(3e-4, 1e-2, log=True),
        "epochs": Whole(5, 40, log=True),
        "fraud_weight": Real(1.0, 100.0, log=True),
    }

    #: Neurons of a hidden layer.
    units: int = 64
    #: Hidden layers.
    layers: int = 2
    #: L2 penalty on the weights.
    alpha: float = 1e-3
    #: Step of Adam.
    learning_rate: float = 1e-3
    #: Times that every row is seen.
    epochs: int = 10
    #: Rows of a step.
    batch: int = 256
    #: Genuine rows that a fraud weighs as much as.
    fraud_weight: float = 10.0
    #: Columns that a categorical feature has at most; rarer categories share one.
    max_categories: int = 100

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the pipeline, imputation and scaling within it; `fit` says what frauds weigh."""
        network = MLPClassifier(
            hidden_layer_sizes=(self.units,) * self.layers,
            alpha=self.alpha,
            learning_rate_init=self.learning_rate,
            batch_size=min(self.batch, len(rows.labels)),
            max_iter=self.epochs,
            n_iter_no_change=self.epochs,
            random_state=seed,
        )
        steps = [("columns", scaled_columns(rows, self.max_categories)), ("network", network)]
        return Pipeline(steps)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on rows of both classes, set to predict on one thread.

        scikit-learn's perceptron takes no weights of classes, but of rows.
        """
        model = self.estimator(rows, seed)
        weights = np.where(rows.labels == 1, self.fraud_weight, 1.0)
        # Matrices of a few hundred rows gain nothing by a second thread and lose on busy cores.
        with refused_settings(self.name), threadpool_limits(1), warnings.catch_warnings():
            # That it ends after its epochs is meant.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows.matrix, rows.labels, network__sample_weight=weights)
        set_single_threaded(model)
        return model
