"""`beam-fraud simulate`: labelled transactions in a file."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

import pyarrow.compute as pc

from beam_fraud.errors import UsageError
from beam_fraud.simulate.files import file_format, whole_file, write_transactions
from beam_fraud.simulate.fraud import MIX
from beam_fraud.simulate.simulation import FRAUD_RATE, Simulation, simulate

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulateOptions:
    """What `beam-fraud simulate` is asked for."""

    #: The file to write; its name says the format.
    out: str
    #: How many days.
    days: int = 90
    #: How many customers.
    accounts: int = 1000
    #: How many terminals.
    merchants: int = 2000
    #: The same options and seed give the same transactions.
    seed: int = 0
    #: The part of transactions that shall be frauds; None: what the handbook's scenarios give.
    fraud_rate: float | None = None
    #: The first day, as in 2024-01-01.
    start: str = "2024-01-01"


def run(options: SimulateOptions) -> dict[str, object]:
    """Simulate and write the file.

    Returns:
      `out`, `transactions`, `frauds`, `fraud_rate` (the one reached), `accounts`, `merchants`,
      `days`, `seconds` and `scenarios` (transactions of each kind of fraud, by its number).

    Raises:
      UsageError: an option cannot be meant.
      FraudError: the file cannot be written.
    """
    began = time.perf_counter()
    path = Path(options.out)
    file_format(path)
    spec = _specification(options)
    with whole_file(path) as sink:
        transactions = simulate(spec)
        _LOG.info("simulated %d transactions, writing %s", transactions.num_rows, path)
        write_transactions(transactions, path, sink)
    scenario = transactions["TX_FRAUD_SCENARIO"]
    scenarios = {str(kind): pc.sum(pc.equal(scenario, kind)).as_py() or 0 for kind in MIX}
    frauds = sum(scenarios.values())
    return {
        "out": options.out,
        "transactions": transactions.num_rows,
        "frauds": frauds,
        "fraud_rate": frauds / max(transactions.num_rows, 1),
        "accounts": spec.accounts,
        "merchants": spec.merchants,
        "days": spec.days,
        "seconds": round(time.perf_counter() - began, 3),
        "scenarios": scenarios,
    }


def render(result: Mapping[str, object]) -> str:
    """The result of `run` in plain text."""
    scenarios = cast(Mapping[str, int], result["scenarios"])
    return (
        f"{_counted(result, 'transactions')} of {_counted(result, 'accounts')} at "
        f"{_counted(result, 'merchants')} over {_counted(result, 'days')} in "
        f"{result['seconds']:.1f} s\n"
        f"{_counted(result, 'frauds')} ({result['fraud_rate']:.2%}): "
        f"{scenarios['1']:,} amounts too high, {scenarios['2']:,} at compromised terminals, "
        f"{scenarios['3']:,} of compromised customers\n"
        f"{result['out']}"
    )


def _counted(result: Mapping[str, object], name: str) -> str:
    count = cast(int, result[name])
    return f"{count:,} {name.removesuffix('s') if count == 1 else name}"


def _specification(options: SimulateOptions) -> Simulation:
    try:
        start = date.fromisoformat(options.start)
    except ValueError:
        raise UsageError(f"--start {options.start!r}: not a day, as in 2024-01-01") from None
    return Simulation(
        days=options.days,
        accounts=options.accounts,
        merchants=options.merchants,
        seed=options.seed,
        fraud_rate=FRAUD_RATE if options.fraud_rate is None else options.fraud_rate,
        start=start,
    )
