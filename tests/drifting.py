"""Archives of simulated traffic, with or without a change of frauds, for tests of the monitor."""

from __future__ import annotations

from collections import Counter as Counts
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

import beam_fraud
from beam_fraud.decisions.inputs import DECIDED_AT, DecisionInputs
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.drift import Counter, decided_micros, measures_of, reference_counts
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.judgement import MIN_HISTORY
from beam_fraud.monitoring.drift.report import Monitored
from beam_fraud.monitoring.drift.summary import Layout, Summary
from beam_fraud.operations.drift.dead_letter_days import letters_by_day
from beam_fraud.operations.drift.weights import score_weights
from beam_fraud.pipeline.frames.rows import read
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.schema.event_time import event_micros
from beam_fraud.simulate.seasons import Seasons
from beam_fraud.simulate.simulation import Simulation, simulate

START = date(2024, 1, 1)
#: Days before training, of training, before the first judged day, judged without a change, and
#: judged with it.
HISTORY, TRAINING, BEFORE, JUDGED, CHANGED = 28, 42, MIN_HISTORY, 60, 3
#: The first day of the archive.
ARCHIVE = START + timedelta(days=HISTORY + TRAINING)
SCHEMA = """
name = "monitored"
[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
label = "TX_FRAUD"
[[feature]]
column = "TERMINAL_TYPE"
kind = "categorical"
[[velocity]]
key = "account_id"
windows = ["1d", "7d", "28d"]
aggregates = ["count", "mean"]
[[velocity]]
key = "merchant_id"
windows = ["1d", "7d", "28d"]
aggregates = ["count", "risk"]
delay = "7d"
"""


@dataclass(frozen=True)
class Archive:
    """A model and the rows that it scored."""

    bundle: Bundle
    #: Rows as `--keep-features` archives them.
    rows: pa.Table


def archive_of(
    seed: int, directory: Path, *, judged: int = JUDGED, accounts: int = 1000
) -> Archive:
    """Simulate growing traffic with weekends and pay days, train, and score what follows.

    After `judged` days, none of which should raise an alarm, frauds are of a new kind.
    """
    days = BEFORE + judged + CHANGED
    spec = Simulation(
        days=HISTORY + TRAINING + days,
        accounts=accounts,
        merchants=500,
        seed=seed,
        start=START,
        seasons=Seasons(weekend=0.7, pay_days=1.4, growth=0.02),
        merchant_types=8,
        new_fraud=ARCHIVE + timedelta(days=BEFORE + judged),
    )
    table = simulate(spec)
    schema = directory / "schema.toml"
    schema.write_text(SCHEMA)
    times = table["TX_DATETIME"].to_numpy()

    def before(day: date) -> int:
        return int(np.searchsorted(times, np.datetime64(day)))

    trained, scored = before(START + timedelta(days=HISTORY)), before(ARCHIVE)
    bundle = beam_fraud.train(
        table.slice(trained, scored - trained),
        schema=schema,
        model="hist_gradient_boosting",
        history=table.slice(0, trained),
        seed=seed,
    )
    features = bundle.features
    reading = read(table.slice(scored), table.slice(0, scored), features, "raise")
    scorer = Scorer(bundle, features, None, None, kept=DecisionInputs.of(features, None))
    with threadpool_limits(1):
        blocks = reading.transactions.to_batches(50_000)
        rows = [scorer.explain(*scorer.decide(block)) for block in blocks]
    return Archive(bundle, pa.Table.from_batches(rows))


def summary_of(archive: Archive, seed: int = 0) -> Summary:
    """Count the rows, and as many dead letters and late rows as usual, as `monitor` does."""
    features, reference = archive.bundle.features, read_reference(archive.bundle)
    random = np.random.default_rng(seed)
    days = archive.rows["event_time"].to_numpy().astype("datetime64[D]").astype(np.int64)
    dead_on, reasons = dead_letters(random, days)
    measures = measures_of(features, reference, kept=True, reasons=Counts(reasons), late=True)
    rows = arrived(random, archive.rows, days)
    arrivals = Arrivals.of_rows(event_micros(rows), decided_micros(rows.to_batches()[0]))
    counter = Counter(Layout(measures), archive.bundle.model_id, features, arrivals=arrivals)
    parts = [counter.count(batch) for batch in rows.to_batches(max_chunksize=50_000)]
    parts.append(letters_by_day(counter.layout, dead_on, pa.array(reasons)))
    return Summary.merged(counter.layout, parts)


def dead_letters(
    random: np.random.Generator, days: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Draw 0.4 % of dead letters in clumps, as a source sends them: days and reasons."""
    clumps = random.permutation(days)[: random.poisson(0.002 * len(days))]
    sizes = random.geometric(0.5, len(clumps))
    names = ("missing_amount", "wrong_type", "unparseable_time")
    reasons = random.choice(names, len(clumps), p=(0.6, 0.3, 0.1))
    return np.repeat(clumps, sizes), np.repeat(reasons, sizes).tolist()


def arrived(random: np.random.Generator, rows: pa.Table, days: npt.NDArray[np.int64]) -> pa.Table:
    """Draw when rows are decided: most at once, some late, on some days more than on others."""
    waits = np.where(random.random(len(days)) < 0.02, random.exponential(900, len(days)), 0.5)
    busy = random.lognormal(0, 0.3, int(np.ptp(days)) + 1)[days - days.min()]
    decided = event_micros(rows) + (1e6 * waits * busy).astype(np.int64)
    place = rows.schema.get_field_index(DECIDED_AT)
    column = pa.array(decided).cast(rows.schema.field(place).type)
    return rows.set_column(place, DECIDED_AT, column).combine_chunks()


def monitored_of(archive: Archive, summary: Summary) -> Monitored:
    """Return what `monitor` makes its report of."""
    kept = archive.rows["features"].combine_chunks()
    sample = kept.take(pa.array(np.linspace(0, len(kept) - 1, 2000).astype(np.int64)))
    matrix = np.column_stack([column.to_numpy() for column in sample.flatten()])
    return Monitored(
        archive.bundle.model_id,
        summary,
        reference_counts(read_reference(archive.bundle), summary.layout),
        score_weights(archive.bundle, np.ascontiguousarray(matrix)),
    )
