"""The handbook's velocity features by this project's two engines, pandas, DuckDB and Polars.

The work is that of the preset `handbook`: of an account count and mean, of a merchant count and
risk with a delay of seven days, in windows of 1, 7 and 30 days. Where times tie, SQL and Polars
count all rows of that time, the others only those up to the row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.columns import keyed_rows
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.velocity import Velocity

Features = dict[str, npt.NDArray[np.float64]]

_DAYS = (1, 7, 30)
_DELAY = 7


def _specs(key: str) -> Sequence[Velocity]:
    return [spec for spec in HANDBOOK.velocity if spec.key == (key,)]


def batch(transactions: pa.Table) -> Features:
    """The batch engine: all rows at once."""
    features: Features = {}
    for key in ("account_id", "merchant_id"):
        specs = _specs(key)
        keyed = keyed_rows(transactions, specs, IdHash.random())
        result = batch_features(keyed.rows, keyed.frauds, specs)
        features |= {name: keyed.spread(feature) for name, feature in result.items()}
    return features


def stream(transactions: pa.Table, rows: int) -> Features:
    """The state engine: micro-batches of so many rows, both keys' states in one process."""
    hashing = IdHash.random()
    states = {key: VelocityState(_specs(key)) for key in ("account_id", "merchant_id")}
    parts: dict[str, list[npt.NDArray[np.float64]]] = {}
    for block in transactions.to_batches(max_chunksize=rows):
        for state in states.values():
            keyed = keyed_rows(block, state.specs, hashing)
            for name, feature in state.update(keyed.rows, keyed.frauds).items():
                parts.setdefault(name, []).append(keyed.spread(feature))
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def pandas(transactions: pa.Table) -> Features:
    """`groupby.rolling`; a delayed window is the difference of two that end now."""
    frame = transactions.to_pandas()
    # Windows come out key by key, in the order of the groups.
    orders = {
        key: np.argsort(frame.groupby(key).ngroup().to_numpy(), kind="stable")
        for key in ("account_id", "merchant_id")
    }

    def rolled(key: str, column: str, days: int, aggregate: str) -> npt.NDArray[np.float64]:
        windows = frame.groupby(key).rolling(f"{days}D", on="event_time")[column]
        result = getattr(windows, aggregate)()
        feature = np.empty(len(frame))
        feature[orders[key]] = result.to_numpy()
        return feature

    features: Features = {}
    for days in _DAYS:
        for aggregate in ("count", "mean"):
            name = f"account_{aggregate}_{days}d"
            features[name] = rolled("account_id", "amount", days, aggregate)
    recent = [rolled("merchant_id", "label", _DELAY, name) for name in ("count", "sum")]
    for days in _DAYS:
        both = [rolled("merchant_id", "label", _DELAY + days, name) for name in ("count", "sum")]
        features |= _delayed(days, both[0] - recent[0], both[1] - recent[1])
    return features


def duckdb(transactions: pa.Table) -> Features:
    """Window functions over ranges of time, all in one query, one thread."""
    database = importlib.import_module("duckdb").connect(config={"threads": 1})
    times = transactions.column("event_time").cast(pa.int64())
    database.register("given", transactions.append_column("time", times))
    columns, windows = [], []
    for days in _DAYS:
        length = days * DAY - 1
        columns += [f"count(*) over a{days} as count_{days}", f"avg(amount) over a{days}"]
        columns += [f"count(*) over m{days}", f"sum(label) over m{days}"]
        windows.append(
            f"a{days} as (partition by account_id order by time "
            f"range between {length} preceding and current row)"
        )
        windows.append(
            f"m{days} as (partition by merchant_id order by time "
            f"range between {_DELAY * DAY + length} preceding and {_DELAY * DAY} preceding)"
        )
    named = ", ".join(f"{column.partition(' as ')[0]} as c{i}" for i, column in enumerate(columns))
    query = f"select {named} from given window {', '.join(windows)} order by row"  # noqa: S608
    arrays = list(database.execute(query).fetchnumpy().values())
    features: Features = {}
    for place, days in enumerate(_DAYS):
        count, mean, merchants, frauds = arrays[4 * place : 4 * place + 4]
        features[f"account_count_{days}d"] = np.asarray(count, dtype=np.float64)
        features[f"account_mean_{days}d"] = np.asarray(mean)
        known = np.ma.filled(frauds, 0).astype(np.float64)
        features |= _delayed(days, np.asarray(merchants, dtype=np.float64), known)
    return features


def polars(transactions: pa.Table) -> Features:
    """`rolling_*_by` over the keys; a delayed window is the difference of two that end now."""
    pl = importlib.import_module("polars")
    frame = pl.from_arrow(transactions).with_columns(one=pl.lit(1.0), fraud=pl.col("label") * 1.0)
    selected = {}
    for days in _DAYS:
        for aggregate, column in (("sum", "one"), ("mean", "amount")):
            rolled = getattr(pl.col(column), f"rolling_{aggregate}_by")
            selected[f"{column}_{days}"] = rolled("event_time", f"{days}d").over("account_id")
    for days in (_DELAY, *(_DELAY + days for days in _DAYS)):
        for column in ("one", "fraud"):
            rolled = pl.col(column).rolling_sum_by("event_time", f"{days}d")
            selected[f"merchant_{column}_{days}"] = rolled.over("merchant_id")
    columns = {
        name: column.to_numpy() for name, column in frame.select(**selected).to_dict().items()
    }
    features: Features = {}
    for days in _DAYS:
        features[f"account_count_{days}d"] = columns[f"one_{days}"]
        features[f"account_mean_{days}d"] = columns[f"amount_{days}"]
        count, frauds = (
            columns[f"merchant_{column}_{_DELAY + days}"] - columns[f"merchant_{column}_{_DELAY}"]
            for column in ("one", "fraud")
        )
        features |= _delayed(days, count, frauds)
    return features


def _delayed(
    days: int, count: npt.NDArray[np.float64], frauds: npt.NDArray[np.float64]
) -> Features:
    risk = np.zeros(len(count))
    np.divide(frauds, count, out=risk, where=count > 0)
    window = f"{days}d_delay_{_DELAY}d"
    return {f"merchant_count_{window}": count, f"merchant_risk_{window}": risk}


#: Name in the table to the engine.
ENGINES: dict[str, Callable[[pa.Table], Features]] = {
    "batch": batch,
    "state, 50,000 rows": partial(stream, rows=50_000),
    "state, 1,000 rows": partial(stream, rows=1_000),
    "state, 100 rows": partial(stream, rows=100),
    "pandas": pandas,
    "duckdb": duckdb,
    "polars": polars,
}
