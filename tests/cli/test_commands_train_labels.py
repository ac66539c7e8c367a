"""`train` with few or no labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle, read_card
from beam_fraud.models.predict import predict_scores
from beam_fraud.storage.urls import Place
from tests.cli.test_commands_train import ROWS, SCHEMA, table
from tests.failing import fails


@pytest.fixture
def options(tmp_path: Path) -> TrainOptions:
    (tmp_path / "shop.toml").write_text(SCHEMA)
    return TrainOptions(
        files=(str(tmp_path / "data.parquet"),),
        schema=str(tmp_path / "shop.toml"),
        model="logistic",
        out=str(tmp_path / "bundle"),
    )


def with_frauds(count: int) -> pa.Table:
    """Rows whose last fifth, the validation rows, has this number of frauds; earlier rows have
    many.
    """
    rows = table()
    price = np.where(np.arange(ROWS) < ROWS * 4 // 5, rows["price"].to_numpy(), 10.0)
    fraud = rows["fraud"].to_numpy() * (price > 40)
    late = np.flatnonzero(np.arange(ROWS) >= ROWS * 4 // 5)[5::15][:count]
    fraud[late], price[late] = 1, 500.0
    rows = rows.set_column(rows.column_names.index("price"), "price", pa.array(price))
    return rows.set_column(rows.column_names.index("fraud"), "fraud", pa.array(fraud))


@pytest.mark.parametrize("frauds", [1, 2, 19, 20])
def test_few_frauds_to_choose_by_are_warned_of(
    options: TrainOptions, frauds: int, caplog: pytest.LogCaptureFixture
) -> None:
    pq.write_table(with_frauds(frauds), options.files[0])
    result = train.run(options)
    message = f"the validation rows hold {frauds} fraud"
    assert cast(dict[str, int], result["metrics"])["frauds"] == frauds
    few = frauds < 20
    assert len(cast(list[str], result["warnings"])) == few
    assert any(message in record.getMessage() for record in caplog.records) == few
    assert (f"## Warnings\n\n- {message}" in read_card(open_bundle(options.out))) == few


@pytest.mark.parametrize("labels", ["absent", "null", "genuine"])
def test_a_kind_without_labels_trains_without_any(options: TrainOptions, labels: str) -> None:
    rows = table(frauds=False)
    if labels != "genuine":
        rows = rows.drop_columns(["fraud"])
    if labels == "null":
        rows = rows.append_column("fraud", pa.nulls(ROWS, pa.int64()))
    pq.write_table(rows, options.files[0])
    options = replace(options, model="isolation_forest", threshold="0.99", settings=("trees=10",))
    result = train.run(options)
    assert result["metrics"] is None
    assert "Flagged from a score of 0.99" in train.render(result)
    bundle = open_bundle(options.out)
    assert bundle.manifest.metrics == {}
    card = read_card(bundle)
    assert "None: no rows were labelled" in card
    assert "precision |" not in card
    data = load_dataset(Place.parse_all(options.files), bundle.schema, labels="known").transactions
    scores = predict_scores(load_model(bundle), feature_matrix(data, bundle.features))
    assert 0.005 < np.mean(scores >= 0.99) < 0.02
    budget = train.run(replace(options, threshold="budget=50"))
    flagged = predict_scores(load_model(bundle), feature_matrix(data, bundle.features))
    assert np.sum(flagged >= cast(float, budget["threshold"])) < 50 * 2


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"threshold": "f1"}, "--threshold can only be budget=N"),
        ({"threshold": "recall=0.5"}, "--threshold can only be budget=N"),
        ({"decline": "precision=0.5"}, "--decline can only be budget=N"),
        ({"calibrate": "platt"}, "--calibrate: the rows have no labels"),
        ({"folds": 3}, "--folds: the rows have no labels"),
        ({"split": "stratified"}, "--split stratified: the rows have no labels"),
    ],
)
def test_options_that_need_labels_are_refused_without_them(
    options: TrainOptions, requested: dict[str, Any], message: str
) -> None:
    pq.write_table(table().drop_columns(["fraud"]), options.files[0])
    requested = {"threshold": "0.9", **requested}
    with pytest.raises(FraudError, match=message):
        train.run(replace(options, model="isolation_forest", **requested))


def test_labels_measure_a_kind_that_needs_none(options: TrainOptions) -> None:
    rows = table()
    known = np.arange(ROWS) % 2 == 0
    labels = pa.array(rows["fraud"].to_numpy(), mask=~known)
    pq.write_table(
        rows.set_column(rows.column_names.index("fraud"), "fraud", labels), options.files[0]
    )
    result = train.run(replace(options, model="isolation_forest", settings=("trees=10",)))
    assert cast(dict[str, int], result["metrics"])["frauds"] > 0
    assert result["rows_dead"] == ROWS // 2


@pytest.mark.parametrize("known", [2, 1])
def test_labels_that_cannot_measure_are_not_used(options: TrainOptions, known: int) -> None:
    rows = with_frauds(0)
    labels = pa.array(rows["fraud"].to_numpy(), mask=np.arange(ROWS) % known != 0)
    rows = rows.set_column(rows.column_names.index("fraud"), "fraud", labels)
    pq.write_table(rows, options.files[0])
    options = replace(options, model="isolation_forest", settings=("trees=10",))
    result = train.run(replace(options, threshold="0.99"))
    assert (result["metrics"], result["rows_dead"]) == (None, 0)
    assert [w for w in cast(list[str], result["warnings"]) if "without labels" in w]
    # What needs labels is refused with the rows that lack them.
    for requested in ({"threshold": "f1"}, {"threshold": "0.99", "calibrate": "platt"}):
        with fails(Code.CLASSES_MISSING, "validation rows .* is genuine"):
            train.run(replace(options, **cast(Any, requested)))
