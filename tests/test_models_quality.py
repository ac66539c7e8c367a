"""The defaults are good on real, imbalanced transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.commands import evaluate, train
from beam_fraud.commands.evaluate import EvaluateOptions
from beam_fraud.commands.train import TrainOptions

ULB = Path(__file__).parents[2] / "shared" / "data" / "creditcard.parquet"
#: The last fifth of the rows, 75 frauds among them.
TEST_FROM = "2013-09-02T16:20:49Z"


@pytest.mark.slow
@pytest.mark.skipif(not ULB.exists(), reason="the ULB transactions are not here")
@pytest.mark.parametrize("kind", ["forest", "hist_gradient_boosting"])
def test_defaults_find_the_frauds_of_later_hours(kind: str, tmp_path: Path) -> None:
    options = TrainOptions((str(ULB),), "ulb", kind, str(tmp_path / kind), until=TEST_FROM)
    assert train.run(options)["rows_in"] == 284_807
    result = evaluate.run(EvaluateOptions(options.files, options.out, since=TEST_FROM))
    assert (result["rows"], result["frauds"]) == (56_961, 75)
    assert isinstance(result["average_precision"], float)
    assert result["average_precision"] > 0.74
