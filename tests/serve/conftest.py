"""A model and transactions for servers."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.simulate.simulation import Simulation, simulate

RULES = """
[[rule]]
name = "large"
when = "amount > 150"
decision = "review"

[[rule]]
name = "busy"
when = "account_count_1d >= 6"
decision = "review"

[[rule]]
name = "tried"
when = "amount > 60"
decision = "decline"
mode = "shadow"

[[rule]]
name = "staged"
when = "amount > 20"
decision = "review"
rollout = 30
"""


@dataclass(frozen=True)
class Served:
    """A model, the transactions it was trained on, and later ones as requests."""

    #: The bundle.
    bundle: str
    #: File of the earlier transactions; "" for none.
    history: str
    #: File of the later ones, and the same as JSON records in their order.
    later: str
    records: tuple[bytes, ...]
    #: File of rules; "" for none.
    rules: str


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    directory = tmp_path_factory.mktemp("served")
    rows = simulate(Simulation(days=50, accounts=60, merchants=60))
    cut = len(rows) - 400
    history, later = directory / "history.parquet", directory / "later.parquet"
    for file, part in ((history, rows.slice(0, cut)), (later, rows.slice(cut))):
        pq.write_table(part, file)
    rules = directory / "rules.toml"
    rules.write_text(RULES)
    bundle = str(directory / "model")
    train.run(
        TrainOptions(
            files=(str(history),),
            schema="handbook",
            model="hist_gradient_boosting",
            out=bundle,
            settings=("trees=30",),
        )
    )
    records = tuple(record_of(row) for row in rows.slice(cut).to_pylist())
    return Served(bundle, str(history), str(later), records, str(rules))


def record_of(row: dict[str, object]) -> bytes:
    """Return a transaction as a client sends it, without a label."""
    return msgspec.json.encode({name: value for name, value in row.items() if name != "TX_FRAUD"})


def column(table: pa.Table | pa.RecordBatch, name: str) -> list[object]:
    values: list[object] = table.column(name).to_pylist()
    return values
