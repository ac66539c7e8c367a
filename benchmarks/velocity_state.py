"""Time the state engine of velocity features alone, from Arrow columns to arrays.

The work is the handbook preset's: counts and means of an account over 1, 7 and 30 days, counts and
risk of a merchant over the same, 7 days back. The first two thirds of the time only fill the state.
Seconds are those of the processor: there is one thread, and others may want the machine.

    python -m benchmarks.velocity_state [--rows N] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import by_key, keyed_rows
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.velocity import Velocity
from beam_fraud.simulate.simulation import Simulation, simulate

#: Rows of the micro-batches.
SIZES = (100, 1000, 50_000)
#: The part of the rows that only fills the state: more than the longest window and its delay.
FILLED = 2 / 3
#: Processor seconds after which a measurement ends.
_ENOUGH = 5.0
_ACCOUNTS, _MERCHANTS = 5000, 10_000


@dataclass(frozen=True)
class StateFigure:
    """The measurement of one size of micro-batch."""

    #: Rows of a micro-batch.
    batch_rows: int
    #: Rows that were timed.
    rows: int
    #: Processor seconds.
    seconds: float
    #: Rows over seconds, both keys together.
    rows_per_second: float
    #: Bytes of both states for each transaction in their longest windows, by key.
    bytes_per_row: dict[str, float]


def transactions(rows: int) -> pa.Table:
    """Return about so many simulated transactions in the order of time, in the pipeline's form."""
    days = max(120, round(rows / (_ACCOUNTS * 1.9)))
    table = simulate(Simulation(days=days, accounts=_ACCOUNTS, merchants=_MERCHANTS))
    table = table.slice(0, rows).combine_chunks()
    return pa.table(
        {
            "transaction_id": pc.cast(table["TRANSACTION_ID"], pa.string()),
            "event_time": pc.assume_timezone(table["TX_DATETIME"], "UTC"),
            "account_id": pc.cast(table["CUSTOMER_ID"], pa.string()),
            "merchant_id": pc.cast(table["TERMINAL_ID"], pa.string()),
            "amount": table["TX_AMOUNT"],
            "label": table["TX_FRAUD"],
        }
    )


def measure(
    table: pa.Table, size: int, specs: Sequence[Velocity] = HANDBOOK.velocity
) -> StateFigure:
    """Pass the last third of the rows through the states, in micro-batches of this size."""
    hashing = IdHash.random()
    states = {key: VelocityState(of_key) for key, of_key in by_key(specs).items()}
    first = int(len(table) * FILLED)
    for batch in table.slice(0, first).to_batches(50_000):
        _walk(states, batch, hashing)
    batches = table.slice(first).to_batches(size)
    done, start = 0, time.process_time()
    for batch in batches:
        _walk(states, batch, hashing)
        done += len(batch)
        if time.process_time() - start > _ENOUGH:
            break
    seconds = time.process_time() - start
    walked = table["event_time"].slice(0, first + done).cast(pa.int64()).to_numpy()
    inside = {
        key: int((walked > walked[-1] - max(spec.horizon for spec in state.specs)).sum())
        for key, state in states.items()
    }
    per_row = {"+".join(key): state.nbytes / inside[key] for key, state in states.items()}
    return StateFigure(size, done, seconds, done / seconds, per_row)


def _walk(
    states: dict[tuple[str, ...], VelocityState], batch: pa.RecordBatch, hashing: IdHash
) -> None:
    for state in states.values():
        keyed = keyed_rows(batch, state.specs, hashing)
        for feature in state.update(keyed.rows, keyed.frauds).values():
            keyed.spread(feature)


def render(figures: Sequence[StateFigure]) -> str:
    """Return a line for each size."""
    lines = [
        f"{f.batch_rows:>7,} rows a batch  {f.rows_per_second:>10,.0f} rows/s  "
        + "  ".join(f"{key} {size:.1f} bytes/row" for key, size in f.bytes_per_row.items())
        for f in figures
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the sizes of the command line."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_750_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = transactions(options.rows)
    figures = [measure(table, size) for size in SIZES]
    print(json.dumps([asdict(f) for f in figures]) if options.json else render(figures))


if __name__ == "__main__":
    main()
