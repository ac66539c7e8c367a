"""A network that Keras fits and NumPy scores with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import average_precision_score

from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import HISTORY_FILE, open_bundle
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.kinds.keras import Keras
from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.network.fitting import (
    VARIABLE,
    Examples,
    Shape,
    Steps,
    fit_network,
    keras_on_jax,
    read_checkpoint,
)
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.schema.schema import FeatureColumn, Schema
from tests.failing import fails

SMALL = Keras(units=8, batch=128, epochs=4)


def rows(n: int = 400, seed: int = 0) -> LabelledRows:
    """A larger first number makes fraud more likely; one row in eight is a fraud."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n, 3))
    chance = 1 / (1 + np.exp(4 - 2 * matrix[:, 0]))
    return LabelledRows(matrix, (random.random(n) < chance).astype(np.int8))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[KerasClassifier, Path]:
    """A network fitted with validation rows, and the directory of its checkpoints."""
    folder = tmp_path_factory.mktemp("fitted") / "checkpoints"
    network = KerasClassifier(units=8, batch=128, epochs=4, checkpoints=str(folder))
    later = rows(seed=1)
    network.fit(rows().matrix, rows().labels, validation=(later.matrix, later.labels))
    return network, folder


def test_its_scores_are_those_of_keras(fitted: tuple[KerasClassifier, Path]) -> None:
    network, folder = fitted
    keras = keras_on_jax()
    model = keras.saving.load_model(folder / "epoch_04.keras")
    matrix = np.random.default_rng(1).normal(size=(400, 3)) * 3
    expected = np.asarray(model(matrix.astype(np.float32)))[:, 0]
    assert np.abs(network.predict_proba(matrix)[:, 1] - expected).max() < 1e-6


