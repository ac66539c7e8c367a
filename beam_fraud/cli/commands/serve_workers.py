"""`serve --workers`: servers beside each other on this machine, each with some of the accounts."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import msgspec

from beam_fraud.cli.commands.serve_pages import pages_beside, pages_of, without_pages
from beam_fraud.cli.commands.serve_plan import SPLIT, ServePlan, plan
from beam_fraud.cli.commands.serve_together import watched_together
from beam_fraud.cli.commands.server_process import Run, ServerProcess, preload, start_all
from beam_fraud.cli.options import ServeOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import make_directory, write_file
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: What processes of servers have imported.
_PRELOADED = ("beam_fraud.cli.commands.serve", "beam_fraud.serve.http.server")
_Server: TypeAlias = ServerProcess[ServeOptions]
#: Seconds between two looks at the servers.
_TICK = 0.1
#: Figures of a server's result that add up: those that some servers have, and those of all.
_SELDOM = ("rows_audited",)
_SUMMED = ("rows_scored", "rows_flagged", "rows_dead", "rows_duplicate", "shed")


def run(options: ServeOptions, one: Run[ServeOptions]) -> dict[str, object]:
    """Run servers until SIGINT or SIGTERM; start one again that ends by itself.

    Args:
      options: the options of all.
      one: runs one server.

    Returns:
      The sums of their results.

    Raises:
      UsageError: an option is invalid, or several servers cannot work with it.
      FraudError: a server ends before it has answered.
    """
    begun = time.monotonic()
    parts = [_part(options, number) for number in range(options.workers)]
    states = [part.state for part in parts]
    servers = [_Server(f"the server at port {part.port}", one, part) for part in parts]
    first, pages = plan(servers[0].options), pages_of(options)
    _refuse_sharing(options, first)
    _record_split(Path(options.state), options.workers)
    stop = threading.Event()
    preload(_PRELOADED)
    try:
        with (
            pages_beside(pages) as shown,
            drained_by_signals(stop.set),
            watched_together(options, first, states) as sums,
        ):
            # The first alone: what all would fail by is said once.
            start_all(servers[:1], stop)
            start_all(servers[1:], stop)
            if not stop.is_set():
                _LOG.info("%d servers answer: %s", len(servers), ", ".join(map(_url, servers)))
            while not stop.wait(_TICK):
                for server in servers:
                    server.attend()
            for server in servers:
                server.terminate()
            results = [server.result() for server in servers]
    finally:
        for server in servers:
            server.kill()
    shadows = sums.shadows
    return _summed(results) | {
        **(shadows.about() if shadows.figures else {}),
        "workers": options.workers,
        "urls": [_url(server) for server in servers],
        "restarts": sum(server.restarts for server in servers),
        "seconds": round(time.monotonic() - begun, 1),
        # Each takes up another champion by itself, all within seconds.
        "model_id": next(
            (result["model_id"] for result in results if result),
            first.scored.scoring.bundle.model_id,
        ),
        "state": options.state,
        **shown,
    }


def refuse_split(state: Path) -> None:
    """Refuse the state of several servers for a single one.

    Raises:
      UsageError: it is one.
    """
    if (number := _split_of(state)) is not None:
        raise UsageError(
            f"--state {state}: the accounts are split among {number} servers; give --workers "
            f"{number}, or another directory",
            Code.STREAM_CHANGED,
        )


def _part(options: ServeOptions, number: int) -> ServeOptions:
    """Return the options of one server."""
    port = options.port + number
    if not options.port or port > 65_535:
        raise UsageError(
            f"--port {options.port} --workers {options.workers}: the servers listen at this port "
            "and those after it; give a port that leaves room up to 65535",
            Code.OPTION_CONFLICT,
        )
    config = options.kafka_config
    if options.kafka is not None and not any(one.startswith("group.id=") for one in config):
        # Commits are for people, who look at the delay of each.
        config = (*config, f"group.id=beam-fraud-{options.topic}-{number}")
    # As text: a URL must stay one, which is refused.
    state = f"{options.state.rstrip('/')}/{number}"
    part = replace(
        options, workers=1, among=options.state, state=state, port=port, kafka_config=config
    )
    return without_pages(part)


def _refuse_sharing(options: ServeOptions, planned: ServePlan) -> None:
    """Refuse what several servers cannot do.

    Raises:
      UsageError: windows need transactions of all accounts, or places are written by all.
    """
    sharing = f"--workers {options.workers}"
    apart = [v.key for v in planned.scored.features.velocity if "account_id" not in v.key]
    if apart and options.kafka is None:
        raise UsageError(
            f"{sharing}: windows of {' and '.join(apart[0])} need the transactions of all "
            "accounts; follow a topic with all of them (--kafka), or run one server",
            Code.OPTION_CONFLICT,
        )
    sink = planned.scored.scoring.sink
    if sink is not None and sink.archive is not None:
        raise UsageError(
            f"{sharing} --sink {sink.archive}: several servers cannot write one directory; give a "
            "database",
            Code.OPTION_CONFLICT,
        )
    if options.kafka is not None and options.alerts and (sink is None or sink.database is None):
        raise UsageError(
            f"{sharing}: each server would send the alerts of the topic; give --sink a database, "
            "where an alert is queued once",
            Code.OPTION_CONFLICT,
        )


def _record_split(state: Path, workers: int) -> None:
    """Record the number of servers, which decides whose windows hold an account.

    Raises:
      UsageError: the state is that of another number of servers.
      FraudError: the directory cannot be written.
    """
    number = _split_of(state)
    if number == workers:
        return
    if number is not None or ServerOutputs(state.absolute()).checkpoint.exists():
        raise UsageError(
            f"--state {state}: the state of {number or 1} servers, among which accounts are "
            f"spread in another way; give --workers {number or 1}, or another directory and "
            "--history",
            Code.STREAM_CHANGED,
        )
    check_output(Directory(state), f"--state {state}")
    make_directory(state)
    try:
        write_file(state / SPLIT, msgspec.json.encode({"workers": workers}))
    except OSError as error:
        raise FraudError(
            f"--state {state}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def _split_of(state: Path) -> int | None:
    try:
        return int(
            msgspec.json.decode((state / SPLIT).read_bytes(), type=dict[str, int])["workers"]
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        raise FraudError(
            f"{state / SPLIT}: cannot be read ({reason_of(error)})", Code.STATE_UNREADABLE
        ) from None


def _url(server: _Server) -> str:
    options = server.options
    scheme = "http" if options.tls_cert is None else "https"
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{scheme}://{host}:{options.port}"


def _summed(results: Sequence[dict[str, object]]) -> dict[str, object]:
    names = [*_SUMMED, *(name for name in _SELDOM if any(name in one for one in results))]
    sums, degraded = dict.fromkeys(names, 0), Counter[str]()
    for result in results:
        for name in names:
            value = result.get(name, 0)
            sums[name] += value if isinstance(value, int) else 0
        reasons = result.get("degraded")
        if isinstance(reasons, dict):
            degraded.update(reasons)
    return {**sums, "degraded": dict(degraded)}
