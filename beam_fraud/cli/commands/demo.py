"""`beam-fraud demo`: simulate, train, score, alert and show the result."""

from __future__ import annotations

import logging
import shlex
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.cli.commands import evaluate, score, train
from beam_fraud.cli.options import DemoOptions, EvaluateOptions, ScoreOptions, TrainOptions
from beam_fraud.platform.wording import own_call
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.files import whole_file, write_transactions
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.atomic import make_directory

_LOG = logging.getLogger(__name__)

#: Simulated days, and the last ones of them to score.
_DAYS = 75
_DAYS_SCORED = 15
#: Maximum of printed alerts.
_ALERTS = 5
_QUERY = "select * from flagged_transactions order by score desc limit 5"


def run(options: DemoOptions) -> dict[str, object]:
    """Run the demo.

    Returns:
      The directory, the figures of each step and the commands.

    Raises:
      FraudError: the directory cannot be written.
    """
    started = time.monotonic()
    out = Path(options.out)
    make_directory(out)
    history, new = str(out / "history.parquet"), str(out / "new.parquet")
    bundle, scored = str(out / "model"), str(out / "scored")
    simulated = _simulate(Path(history), Path(new), options.seed)
    trained = train.run(
        TrainOptions(
            files=(history,),
            schema=HANDBOOK.name,
            model="forest",
            out=bundle,
            seed=options.seed,
            name="demo",
        )
    )
    # An alert is sent once per transaction: remove the outbox so that a repeated demo shows them
    # again.
    for left in out.glob("flagged.db*"):
        left.unlink()
    summary = score.run(
        ScoreOptions(
            files=(new,),
            history=(history,),
            model=bundle,
            out=scored,
            sink=f"sqlite:///{out / 'flagged.db'}",
            alerts=(f"console:?digest={_ALERTS}",),
        )
    )
    report = evaluate.run(EvaluateOptions(files=(new,), history=(history,), models=(bundle,)))
    return {
        "out": str(out),
        "simulated": simulated,
        "trained": {key: trained[key] for key in ("model_id", "kind", "threshold", "seconds")},
        "scored": summary,
        "evaluated": report,
        "seconds": round(time.monotonic() - started, 1),
    }


def render(result: dict[str, object]) -> str:
    """Return the report: results, their place and next steps."""
    out = Path(cast(str, result["out"]))
    simulated = cast(dict[str, int], result["simulated"])
    scored = cast(dict[str, Any], result["scored"])
    figures = cast(dict[str, Any], result["evaluated"])
    confusion = figures["confusion"]
    caught, missed, false_alarms = confusion["tp"], confusion["fn"], confusion["fp"]
    new, history, model = (
        shlex.quote(str(out / name)) for name in ("new.parquet", "history.parquet", "model")
    )
    again, database = shlex.quote(str(out / "again")), f"sqlite:///{out / 'flagged.db'}"
    program = own_call()
    return f"""
{simulated["history"]:,} simulated transactions trained {scored["model_id"]},
which scored {scored["rows_scored"]:,} newer ones and flagged {scored["rows_flagged"]:,}:
  {caught:,} of the {caught + missed:,} frauds among them, and {false_alarms:,} genuine.
It knows what each card and terminal did in the weeks before, not only the amount and the hour.

scores        {out / "scored/scores"}
flagged       {out / "flagged.db"}
model         {out / "model"}  (card.md describes it)
seconds       {result["seconds"]}

All {scored["rows_flagged"]:,} alerts, of which those above have the highest scores:
  {program} alerts list --sink {shlex.quote(database)}

Try next:
  {program} evaluate {new} --history {history} --model {model}
  {program} score {new} --history {history} --model {model} --out {again}
  sqlite3 {shlex.quote(str(out / "flagged.db"))} "{_QUERY}"
  {program} score YOUR.csv --schema YOUR.toml --model BUNDLE --history EARLIER.csv --out DIR
"""


def _simulate(history: Path, new: Path, seed: int) -> dict[str, int]:
    spec = Simulation(days=_DAYS, accounts=1000, merchants=2000, seed=seed)
    table = simulate(spec)
    _LOG.info("simulated %d transactions of %d days", table.num_rows, _DAYS)
    split = spec.start + timedelta(days=_DAYS - _DAYS_SCORED)
    is_new = pc.greater_equal(table["TX_DATETIME"], pa.scalar(split).cast(pa.timestamp("us")))
    counts = {}
    for path, part in ((history, table.filter(pc.invert(is_new))), (new, table.filter(is_new))):
        with whole_file(path) as file:
            write_transactions(part, path, file)
        counts[path.stem] = part.num_rows
    return counts