def test_it_is_what_keras_fits_from_the_same_weights() -> None:
    # Without dropout, and with all rows in one step, only the first weights are random.
    train = rows(256)
    matrix, labels = train.matrix.astype(np.float32), train.labels.astype(np.float32)
    weights = np.where(labels, 1 / labels.sum(), 1 / (1 - labels).sum()).astype(np.float32)
    shape = Shape(inputs=3, units=8, layers=3, dropout=0.0)
    fit = fit_network(shape, Examples(matrix, labels, weights), Steps(256, 0.01, seed=5, epochs=5))

    random, first = np.random.default_rng(5), []
    for inputs, outputs in ((3, 8), (8, 8), (8, 8), (8, 1)):
        bound = np.sqrt(6 / (inputs + outputs))
        first += [random.uniform(-bound, bound, (inputs, outputs)), np.zeros(outputs)]
    keras = keras_on_jax()
    layers = [keras.Input((3,)), *(keras.layers.Dense(8, "relu") for _ in range(3))]
    model = keras.Sequential([*layers, keras.layers.Dense(1, "sigmoid")])
    model.set_weights(first)
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss="binary_crossentropy", metrics=[keras.metrics.TruePositives()])
    counts = {0: weights[labels == 0][0], 1: weights[labels == 1][0]}
    log = model.fit(
        matrix, labels, batch_size=256, epochs=5, shuffle=False, class_weight=counts, verbose=0
    )
    fitted = [
        array
        for pair in zip(fit.network.kernels, fit.network.biases, strict=True)
        for array in pair
    ]
    for ours, theirs in zip(fitted, model.get_weights(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-5)
    assert fit.history[-1].training.loss == pytest.approx(log.history["loss"][-1], rel=1e-4)
    assert fit.history[-1].training.tp == log.history["true_positives"][-1]


def test_a_fit_depends_on_no_fit_before_it() -> None:
    # Fits of one shape share a compiled network.
    alone = SMALL.fit(rows(), seed=7)
    replace(SMALL, learning_rate=0.1).fit(rows(seed=1), seed=8)
    with pytest.raises(FraudError):
        replace(SMALL, learning_rate=1e30).fit(rows(), seed=7)
    again = SMALL.fit(rows(), seed=7)
    matrix = rows(seed=1).matrix
    assert np.array_equal(predict_scores(alone, matrix), predict_scores(again, matrix))


def test_every_epoch_is_counted_and_stored(fitted: tuple[KerasClassifier, Path]) -> None:
    network, folder = fitted
    train, later = rows(), rows(seed=1)
    assert [epoch.epoch for epoch in network.history_] == [1, 2, 3, 4]
    assert sorted(file.name for file in folder.iterdir()) == [
        f"epoch_0{epoch}.keras" for epoch in range(1, 5)
    ]
    for epoch in network.history_:
        seen = epoch.training
        assert (seen.tp + seen.fn, seen.fp + seen.tn) == (
            train.labels.sum(),
            (~(train.labels > 0)).sum(),
        )
        scores = read_checkpoint(folder, epoch.epoch).scores(later.matrix)
        flagged, fraud = scores > 0.5, later.labels == 1
        assert epoch.validation is not None
        assert epoch.validation.tp == (flagged & fraud).sum()
        assert epoch.validation.fp == (flagged & ~fraud).sum()
        assert epoch.validation.recall == (flagged & fraud).sum() / fraud.sum()
        loss = -np.log(np.where(fraud, scores, 1 - scores)).mean()
        assert epoch.validation.loss == pytest.approx(loss, rel=1e-4)
        precision = average_precision_score(later.labels, scores)
        assert epoch.average_precision == pytest.approx(precision, abs=1e-4)
    assert network.history_[-1].training.loss < network.history_[0].training.loss


def test_a_score_does_not_depend_on_the_rows_beside_it(
    fitted: tuple[KerasClassifier, Path],
) -> None:
    matrix = np.random.default_rng(2).normal(size=(1500, 3))
    together = predict_scores(fitted[0], matrix)
    for rows_of_a_block in (1, 10, 511, 1000):
        cut = np.split(matrix, range(rows_of_a_block, 1500, rows_of_a_block))
        apart = np.concatenate([predict_scores(fitted[0], block) for block in cut])
        assert np.abs(together - apart).max() < 1e-12


def test_a_seed_gives_one_network_and_touches_no_random_numbers_of_others() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    one, same, other = (SMALL.fit(rows(), seed) for seed in (7, 7, 8))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    scores = [predict_scores(model, rows(seed=1).matrix) for model in (one, same, other)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_weights_of_rows_count() -> None:
    train, later = rows(), rows(seed=1).matrix
    plain, weighed = (
        KerasClassifier(units=8, batch=128, epochs=3, balanced=False).fit(
            train.matrix, train.labels, sample_weight=np.where(train.labels, weight, 1.0)
        )
        for weight in (1.0, 50.0)
    )
    assert predict_scores(weighed, later).mean() > 2 * predict_scores(plain, later).mean()


def test_validation_rows_stop_the_fit_with_early_stopping() -> None:
    valid = rows(seed=1)
    patient = replace(SMALL, epochs=40, learning_rate=0.05, early_stopping=True, patience=3)
    chosen, scores = patient.validate(rows(), valid, seed=0)
    reached = [epoch.average_precision or 0.0 for epoch in chosen.validated]
    assert chosen.epochs == int(np.argmax(reached)) + 1
    assert len(reached) == chosen.epochs + 3 < 40
    # As many epochs, and no validation rows, come to the same network.
    assert np.array_equal(scores, predict_scores(chosen.fit(rows(), 0), valid.matrix))
    as_published, _ = SMALL.validate(rows(), valid, seed=0)
    assert (as_published.epochs, len(as_published.validated)) == (4, 4)


def test_it_is_a_classifier_of_scikit_learn(fitted: tuple[KerasClassifier, Path]) -> None:
    network, _ = fitted
    again = clone(network)
    assert again.get_params() == network.get_params()
    assert not hasattr(again, "network_")
    assert again.set_params(units=4).units == 4
    assert list(network.classes_) == [0, 1]
    assert network.n_features_in_ == 3
    matrix = rows(seed=1).matrix
    probabilities = network.predict_proba(matrix)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(network.predict(matrix), (probabilities[:, 1] > 0.5).astype(int))
    with pytest.raises(ValueError, match="two classes"):
        KerasClassifier().fit(np.ones((5, 1)), np.zeros(5))


def test_a_network_opens_and_scores_without_keras(
    fitted: tuple[KerasClassifier, Path], tmp_path: Path
) -> None:
    joblib.dump(fitted[0], tmp_path / "model.joblib")
    code = (
        "import sys, joblib, numpy; sys.modules.update(keras=None, jax=None);"
        "model = joblib.load(sys.argv[1]);"
        "print(model.predict_proba(numpy.array([[0.5, -1.0, 2.0]]))[0, 1].hex())"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "model.joblib")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    expected = fitted[0].predict_proba(np.array([[0.5, -1.0, 2.0]]))[0, 1]
    assert float.fromhex(done.stdout.strip()) == expected, done.stderr


def test_its_bundle_has_the_history_of_both_fits(tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "bundle"
    table = rows(600)
    values = np.column_stack([table.matrix, table.labels])
    lines = [
        f"{i},2024-01-01T00:{i // 60:02}:{i % 60:02}Z," + ",".join(map(str, row))
        for i, row in enumerate(values.tolist())
    ]
    file.write_text("\n".join(["id,t,a,b,c,fraud", *lines]))
    (tmp_path / "schema.toml").write_text(
        'name = "test"\n[roles]\ntransaction_id = "id"\nevent_time = "t"\nlabel = "fraud"\n'
        'amount = "c"\n[amount]\nallow_negative = true\n[[feature]]\ncolumn = "a"\n'
        '[[feature]]\ncolumn = "b"\n'
    )
    settings = ("units=8", "batch=128", "epochs=3", f"checkpoints={tmp_path / 'each'}")
    result = train.run(
        TrainOptions(
            files=(str(file),),
            schema=str(tmp_path / "schema.toml"),
            model="keras",
            out=str(out),
            settings=settings,
        )
    )
    assert "validated" not in result["settings"]  # type: ignore[operator]
    history = json.loads((out / HISTORY_FILE).read_text())
    assert [len(history[part]) for part in ("validated", "fitted")] == [3, 3]
    assert set(history["validated"][0]["validation"]) == {
        *("loss", "fn", "fp", "tn", "tp", "precision", "recall")
    }
    assert history["fitted"][0]["validation"] is None
    for part in ("validated", "fitted"):
        assert len(list((tmp_path / "each" / part).iterdir())) == 3
    open_bundle(str(out))
    (out / HISTORY_FILE).write_text("{}")
    with pytest.raises(FraudError, match=r"history\.json is not the file"):
        open_bundle(str(out))


def test_checkpoints_of_a_longer_fit_are_removed(tmp_path: Path) -> None:
    for epochs in (3, 2):
        replace(SMALL, epochs=epochs, checkpoints=str(tmp_path)).fit(rows(), seed=0)
    assert len(list((tmp_path / "fitted").iterdir())) == 2
    (tmp_path / "file").touch()
    with fails(Code.OUTPUT_UNWRITABLE, "checkpoints="):
        replace(SMALL, checkpoints=str(tmp_path / "file")).fit(rows(), seed=0)


def test_its_reasons_are_found_by_occlusion() -> None:
    model = replace(SMALL, epochs=12).fit(rows(), seed=0)
    schema = Schema(
        "test",
        {"event_time": "t", "amount": "b"},
        (FeatureColumn("a"), FeatureColumn("c")),
        calendar=False,
    )
    explainer = explainer_of(model, FeatureSet(schema), Reference())
    added = explainer.contributions(np.array([[3.0, 0.0, 0.0], [-3.0, 0.1, 0.1]]))
    assert added.shape == (2, 3)
    assert added[0, 0] > 0 > added[1, 0]
    assert np.abs(added).argmax(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize(
    "setting",
    ["units=0", "layers=0", "dropout=1", "learning_rate=0", "batch=0", "epochs=-1", "patience=0"],
)
def test_settings_that_no_network_has_are_refused(setting: str) -> None:
    with fails(Code.MODEL_SETTING, f"--set {setting}: ", kind=UsageError):
        model_kind("keras", [setting])


def test_infinite_weights_are_reported() -> None:
    with pytest.raises(
        FraudError, match=r"after epoch 1; --set learning_rate= to less than 1e\+30"
    ):
        replace(SMALL, learning_rate=1e30).fit(rows(), seed=0)


def test_keras_of_another_backend_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = keras_on_jax()
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "torch")
        with fails(Code.TRAINING_FAILED, "keras with torch"):
            keras_on_jax()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "keras")
        patch.setenv(VARIABLE, "tensorflow")
        with fails(Code.TRAINING_FAILED, "jax, and KERAS_BACKEND is tensorflow"):
            keras_on_jax()
        assert "keras" not in sys.modules
    monkeypatch.delenv(VARIABLE, raising=False)
    keras_on_jax()
    assert VARIABLE not in os.environ
