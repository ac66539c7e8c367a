"""`beam-fraud demo`: simulate, train, score, alert and show the result."""

from __future__ import annotations

import json
import logging
import secrets
import shlex
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from beam_fraud.cli.commands import evaluate, score, train
from beam_fraud.cli.options import (
    DemoOptions,
    EvaluateOptions,
    ReviewOptions,
    ScoreOptions,
    ServeOptions,
    TrainOptions,
)
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import (
    Code,
    FraudError,
    UsageError,
    install,
    is_installed,
    need_extras,
)
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.files import whole_file, write_transactions
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.database.connection import writing
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.wording import own_call, reason_of

_LOG = logging.getLogger(__name__)

#: Simulated days, and the last ones of them to score.
_DAYS = 75
_DAYS_SCORED = 15
#: Maximum of printed alerts.
_ALERTS = 5
_CONSOLE = f"console:?digest={_ALERTS}"
#: Directory of the server's state, under `--out`.
_SERVED = "served"
#: Who logs in at --review.
_ANALYST = "demo"
_QUERY = "select * from flagged_transactions order by score desc limit 5"


def call(options: DemoOptions, *, as_json: bool) -> Outcome:
    """Run the demo, and then the server of `--serve` or `--review`.

    Raises:
      UsageError: `--port` without a server, or both servers.
      FraudError: the directory cannot be written, or the server cannot start.
    """
    if options.serve and options.review:
        raise UsageError("--review: not together with --serve", Code.OPTION_CONFLICT)
    if options.serve:
        need_extras(("uvicorn",), "--serve")
    elif options.review:
        need_extras(("argon2", "starlette", "uvicorn"), "--review")
    elif options.port:
        raise UsageError(f"--port {options.port}: needs --serve or --review", Code.OPTION_CONFLICT)
    out = Path(options.out)
    _forget(out / _SERVED)
    result = run(options)
    if not (options.serve or options.review):
        return Outcome(result, render)
    if not as_json:
        typer.echo(render(result))
    if options.review:
        reviewed = _review(out, options.port, as_json=as_json)
        return Outcome({**result, "reviewed": reviewed}, lambda result: _render_reviewed(reviewed))
    served = _serve(out, options.port, as_json=as_json)
    return Outcome({**result, "served": served}, lambda result: _render_served(served))


def run(options: DemoOptions) -> dict[str, object]:
    """Run the demo.

    Returns:
      The directory, the figures of each step and the commands.

    Raises:
      FraudError: the directory cannot be written.
    """
    started = time.monotonic()
    out = Path(options.out)
    check_output(Directory(out), f"--out {out}")
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
            sink=_sink(out),
            alerts=(_CONSOLE,),
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
    again, served, database = (
        shlex.quote(str(out / "again")),
        shlex.quote(str(out / _SERVED)),
        _sink(out),
    )
    program = own_call()
    served_by = "" if is_installed("uvicorn") else f"  {install('serve')}\n"
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
{served_by}  {program} serve --model {model} --state {served} --history {history} --history {new}
  sqlite3 {shlex.quote(str(out / "flagged.db"))} "{_QUERY}"
  {program} score YOUR.csv --schema YOUR.toml --model BUNDLE --history EARLIER.csv --out DIR
"""


def _sink(out: Path) -> str:
    return f"sqlite:///{out / 'flagged.db'}"


def _forget(served: Path) -> None:
    """Remove the state of an earlier demo: its windows and ids are of other transactions.

    Raises:
      FraudError: a server runs there, or it cannot be removed.
    """
    outputs = ServerOutputs(served.absolute(), option="--out")
    if not outputs.checkpoint.exists():
        return
    outputs.begin()
    try:
        for path in outputs.reserved:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise FraudError(
            f"--out {served}: cannot be removed ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    finally:
        outputs.release()


def _serve(out: Path, port: int, *, as_json: bool) -> dict[str, object]:
    """Answer transactions until Ctrl-C; print a call when the server answers."""
    # Needs an extra.
    from beam_fraud.cli.commands import serve
    from beam_fraud.serve.http.tokens import TokenSource

    new = out / "new.parquet"
    body = json.dumps(_next_transaction(pq.read_table(new)))
    token = TokenSource.of_environment().given

    def show(url: str) -> None:
        call = ["curl", "-sS", f"{url}/predict", "-H", "Content-Type: application/json"]
        words = [shlex.quote(word) for word in (*call, "-d", body)]
        if token:
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        # Standard output is the result's with --json.
        typer.echo(
            f"The server answers until Ctrl-C. In another terminal ({url}/docs describes more):"
            f"\n  {' '.join(words)}",
            err=as_json,
        )

    return serve.run(
        ServeOptions(
            model=str(out / "model"),
            state=str(out / _SERVED),
            history=(str(out / "history.parquet"), str(new)),
            sink=_sink(out),
            alerts=(_CONSOLE,),
            port=port,
        ),
        show,
    )


def _review(out: Path, port: int, *, as_json: bool) -> dict[str, object]:
    """Show the alerts to an analyst until Ctrl-C; print a log-in when the pages are there."""
    # Needs an extra.
    from beam_fraud.cli.commands import review
    from beam_fraud.cli.commands.database import database_of
    from beam_fraud.review.people.roles import Role
    from beam_fraud.review.people.users import add_user

    # The database is new with each demo.
    password = secrets.token_hex(8)
    with writing(database_of(_sink(out))) as connection:
        add_user(connection, _ANALYST, Role.ADMIN, password)

    def show(url: str) -> None:
        # Standard output is the result's with --json.
        typer.echo(
            f"The alerts are at {url} until Ctrl-C: log in as {_ANALYST}, password {password}",
            err=as_json,
        )

    options = ReviewOptions(database=_sink(out), lists=str(out / "lists"), port=port)
    return review.run(options, show)


def _render_reviewed(reviewed: dict[str, object]) -> str:
    from beam_fraud.cli.commands import review

    return review.render(reviewed)


def _render_served(served: dict[str, object]) -> str:
    from beam_fraud.cli.commands import serve

    return serve.render(served)


def _next_transaction(rows: pa.Table) -> dict[str, object]:
    """Return a large purchase of the busiest account, a minute after all transactions."""
    counts = pc.value_counts(rows["CUSTOMER_ID"])
    busiest = counts.field("values")[
        pc.index(counts.field("counts"), pc.max(counts.field("counts")))
    ]
    own = rows.filter(pc.equal(rows["CUSTOMER_ID"], busiest.as_py()))
    moment = pc.max(rows["TX_DATETIME"]).as_py() + timedelta(minutes=1)
    return {
        "TRANSACTION_ID": "demo-1",
        "TX_DATETIME": moment.isoformat(timespec="seconds"),
        "CUSTOMER_ID": own["CUSTOMER_ID"][-1].as_py(),
        "TERMINAL_ID": own["TERMINAL_ID"][-1].as_py(),
        "TX_AMOUNT": round(5 * pc.mean(own["TX_AMOUNT"]).as_py(), 2),
    }


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
