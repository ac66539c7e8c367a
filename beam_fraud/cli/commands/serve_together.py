"""Add up the live figures, drift and challengers of the servers of `serve --workers`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from beam_fraud.cli.commands.live_figures import Sampled, sampling
from beam_fraud.cli.commands.live_monitor import Judged, gauges_of, judging
from beam_fraud.cli.commands.serve_plan import ServePlan
from beam_fraud.cli.options import ServeOptions
from beam_fraud.decisions.decider import Pair
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.monitoring.live_figures import LIVE, FiguresFile, LiveFigures
from beam_fraud.monitoring.periodic_work import periodically
from beam_fraud.monitoring.server_figures import (
    FIGURES,
    SHADOWS,
    ServerFigures,
    ServerSums,
)
from beam_fraud.monitoring.shadow import ShadowTotals
from beam_fraud.serve.metrics import BOUNDS, Metrics
from beam_fraud.state.drift import DRIFT
from beam_fraud.state.identity import IN_FORCE
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.checkpoint import recorded_about, recorded_deltas
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.wording import reason_of

if TYPE_CHECKING:
    from beam_fraud.evaluation.monitor_report import MonitorReport

#: File of the last report of the monitor, in the directory of the monitor of all.
REPORT = "report.msgpack"
#: Seconds between two exchanges of figures.
_EXCHANGE_SECONDS = 1.0


@contextmanager
def watched_together(
    options: ServeOptions, planned: ServePlan, states: Sequence[str]
) -> Iterator[ServerSums]:
    """Add up the figures of all servers and judge what they count, in the process of their parent.

    Args:
      options: of all.
      planned: the plan of the first.
      states: `--state` of each.

    Yields:
      The sums, which are whole after the body.

    Raises:
      FraudError: the directory of the figures cannot be written.
    """
    servers = [ServerOutputs(Path(state).absolute()) for state in states]
    directory = ServerOutputs(Path(options.state).absolute()).monitor
    make_directory(directory)
    together = [directory / name for name in (SHADOWS, LIVE, REPORT)]
    _forget([*(one.own / FIGURES for one in servers), *together])
    sums = ServerSums([one.own for one in servers], BOUNDS)
    shadows, reports = FiguresFile(directory / SHADOWS), FiguresFile(directory / REPORT)
    last: list[MonitorReport] = []
    judged = _judged(options, planned, servers, directory) if options.monitor else None
    with ExitStack() as stack:
        report = stack.enter_context(judging(options, judged))

        def exchange() -> None:
            sums.look()
            shadows.write(msgspec.msgpack.encode(sums.shadows))
            newest = report()
            if newest is not None and last != [newest]:
                reports.write(msgspec.msgpack.encode(newest))
                last[:] = [newest]

        sampled = Sampled("server", lambda: sums.totals, report, options.monitor, directory)
        stack.enter_context(sampling(sampled))
        stack.enter_context(periodically(exchange, _EXCHANGE_SECONDS, "the sums of the servers"))
        yield sums


def _forget(files: Sequence[Path]) -> None:
    """Remove what an earlier call has left."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise FraudError(
                f"{file}: cannot be removed ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
            ) from None


def _judged(
    options: ServeOptions, planned: ServePlan, servers: Sequence[ServerOutputs], directory: Path
) -> Judged:
    """Return what the monitor of all servers works with: what their states have folded."""
    # Each follower scores every row of the topic.
    counting = servers[:1] if options.kafka is not None else servers
    return Judged(
        lambda: [one for of in counting for one in recorded_deltas(of.checkpoint, DRIFT, 0)],
        _in_force(planned, servers[0].checkpoint),
        True,
        directory,
        planned.scored.scoring.alerts_database,
        [channel.name for channel in planned.scored.channels],
    )


def _in_force(planned: ServePlan, checkpoint: Path) -> Callable[[], Bundle]:
    """Return a function that returns the bundle by which the server of a state decides."""
    registry = None if planned.choice is None else planned.choice.registry
    known = [planned.scored.scoring.bundle]

    def bundle() -> Bundle:
        if registry is not None:
            recorded = recorded_about(checkpoint).get(IN_FORCE, "null")
            pair = msgspec.json.decode(recorded, type=Pair | None)
            if pair is not None and pair[0] != known[0].model_id:
                known[0] = open_registry(registry).bundle(pair[0])
        return known[0]

    return bundle


@contextmanager
def joined(state: Path, outputs: ServerOutputs, metrics: Metrics) -> Iterator[None]:
    """Tell the parent the figures of one of several servers, and show those of all.

    Until the parent has added them up, a server shows its own challengers.

    Args:
      state: `--state` of all.
      outputs: of this server.
      metrics: its figures, whose live page, drift and challengers become those of all.
    """
    directory = ServerOutputs(state.absolute()).monitor
    own, file, process = metrics.shadow_totals, FiguresFile(outputs.own / FIGURES), uuid.uuid4().hex
    shown = _Shown(directory)

    def exchange() -> None:
        figures = ServerFigures(process, metrics.totals(), own())
        file.write(msgspec.msgpack.encode(figures))
        shown.read()

    metrics.shadow_totals = lambda: own() if shown.shadows is None else shown.shadows
    metrics.live, metrics.monitor = lambda: shown.live, lambda: gauges_of(shown.report)
    with periodically(exchange, _EXCHANGE_SECONDS, "the figures of the server"):
        yield


class _Shown:
    """The sums of the parent. Call `read` in one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.shadows: ShadowTotals | None = None
        self.live: LiveFigures | None = None
        self.report: MonitorReport | None = None
        #: Time of the report that was read.
        self._reported = 0

    def read(self) -> None:
        """Read it; what is not there yet, or no more, stays as it was."""
        with suppress(OSError):
            data = (self._directory / SHADOWS).read_bytes()
            self.shadows = msgspec.msgpack.decode(data, type=ShadowTotals)
        with suppress(OSError):
            data = (self._directory / LIVE).read_bytes()
            self.live = msgspec.json.decode(data, type=LiveFigures)
        with suppress(OSError):
            file = self._directory / REPORT
            changed = file.stat().st_mtime_ns
            if changed != self._reported:
                # Imported here: SciPy's statistics are for those who monitor.
                from beam_fraud.evaluation.monitor_report import MonitorReport

                self.report = msgspec.msgpack.decode(file.read_bytes(), type=MonitorReport)
                self._reported = changed
