"""Labels of simulated frauds come late, together for a campaign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.simulate import render, run
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.simulate.label_delay import LabelDelay, parse_label_delay
from beam_fraud.simulate.simulation import TRANSACTIONS, WITH_LABELLED_AT, Simulation, simulate
from tests.failing import fails

SPEC = Simulation(days=60, accounts=800, merchants=1000, seed=3, fraud_rate=0.03)
DELAYED = replace(SPEC, label_delay=LabelDelay(7 * DAY, 1.0))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulate(DELAYED).to_pandas()


def test_only_labels_differ_from_the_same_seed_without_delays(frame: pd.DataFrame) -> None:
    plain, delayed = simulate(SPEC), simulate(DELAYED)
    assert delayed.schema.equals(WITH_LABELLED_AT)
    others = [name for name in TRANSACTIONS.names if name != "TX_FRAUD"]
    assert delayed.select(others).equals(plain.select(others))
    assert simulate(DELAYED).equals(delayed)
    truth = frame["TX_FRAUD_SCENARIO"] > 0
    assert frame["LABELLED_AT"].notna().equals(frame["TX_FRAUD"] == 1)
    assert not (frame["TX_FRAUD"] == 1)[~truth].any()
    assert plain["TX_FRAUD"].to_pandas().eq(truth).all()


def test_frauds_whose_label_comes_after_the_last_day_look_genuine(frame: pd.DataFrame) -> None:
    end = pd.Timestamp(SPEC.start) + pd.Timedelta(SPEC.days, "D")
    truth = frame["TX_FRAUD_SCENARIO"] > 0
    assert frame["LABELLED_AT"].max() <= end
    known = frame["TX_FRAUD"][truth]
    age = (end - frame["TX_DATETIME"][truth]).dt.days
    shares = known.groupby(pd.cut(age, [-1, 3, 14, 60]), observed=True).mean()
    assert 0 < shares.iloc[0] < 0.2 < 0.4 < shares.iloc[1] < 0.7 < 0.9 < shares.iloc[2] < 1


def test_a_campaign_has_one_delay(frame: pd.DataFrame) -> None:
    known = frame[frame["TX_FRAUD"] == 1]
    delay = known["LABELLED_AT"] - known["TX_DATETIME"]
    for scenario, owner, days in ((2, "TERMINAL_ID", 28), (3, "CUSTOMER_ID", 14)):
        own = known["TX_FRAUD_SCENARIO"] == scenario
        per_owner = delay[own].groupby(known[owner][own])
        # A terminal or customer may be compromised twice in that time, and rarely more often.
        assert per_owner.nunique().max() <= 60 // days + 1
        assert (per_owner.nunique() == 1).mean() > 0.8
        assert per_owner.size().max() > 5
    assert delay[known["TX_FRAUD_SCENARIO"] == 1].nunique() > 20
    # Old frauds have nearly all labels: their delays are those that were asked for.
    old = known["TX_DATETIME"] < known["TX_DATETIME"].min() + pd.Timedelta(15, "D")
    logs = np.log(delay[old].groupby(delay[old]).first() / pd.Timedelta(7, "D"))
    assert abs(logs.median()) < 0.25
    assert 0.7 < logs.std() < 1.2


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_files_have_the_times_of_labels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    options = SimulateOptions(
        out=str(path), days=30, accounts=100, merchants=200, label_delay="median=7d,sigma=1"
    )
    result = run(options)
    assert 0 < result["labelled"] < result["frauds"]  # type: ignore[operator]
    assert "are labelled when the last day ends" in render(result)
    if ending == ".parquet":
        frame = pq.read_table(path).to_pandas()
    elif ending == ".csv":
        frame = pd.read_csv(path, parse_dates=["LABELLED_AT"])
    else:
        frame = pd.DataFrame(json.loads(line) for line in path.read_text().splitlines())
    assert frame["LABELLED_AT"].notna().sum() == frame["TX_FRAUD"].sum() == result["labelled"]
    recipe = Path(__file__).parents[2] / "docs" / "recipes" / "handbook_labels.toml"
    schema: Schema = load_schema(str(recipe))
    assert schema.role("labelled_at") == "LABELLED_AT"


def test_other_forms_are_refused() -> None:
    for text in ("7d", "median=7d", "median=0d,sigma=1", "median=7d,sigma=-1", "median=7,sigma=x"):
        with fails(Code.OPTION_VALUE, "--label-delay", UsageError):
            parse_label_delay(text)
    options = SimulateOptions(kafka="h:1", topic="t", label_delay="median=7d,sigma=1")
    with fails(Code.OPTION_CONFLICT, "--label-delay", UsageError):
        run(options)
