"""The cost of a stream's monitor: a stream with `--monitor` beside one without, again and again.

Runs one after the other differ by several percent, more than the monitor costs: other work comes
and goes on the machine. So two processes read the same topic at the same time, one of them with the
monitor, and change roles after each round: what disturbs one run disturbs the other, and what makes
a process slower than the other is on either side once. The geometric mean of the ratios of two
rounds is one value. Both streams share the processors, so the throughput of each is about half of
what it would be alone, and what slows both, such as a busy disk, does not show in their ratio:
processor time, of all threads, is the figure that decides.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from benchmarks.measure import ROOT, ProcessFailedError
from benchmarks.plan import Plan, Results, log
from benchmarks.stream_monitor_run import PLAIN, WATCHED, Moment
from benchmarks.stream_run import filled_topic, java_is_here, running_broker
from benchmarks.table import Centre, Ratio, centre_of

#: Messages of the topic. Bounds are for so many: with fewer, the start decides.
ROWS = 300_000
#: Pairs of rounds for each repetition: fewer have no interval of 95 %.
_PAIRS = 6
#: Shares of the rows between which time is measured: before, steps are set up and buffers grow;
#: after, a stream ends, and the other one has the processors for itself.
_FIRST, _LAST = 0.1, 0.9
#: Percent of processor time and of throughput that a monitor may cost.
_BOUND = 5.0


@dataclass(frozen=True)
class Reading:
    """A stream that has read a topic to its end."""

    rows: int
    #: The start, and each commit.
    moments: tuple[Moment, ...]
    #: Microseconds a message in the calls that are made for the monitor alone.
    own_micros: float
    #: From the start of the command to its end.
    processor_seconds: float

    def when(self, share: float) -> float:
        """Return when a share of the rows was committed, by the clock."""
        return next(one.clock for one in self.moments if one.rows >= share * self.rows)

    def during(self, begin: float, end: float) -> Span:
        """Return what was done between the first and the last commit of a time by the clock."""
        within = [one for one in self.moments if begin <= one.clock <= end]
        if len({one.rows for one in within}) < 2:
            # Few messages have few commits.
            within = [self.moments[0], self.moments[-1]]
        first, last = within[0], within[-1]
        rows = last.rows - first.rows
        micros = 1e6 * (last.processor - first.processor) / rows
        return Span(rows / (last.clock - first.clock), micros)

    def beside(self, span: Span) -> float:
        """Return the seconds of processor time beside those of the rows."""
        return self.processor_seconds - 1e-6 * self.rows * span.micros


class Span(NamedTuple):
    """A part of a stream."""

    #: Messages a second.
    rate: float
    #: Microseconds of processor time a message, of all threads.
    micros: float


@dataclass(frozen=True)
class Round:
    """Two streams at the same time."""

    plain: Reading
    watched: Reading

    @cached_property
    def together(self) -> tuple[Span, Span]:
        """The parts of both while both ran, without the first and the last tenth."""
        both = self.plain, self.watched
        begin, end = max(one.when(_FIRST) for one in both), min(one.when(_LAST) for one in both)
        return self.plain.during(begin, end), self.watched.during(begin, end)


def measure_monitor(plan: Plan, results: Results) -> None:
    """Read a topic of simulated transactions again and again; the broker shares the processors."""
    if not java_is_here("stream-monitor"):
        return
    rows = min(ROWS, plan.inputs.rows)
    file, model = plan.inputs.stream(rows), plan.inputs.stream_bundle()
    work = plan.inputs.work / "out" / "stream-monitor"
    with running_broker(plan) as broker:
        topic = filled_topic(broker, file)
        places = ("--kafka", broker.bootstrap, "--topic", topic, "--model", str(model))
        with _reader(work / "one", places) as one, _reader(work / "other", places) as other:
            # The first rounds import what all have.
            rounds = [
                _round(*readers)
                for _ in range(1 + _PAIRS * plan.repeat)
                for readers in ((one, other), (other, one))
            ][2:]
    if lost := [each for each in rounds if {each.plain.rows, each.watched.rows} != {rows}]:
        raise ProcessFailedError((), 0, f"{lost[0]} of {rows} messages".encode())
    results.ratios += ratios_of(rounds, bounded=rows >= ROWS)


class _Reader:
    """A process that reads the topic each time it is asked."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors

    def ask(self, way: str) -> None:
        """Begin a stream, `PLAIN` or `WATCHED`."""
        assert self._process.stdin is not None
        # `answer` reports why a process has ended.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{way}\n")
            self._process.stdin.flush()

    def answer(self) -> Reading:
        """Return the stream that was asked for, at its end.

        Raises:
          ProcessFailedError: it failed.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return _reading(**json.loads(line))
        self._errors.seek(0)
        command = list(map(str, self._process.args))  # type: ignore[arg-type]  # a tuple of texts
        raise ProcessFailedError(command, self._process.wait(), self._errors.read())


@contextmanager
def _reader(out: Path, places: tuple[str, ...]) -> Iterator[_Reader]:
    """Run a process that reads the topic while the body runs."""
    command = (sys.executable, "-m", "benchmarks.stream_monitor_run", *places, "--out", str(out))
    pipe = subprocess.PIPE
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=errors, text=True
        )
        with process:
            try:
                yield _Reader(process, errors)
            finally:
                process.kill()


def _reading(moments: list[list[float]], **others: Any) -> Reading:
    return Reading(
        moments=tuple(Moment(int(rows), *seconds) for rows, *seconds in moments), **others
    )


def _round(plain: _Reader, watched: _Reader) -> Round:
    plain.ask(PLAIN)
    watched.ask(WATCHED)
    both = Round(plain.answer(), watched.answer())
    log.info("%s", both.together)
    return both


def ratios_of(rounds: Sequence[Round], *, bounded: bool) -> list[Ratio]:
    """Return what rounds say, of which each second one has the roles exchanged."""
    spans = [each.together for each in rounds]
    more = _percent(watched.micros / plain.micros for plain, watched in spans)
    less = _percent(watched.rate / plain.rate for plain, watched in spans)
    bound = _BOUND if bounded else None
    before = statistics.median(plain.micros for plain, _ in spans)
    after = statistics.median(watched.micros for _, watched in spans)
    fixed = statistics.median(
        each.watched.beside(watched) - each.plain.beside(plain)
        for each, (plain, watched) in zip(rounds, spans, strict=True)
    )
    own = statistics.median(each.watched.own_micros for each in rounds)
    share = centre_of([100 * each.watched.own_micros / each.together[1].micros for each in rounds])
    of = f"centre of {len(rounds) // 2} pairs"
    return [
        Ratio("stream, µs of processor time a row without a monitor", before),
        Ratio("stream, µs of processor time a row with a monitor", after),
        Ratio("  of these in the monitor's own calls", own),
        Ratio("stream, % of its processor time in the monitor's own calls", share.value, bound),
        Ratio("  its 95 % interval, low end", share.low),
        Ratio("  its 95 % interval, high end", share.high),
        Ratio(f"stream, % of processor time that a monitor adds, {of}", more.value, bound),
        Ratio("  its 95 % interval, low end", more.low),
        Ratio("  its 95 % interval, high end", more.high),
        Ratio(f"stream, % of throughput that a monitor takes, {of}", -less.value, bound),
        Ratio("  its 95 % interval, low end", -less.high),
        Ratio("  its 95 % interval, high end", -less.low),
        Ratio("stream, s of processor time to start a monitor and judge", fixed),
    ]


def _percent(ratios: Iterable[float]) -> Centre:
    """Return by how much ratios of rounds exceed 1, in percent.

    Args:
      ratios: of rounds, of which each second one has the roles exchanged.
    """
    logs = list(map(math.log, ratios))
    pairs = zip(logs[::2], logs[1::2], strict=True)
    centre = centre_of([(one + other) / 2 for one, other in pairs])
    return Centre(*(100 * math.expm1(log) for log in centre))
