"""Read a topic with or without `--monitor` each time a line asks for it; print a line of JSON.

A process of its own, beside which another one reads the same topic in the other way.

python -m benchmarks.stream_monitor_run --kafka HOST:PORT --topic TOPIC --model BUNDLE --out DIR
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import NamedTuple, TypeVar
from unittest.mock import patch

from beam_fraud.cli import main as beam_fraud
from beam_fraud.decisions.inputs import DecisionInputs
from beam_fraud.state.drift import DriftShard
from beam_fraud.storage.checkpoint import LocalCheckpoint
from benchmarks import commands

#: Lines that ask for a stream.
PLAIN, WATCHED = "plain", "watched"
#: A stream ends after so many seconds without a message.
_IDLE = ("--until-idle", "1")
#: Methods that a stream calls for its monitor alone: they keep the features of rows, and count.
_OF_MONITOR: Mapping[type, tuple[str, ...]] = {
    DecisionInputs: ("with_rule_inputs", "with_features"),
    DriftShard: ("take", "tick"),
}
_T = TypeVar("_T")


class Moment(NamedTuple):
    """A commit of a stream."""

    #: Rows that are committed.
    rows: int
    #: Seconds by the clock, which all processes share, and of the processors for this process.
    clock: float
    processor: float


def main() -> int:
    """Run a stream for each line of the input, until its end."""
    options = _options()
    for line in sys.stdin:
        # An earlier process that was killed may have left one.
        shutil.rmtree(options.out, ignore_errors=True)
        command = commands.stream(
            options.kafka,
            options.topic,
            options.model,
            options.out,
            *_IDLE,
            *("--sink", f"sqlite:///{options.out / 'flagged.db'}"),
            *(("--monitor",) if line.strip() == WATCHED else ()),
        )
        began = time.process_time()
        with noted_commits() as moments, timed_monitor() as own:
            with redirect_stdout(io.StringIO()):
                code = beam_fraud(list(command[1:]))
            used = time.process_time() - began
        if code:
            return code
        rows = json.loads((options.out / "summary.json").read_text("utf-8"))["rows_scored"]
        shutil.rmtree(options.out)
        measured = {
            "rows": rows,
            "moments": moments,
            "own_micros": 1e6 * sum(own) / rows,
            "processor_seconds": used,
        }
        print(json.dumps(measured), flush=True)
    return 0


@contextmanager
def noted_commits() -> Iterator[list[Moment]]:
    """Note the start and each commit while the body runs: between two there are whole bundles."""
    moments, commit = [Moment(0, time.monotonic(), time.process_time())], LocalCheckpoint.commit

    def noted(checkpoint: LocalCheckpoint, positions: Mapping[str, str]) -> None:
        commit(checkpoint, positions)
        moments.append(Moment(checkpoint.rows, time.monotonic(), time.process_time()))

    with patch.object(LocalCheckpoint, "commit", noted):
        yield moments


@contextmanager
def timed_monitor() -> Iterator[list[float]]:
    """Measure the processor seconds of each call that a stream makes for its monitor alone."""
    seconds = list[float]()

    def timed(method: Callable[..., _T]) -> Callable[..., _T]:
        @wraps(method)
        def call(*given: object) -> _T:
            began = time.thread_time()
            try:
                return method(*given)
            finally:
                seconds.append(time.thread_time() - began)

        return call

    with ExitStack() as stack:
        for owner, names in _OF_MONITOR.items():
            for name in names:
                stack.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kafka", "topic"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
