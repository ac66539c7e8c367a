"""A neural network, after Keras' own example of card fraud."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline, make_pipeline

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import HISTORY_FILE
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Choice, ModelKind, Real, Space, Whole, scaled_columns
from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.network.history import Epoch, encode_history
from beam_fraud.models.predict import predict_scores


@dataclass(frozen=True)
class Keras(ModelKind):
    """A multilayer perceptron with dropout; its defaults are those of the published example.

    https://keras.io/examples/structured_data/imbalanced_classification/ by François Chollet.
    """

    name: ClassVar[str] = "keras"
    needs: ClassVar[tuple[str, ...]] = ("jax", "keras")
    space: ClassVar[Space] = {
        "units": Whole(32, 256, log=True),
        "dropout": Real(0.0, 0.6),
        "learning_rate": Real(1e-4, 2e-2, log=True),
        "balanced": Choice((True, False)),
    }

    #: Units of each hidden layer.
    units: int = 256
    #: Hidden layers.
    layers: int = 3
    #: Dropout rate after each hidden layer but the first.
    dropout: float = 0.3
    #: Learning rate of Adam.
    learning_rate: float = 0.01
    #: Batch size in rows.
    batch: int = 2048
    #: Epochs; the maximum with `early_stopping`.
    epochs: int = 30
    #: Whether a row weighs 1 / the rows of its class: the classes are balanced, but scores are far
    #: higher than the share of frauds.
    balanced: bool = True
    #: Whether the average precision of the validation rows chooses the number of epochs.
    early_stopping: bool = False
    #: Epochs without improvement before `early_stopping` stops.
    patience: int = 5
    #: Maximum of columns of a categorical feature; rarer categories share one.
    max_categories: int = 100
    #: Directory for a checkpoint after each epoch, in `validated/` and `fitted/`; none if empty.
    checkpoints: str = ""
    #: Epochs of the validation fit: a result, not a setting.
    validated: tuple[Epoch, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
          UsageError: a setting is out of its range.
        """
        for name in ("units", "layers", "batch", "epochs", "patience", "max_categories"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--set {name}={getattr(self, name)}: must be at least 1", Code.MODEL_SETTING
                )
        if not 0 <= self.dropout < 1:
            raise UsageError(
                f"--set dropout={self.dropout:g}: must be from 0 to below 1", Code.MODEL_SETTING
            )
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(
                f"--set learning_rate={self.learning_rate:g}: must be above 0", Code.MODEL_SETTING
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, for the manifest and the card."""
        return {name: v for name, v in super().settings.items() if name != "validated"}

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the pipeline: numbers with training means and deviations, then the network."""
        return self._pipeline(rows, seed, "fitted")

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Score the validation rows after each epoch; choose the number of epochs if requested."""
        model = self._pipeline(train, seed, "validated")
        columns, network = model[:-1], model[-1]
        prepared = columns.fit_transform(train.matrix)
        network.fit(
            prepared, train.labels, validation=(columns.transform(valid.matrix), valid.labels)
        )
        chosen = replace(self, epochs=network.epochs_, validated=network.history_)
        return chosen, predict_scores(model, valid.matrix)

    def files(self, model: Any) -> dict[str, bytes]:
        """Return the history of the epochs."""
        while not isinstance(model, Pipeline):
            # The model is a wrapper that corrects or calibrates scores.
            model = model.model
        return {HISTORY_FILE: encode_history(self.validated, model[-1].history_)}

    def _pipeline(self, rows: LabelledRows, seed: int, part: str) -> Pipeline:
        network = KerasClassifier(
            units=self.units,
            layers=self.layers,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            batch=self.batch,
            epochs=self.epochs,
            balanced=self.balanced,
            early_stopping=self.early_stopping,
            patience=self.patience,
            checkpoints=self.checkpoints and str(Path(self.checkpoints) / part),
            random_state=seed,
        )
        return make_pipeline(scaled_columns(rows, self.max_categories), network)
