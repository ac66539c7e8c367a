"""Flagged rows have their reasons in the graph and in messages."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.cli.commands import score, simulate, stream, train
from beam_fraud.cli.options import ScoreOptions, SimulateOptions, StreamOptions, TrainOptions
from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.reasons.explainer import Floats, Unit
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.features.matrix import FeatureSet, append_block
from beam_fraud.models.bundle import open_bundle, shared_model
from beam_fraud.schema.presets import LEDGER
from beam_fraud.schema.stages import SCORED
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.explain import Explain
from tests.flagged import flagged_batch

FEATURES = FeatureSet(LEDGER, order=("amount", "is_weekend", "is_night"))


class ByValue:
    """The contributions are the values; counts the rows that it explains."""

    approximate = True
    unit: Unit = "probability"
    rows = 0

    def contributions(self, block: Floats) -> Floats:
        self.rows += len(block)
        return np.nan_to_num(block, nan=0.25)


def scored(flagged: list[bool]) -> pa.RecordBatch:
    batch = flagged_batch([f"t{i}" for i in range(len(flagged))])
    empty = pa.nulls(len(flagged), SCORED.field("reasons").type)
    batch = batch.set_column(SCORED.get_field_index("reasons"), SCORED.field("reasons"), empty)
    place = SCORED.get_field_index("flagged")
    return batch.set_column(place, SCORED.field("flagged"), pa.array(flagged))


def reasons(explainer: ByValue, most: int = 5) -> Reasons:
    return Reasons(explainer, FEATURES, np.array([21.5, 0.0, 0.0]), most)


def test_flagged_rows_alone_have_reasons() -> None:
    explainer = ByValue()
    block = np.array([[9.0, 0, 0], [2310.0, 0, 1], [8, 0, 0], [np.nan, 1, 0]])
    result = reasons(explainer).add(scored([False, True, False, True]), block)
    assert result.schema.equals(SCORED)
    assert explainer.rows == 2
    amount = {"feature": "amount", "approximate": True}
    assert result.column("reasons").to_pylist() == [
        None,
        [
            {
                **amount,
                "value": 2310.0,
                "contribution": 2310.0,
                "text": "amount 2,310.00, usually 21.50",
            },
            {
                "feature": "is_night",
                "value": 1.0,
                "contribution": 1.0,
                "text": "at night",
                "approximate": True,
            },
        ],
        None,
        [
            {
                "feature": "is_weekend",
                "value": 1.0,
                "contribution": 1.0,
                "text": "at the weekend",
                "approximate": True,
            },
            {
                **amount,
                "value": None,
                "contribution": 0.25,
                "text": "amount unknown, usually 21.50",
            },
        ],
    ]


def test_a_block_without_flagged_rows_is_left_as_it_is() -> None:
    explainer, batch = ByValue(), scored([False, False])
    assert reasons(explainer).add(batch, np.ones((2, 3))) is batch
    assert explainer.rows == 0


def test_a_flagged_row_without_contributions_has_an_empty_list() -> None:
    result = reasons(ByValue()).add(scored([True]), np.zeros((1, 3)))
    assert result.column("reasons").to_pylist() == [[]]


@pytest.fixture(scope="module", params=["logistic", "forest", "hist_gradient_boosting"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp(request.param)
    simulate.run(SimulateOptions(out=str(directory / "rows.csv"), days=30, accounts=60, seed=3))
    train.run(
        TrainOptions(
            files=(str(directory / "rows.csv"),),
            schema="handbook",
            model=request.param,
            settings=() if request.param == "logistic" else ("trees=20",),
            out=str(directory / "bundle"),
        )
    )
    return directory / "bundle"


def run_score(bundle: Path, out: Path, **options: object) -> pa.Table:
    file = str(bundle.parent / "rows.csv")
    arguments = {
        "files": (file,),
        "model": str(bundle),
        "out": str(out),
        "block_rows": 700,
        **options,
    }
    score.run(ScoreOptions(**arguments))
    return pq.read_table(out / "scores").sort_by("transaction_id")


def test_a_run_writes_reasons(bundle: Path, tmp_path: Path) -> None:
    urls = {
        "sink": f"sqlite:///{tmp_path}/flagged.db",
        "alerts": (f"file:{tmp_path}/alerts.jsonl",),
    }
    rows = run_score(bundle, tmp_path / "out", **urls).to_pylist()
    flagged = {row["transaction_id"]: row for row in rows if row["flagged"]}
    assert len(flagged) > 5
    assert all(row["reasons"] is None for row in rows if not row["flagged"])
    for row in flagged.values():
        assert 1 <= len(row["reasons"]) <= 5
        added = [reason["contribution"] for reason in row["reasons"]]
        assert added[0] > 0
        raised = [size for size in added if size > 0]
        assert raised == sorted(raised, reverse=True)
        assert all(r["approximate"] == (bundle.parent.name[:6] == "forest") for r in row["reasons"])
    texts = {reason["text"] for row in flagged.values() for reason in row["reasons"]}
    assert any(", usually " in text and "transactions of the " in text for text in texts)
    with sqlite3.connect(tmp_path / "flagged.db") as database:
        stored = dict(database.execute("SELECT transaction_id, reasons FROM flagged_transactions"))
    alerted = map(json.loads, (tmp_path / "alerts.jsonl").read_text().splitlines())
    decoded = {alert["transaction_id"]: alert["reasons"] for alert in alerted}
    for key, row in flagged.items():
        assert json.loads(stored[key]) == decoded[key] == row["reasons"]


def test_reasons_are_the_same_in_any_blocks(bundle: Path, tmp_path: Path) -> None:
    some = run_score(bundle, tmp_path / "some")
    other = run_score(bundle, tmp_path / "other", block_rows=50)
    lists = [
        table.column("reasons").combine_chunks().filter(table.column("flagged").combine_chunks())
        for table in (some, other)
    ]
    texts = [x.flatten().field("text").to_pylist() for x in lists]
    assert texts[0] == texts[1]
    numbers = [x.flatten().field("contribution").to_numpy(zero_copy_only=False) for x in lists]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("most", [0, 2])
def test_at_most_the_requested_number(bundle: Path, tmp_path: Path, most: int) -> None:
    result = run_score(bundle, tmp_path / "out", reasons=most)
    lengths = {len(x or ()) for x in result.column("reasons").to_pylist()}
    assert max(lengths) == most


def test_the_step_drops_the_features(bundle: Path) -> None:
    opened = open_bundle(str(bundle))
    features = len(opened.features.names)
    batch = append_block(scored([True, False]), np.ones((2, features)))
    for most in (0, 5):
        with beam.Pipeline() as pipeline:
            deciders = Deciders(Decider(opened, opened.features), most)
            rows = pipeline | beam.Create([batch]) | Explain(deciders)
            names = rows | beam.Map(lambda found: found.schema.names)
            assert_that(names, equal_to([SCORED.names]))


def test_a_model_is_loaded_once_in_a_process(bundle: Path) -> None:
    opened = open_bundle(str(bundle))
    model = shared_model(opened)
    assert shared_model(open_bundle(str(bundle))) is model


@pytest.mark.slow
def test_a_stream_gives_the_reasons_that_files_get(bundle: Path, tmp_path: Path) -> None:
    files = run_score(bundle, tmp_path / "files")
    (tmp_path / "inbox").mkdir()
    shutil.copy(bundle.parent / "rows.csv", tmp_path / "inbox")
    stream.run(
        StreamOptions(
            watch=str(tmp_path / "inbox"),
            model=str(bundle),
            until_idle=0.5,
            out=str(tmp_path / "live"),
        )
    )
    live = pq.read_table(tmp_path / "live" / "scores").sort_by("transaction_id")
    assert live.column("transaction_id").equals(files.column("transaction_id"))
    of_files, of_stream = (table.column("reasons").to_pylist() for table in (files, live))
    assert [words(row) for row in of_stream] == [words(row) for row in of_files]


def words(found: list[dict[str, object]] | None) -> list[object] | None:
    return None if found is None else [reason["text"] for reason in found]
