"""The defaults are good on real, imbalanced transactions."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from beam_fraud.cli.commands import evaluate, train
from beam_fraud.cli.options import EvaluateOptions, TrainOptions
from beam_fraud.features.dataset import load_dataset
from beam_fraud.models.kinds import model_kind
from beam_fraud.schema.presets import ULB as ULB_SCHEMA
from beam_fraud.storage.urls import Place
from benchmarks.results.ulb import TEST_FROM
from benchmarks.results.ulb_stratified import stratified_figures
from benchmarks.results.ulb_time import time_figures

ULB = Path(__file__).parents[3] / "shared" / "data" / "creditcard.parquet"
pytestmark = pytest.mark.skipif(not ULB.exists(), reason="the ULB transactions are not here")
KINDS = ["forest", "hist_gradient_boosting"]
#: Where the last quarter of the rows before those of the test begins, and a part of it, on which a
#: forest takes few seconds.
QUARTER, FEWER = "2013-09-02T06:00:00Z", "2013-09-02T13:00:00Z"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "since"),
    [
        pytest.param("forest", QUARTER, marks=pytest.mark.soak),
        ("forest", FEWER),
        ("hist_gradient_boosting", QUARTER),
    ],
)
def test_a_quarter_of_the_rows_is_enough_to_find_the_frauds_of_later_hours(
    kind: str, since: str, tmp_path: Path
) -> None:
    options = TrainOptions(
        files=(str(ULB),),
        schema="ulb",
        model=kind,
        out=str(tmp_path / kind),
        since=since,
        until=TEST_FROM.isoformat(),
    )
    assert train.run(options)["rows_in"] == 284_807
    result = evaluate.run(
        EvaluateOptions(files=options.files, models=(options.out,), since=options.until)
    )
    assert (result["rows"], result["frauds"]) == (56_961, 75)
    assert isinstance(result["average_precision"], float)
    assert result["average_precision"] > 0.74


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_five_seeds_reach_published_figures(kind: str) -> None:
    transactions = load_dataset([Place.of(ULB)], ULB_SCHEMA).transactions
    model = model_kind(kind)
    by_time = [time_figures(transactions, model, seed) for seed in range(5)]
    assert fmean(figures["average_precision"] for figures in by_time) >= 0.76
    random = [stratified_figures(transactions, model, seed) for seed in range(5)]
    assert fmean(figures["average_precision"] for figures in random) >= 0.82
