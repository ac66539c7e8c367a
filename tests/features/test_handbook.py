"""The handbook's own figures: its pandas windows on its transactions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import key_rows
from beam_fraud.schema.presets import HANDBOOK

FILE = Path(__file__).parents[2].parent / "shared" / "data" / "handbook_transactions.parquet"
#: The handbook's delay.
DELAY = 7
#: Terminals below this are looked at.
TERMINALS = 120


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    """All transactions of some terminals and of customers with two payments in one second."""
    if not FILE.exists():
        pytest.skip("without the handbook's transactions")
    table = pq.read_table(FILE)
    customer, terminal = (table[name].cast(pa.int64()) for name in ("CUSTOMER_ID", "TERMINAL_ID"))
    visits = pd.DataFrame({"customer": customer, "time": table["TX_DATETIME"]})
    tied = visits["customer"][visits.duplicated()].unique()[:30]
    customers = pc.is_in(customer, pa.array([*tied, *range(10)], pa.int64()))
    return table.filter(pc.or_(customers, pc.less(terminal, TERMINALS))).to_pandas()


def features(sample: pd.DataFrame, key: str) -> dict[str, np.ndarray]:
    transactions = pa.table(
        {
            "event_time": pa.array(sample["TX_DATETIME"]).cast(pa.timestamp("us", "UTC")),
            "account_id": sample["CUSTOMER_ID"].astype(str).to_numpy(dtype=object),
            "merchant_id": sample["TERMINAL_ID"].astype(str).to_numpy(dtype=object),
            "amount": sample["TX_AMOUNT"],
            "label": pa.array(sample["TX_FRAUD"]).cast(pa.int8()),
        }
    )
    keyed = key_rows(transactions, [key], IdHash.random(), labels=True)
    specs = [spec for spec in HANDBOOK.velocity if spec.key == (key,)]
    return batch_features(keyed.rows, keyed.frauds, specs)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_customer_windows(sample: pd.DataFrame, days: int) -> None:
    result = features(sample, "account_id")
    order = np.lexsort((sample["TX_DATETIME"], sample["CUSTOMER_ID"].astype(int)))
    rows = sample.iloc[order].astype({"CUSTOMER_ID": int})
    windows = rows.groupby("CUSTOMER_ID").rolling(f"{days}D", on="TX_DATETIME")["TX_AMOUNT"]
    # pandas counts rows up to the current one, as the handbook does.
    np.testing.assert_array_equal(result[f"account_count_{days}d"][order], windows.count())
    np.testing.assert_allclose(result[f"account_mean_{days}d"][order], windows.mean(), rtol=1e-12)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_terminal_windows_end_before_the_delay(sample: pd.DataFrame, days: int) -> None:
    rows = sample[sample["TERMINAL_ID"].astype(int) < TERMINALS].reset_index(drop=True)
    result = features(rows, "merchant_id")
    for _, group in rows.groupby("TERMINAL_ID"):
        times = group["TX_DATETIME"].to_numpy().astype("datetime64[us]").astype(np.int64)
        frauds = group["TX_FRAUD"].to_numpy().astype(np.int64)
        ago = (times[:, None] - times[None, :]) / 86_400e6
        inside = (ago >= DELAY) & (ago < DELAY + days)
        count = inside.sum(axis=1)
        risk = np.divide(inside @ frauds, count, out=np.zeros(len(count)), where=count > 0)
        suffix = f"{days}d_delay_{DELAY}d"
        np.testing.assert_array_equal(result[f"merchant_count_{suffix}"][group.index], count)
        np.testing.assert_array_equal(result[f"merchant_risk_{suffix}"][group.index], risk)


def test_the_sample_has_ties_and_frauds(sample: pd.DataFrame) -> None:
    assert sample.duplicated(["CUSTOMER_ID", "TX_DATETIME"]).any()
    assert sample["TX_FRAUD"].astype(int).sum() > 10
