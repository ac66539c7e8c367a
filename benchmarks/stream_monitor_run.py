"""Read two topics with and without `--monitor`, in turn, in this process; print JSON.

Processes of their own would differ by what they import and how long, more than by the monitor.

python -m benchmarks.stream_monitor_run --kafka HOST:PORT --long TOPIC --short TOPIC --model BUNDLE
    --work DIR --repeat N
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from beam_fraud.cli import main as beam_fraud
from benchmarks import commands

#: What comes first in one pair comes last in the next: a machine that slows down affects both.
ORDER = (False, True, True, False)
#: A stream ends after so many seconds without a message.
_IDLE = ("--until-idle", "1")


def main() -> int:
    """Run, and print for each run its topic, `monitor`, messages, rate and processor time."""
    options = _options()
    turns = [("short", True), ("short", False), *_turns(options.repeat)]
    runs = []
    for number, (topic, monitor) in enumerate(turns):
        out = options.work / f"run-{number}"
        # An earlier process that was killed may have left one.
        shutil.rmtree(out, ignore_errors=True)
        command = commands.stream(
            options.kafka,
            getattr(options, topic),
            options.model,
            out,
            *_IDLE,
            *("--sink", f"sqlite:///{out / 'flagged.db'}"),
            *(("--monitor",) if monitor else ()),
        )
        began = time.process_time()
        with redirect_stdout(io.StringIO()):
            code = beam_fraud(list(command[1:]))
        used = time.process_time() - began
        if code:
            return code
        summary = json.loads((out / "summary.json").read_text("utf-8"))
        shutil.rmtree(out)
        runs.append(
            {
                "topic": topic,
                "monitor": monitor,
                "rows": summary["rows_scored"],
                "rate": summary["rows_per_second"],
                "processor_seconds": used,
            }
        )
        print(runs[-1], file=sys.stderr, flush=True)
    # The first two import what the others have.
    print(json.dumps(runs[2:]))
    return 0


def _turns(repeat: int) -> list[tuple[str, bool]]:
    return repeat * [*(("long", monitor) for monitor in ORDER), ("short", False), ("short", True)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kafka", "long", "short"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
