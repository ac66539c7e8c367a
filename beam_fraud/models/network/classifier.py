"""A network as a scikit-learn classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from beam_fraud.models.network.fitting import Examples, Shape, Steps, empty_folder, fit_network

Floats = npt.NDArray[np.float64]
#: Rows and labels.
Labelled = tuple[Floats, npt.NDArray[Any]]


class KerasClassifier(ClassifierMixin, BaseEstimator):
    """A network that Keras fits and NumPy scores.

    Only its matrices are saved, so a bundle opens as fast as any other, and predictions, a few
    NumPy products, need not wait for JAX to compile a function for each number of rows.
    """

    def __init__(  # noqa: PLR0913  scikit-learn wants each setting
        self,
        *,
        units: int = 256,
        layers: int = 3,
        dropout: float = 0.3,
        learning_rate: float = 0.01,
        batch: int = 2048,
        epochs: int = 30,
        balanced: bool = True,
        early_stopping: bool = False,
        patience: int = 5,
        checkpoints: str = "",
        random_state: int = 0,
    ) -> None:
        """Store the settings.

        Args:
          units: units of each hidden layer.
          layers: number of hidden layers.
          dropout: dropout rate after each hidden layer but the first.
          learning_rate: learning rate of Adam.
          batch: batch size in rows.
          epochs: number of epochs; the maximum with early stopping.
          balanced: whether a row weighs 1 / the rows of its class.
          early_stopping: whether to stop once the average precision of the validation rows stops
            growing, and to restore the best epoch.
          patience: epochs without improvement before it stops.
          checkpoints: directory for `epoch_<n>.keras` of each epoch; none if empty.
          random_state: seed of everything random.
        """
        self.units = units
        self.layers = layers
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.balanced = balanced
        self.early_stopping = early_stopping
        self.patience = patience
        self.checkpoints = checkpoints
        self.random_state = random_state

    def fit(
        self,
        X: Floats,  # noqa: N803
        y: npt.NDArray[Any],
        sample_weight: Floats | None = None,
        validation: Labelled | None = None,
    ) -> Self:
        """Fit the network on all processors.

        Args:
          X: float64[n, features], without NaN.
          y: labels of two classes.
          sample_weight: float64[n], multiplied with the weights of `balanced`.
          validation: rows and labels to score after each epoch.

        Raises:
          ValueError: the labels have not two classes, or X has NaN.
          FraudError: Keras or JAX is not installed, or a checkpoint can't be written.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)  # noqa: N806
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            raise ValueError(f"two classes are needed, there are {len(self.classes_)}")
        watched = None
        if validation is not None:
            rows = validate_data(self, validation[0], reset=False, dtype=np.float64)
            watched = self._examples(rows, validation[1], None)
        examples = self._examples(X, y, sample_weight)
        if self.balanced:
            counts = np.bincount(examples.labels.astype(np.int64), minlength=2)
            weights = examples.weights / counts[examples.labels.astype(np.int64)]
            examples = Examples(examples.matrix, examples.labels, weights.astype(np.float32))
        self._fit(examples, watched)
        return self

    def _fit(self, examples: Examples, watched: Examples | None) -> None:
        shape = Shape(self.n_features_in_, self.units, self.layers, self.dropout)
        folder = empty_folder(self.checkpoints) if self.checkpoints else None
        steps = Steps(
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=int(self.random_state),
            epochs=self.epochs,
            patience=self.patience if self.early_stopping else None,
            checkpoints=folder,
        )
        fitted = fit_network(shape, examples, steps, watched)
        self.epochs_, self.network_, self.history_ = fitted.epoch, fitted.network, fitted.history

    def predict_proba(self, X: Floats) -> Floats:  # noqa: N803
        """The probability of each class, float64[n, 2], of float64[n, features] without NaN."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)  # noqa: N806
        scores = self.network_.scores(X)
        return np.column_stack([1 - scores, scores])

    def predict(self, X: Floats) -> npt.NDArray[Any]:  # noqa: N803
        """Return the likelier class of each row."""
        return np.asarray(self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)])

    def _examples(
        self, matrix: Floats, labels: npt.NDArray[Any], weights: Floats | None
    ) -> Examples:
        return Examples(
            matrix.astype(np.float32),
            (np.asarray(labels) == self.classes_[1]).astype(np.float32),
            np.ones(len(matrix), np.float32)
            if weights is None
            else np.asarray(weights, dtype=np.float32),
        )
