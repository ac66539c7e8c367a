"""A window that is too fresh makes a new model look bad, and the comparison says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.evaluation.comparison.comparison import ComparisonSettings, compare
from beam_fraud.evaluation.comparison.figures import Comparison, parse_prices
from beam_fraud.evaluation.comparison.report import outputs_of
from beam_fraud.evaluation.comparison.scored_rows import Partition, Side
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.stages import REASON
from beam_fraud.simulate.label_delay import LabelDelay
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.urls import Place

NEW, OLD = Side("new", "new@1", "new@1", "", 0.5), Side("old", "old@1", "old@1", "", 0.5)
END = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(120, "D")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Simulated rows as they are known when the last day ends, and how two sides flag them.

    The old side, which is in use, finds large amounts; analysts look at its alerts within a day.
    The new one finds compromised terminals, which people report late.
    """
    delay = LabelDelay(10 * DAY, 0.8)
    spec = Simulation(120, 400, 800, seed=8, fraud_rate=0.03, label_delay=delay)
    table = simulate(spec).to_pandas()
    random = np.random.default_rng(1)
    scenario, event_time = table["TX_FRAUD_SCENARIO"], table["TX_DATETIME"].dt.tz_localize("UTC")
    noise = random.random(len(table))
    old = table["TX_AMOUNT"] > 150
    new = ((scenario == 2) & (noise < 0.8)) | ((scenario == 3) & (noise < 0.3)) | (noise < 0.005)
    at = table["LABELLED_AT"].dt.tz_localize("UTC")
    truth = scenario > 0
    at = at.where(~(truth & old), event_time + pd.Timedelta(1, "D"))
    at = at.where(at <= END)
    return pd.DataFrame(
        {
            "transaction_id": table["TRANSACTION_ID"].astype(str),
            "event_time": event_time,
            "account_id": table["CUSTOMER_ID"].astype(str),
            "amount": table["TX_AMOUNT"],
            "truth": truth,
            "label": at.notna().astype(np.int8),
            "labelled_at": at,
            "new": new,
            "old": old,
        }
    )


def measured(frame: pd.DataFrame, path: Path, maturity: int | None) -> Comparison:
    """Compare the sides on rows."""
    moments = pa.timestamp("us", "UTC")
    parts = []
    for key in ("new", "old"):
        flagged = frame[key].to_numpy()
        parts.append(
            pa.table(
                {
                    "transaction_id": pa.array(frame["transaction_id"].tolist(), pa.string()),
                    "event_time": pa.array(frame["event_time"]).cast(moments),
                    "account_id": pa.array(frame["account_id"].tolist(), pa.string()),
                    "merchant_id": pa.nulls(len(frame), pa.string()),
                    "amount": frame["amount"].to_numpy(),
                    "score": np.where(flagged, 0.9, 0.1),
                    "flagged": flagged,
                    "decision": np.where(flagged, "review", "approve"),
                    "rules": pa.nulls(len(frame), pa.list_(pa.string())),
                    "reasons": pa.nulls(len(frame), pa.list_(REASON)),
                    "model_id": [f"{key}@1"] * len(frame),
                    "label": frame["label"].to_numpy(),
                    "labelled_at": pa.array(frame["labelled_at"]).cast(moments),
                }
            )
        )
    pq.write_table(pa.concat_tables(parts), path)
    settings = ComparisonSettings(parse_prices("100:1"), maturity=maturity, resamples=40)
    return compare([Partition("all", (Place.at(path),))], NEW, [OLD], settings)


def recall(frame: pd.DataFrame, key: str) -> float:
    """The true recall of a side."""
    return float(frame[key][frame["truth"]].mean())


def test_an_immature_window_understates_the_new_side_and_the_report_says_so(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    fresh = frame[frame["event_time"] >= END - pd.Timedelta(21, "D")]
    found = measured(fresh, tmp_path / "fresh.parquet", None)
    new, old = (side.outcome for side in found.sides)
    assert new.recall is not None
    assert old.recall is not None
    assert new.recall < recall(fresh, "new") - 0.05
    assert old.recall > recall(fresh, "old") + 0.05
    truth = fresh["truth"][fresh["new"]].mean()
    assert new.precision is not None
    assert new.precision < truth - 0.2
    assert new.caught < fresh["truth"][fresh["new"]].sum() * 0.7
    warning = next(text for text in found.warnings if "no label yet" in text)
    assert "--label-maturity" in warning
    for name, data in outputs_of(found).items():
        assert b"no label yet" in data, name
    unknown = 1 - fresh["label"].sum() / fresh["truth"].sum()
    assert found.maturity.unknown_share is not None
    assert 0.2 < found.maturity.unknown_share < unknown + 0.1


def test_waiting_for_labels_gives_the_true_figures(frame: pd.DataFrame, tmp_path: Path) -> None:
    found = measured(frame, tmp_path / "all.parquet", 45 * DAY)
    ripe = frame[frame["event_time"] <= pd.Timestamp(found.maturity.as_of) - pd.Timedelta(45, "D")]
    for side in found.sides:
        assert side.outcome.recall == pytest.approx(recall(ripe, side.key), abs=0.03)
    assert found.frauds == pytest.approx(ripe["truth"].sum(), rel=0.05)
    assert not any("no label yet" in text for text in found.warnings)
    assert found.mature_rows == len(ripe)
    assert "45 days old" in found.sentence


def test_the_share_of_unknown_frauds_is_that_of_the_simulation(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    found = measured(frame, tmp_path / "all.parquet", None)
    unknown = 1 - frame["label"].sum() / frame["truth"].sum()
    assert found.maturity.unknown_share == pytest.approx(unknown, abs=0.03)
    assert found.maturity.expected_frauds == pytest.approx(frame["truth"].sum(), rel=0.04)
