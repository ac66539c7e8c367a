"""Print one table of the pipeline's cost, beside a plain loop and Beam row by row.

python -m benchmarks [--only PART,PART] [--repeat N] [--rows N] [--seconds N] [--full] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict

from beam_fraud.errors import FraudError
from benchmarks.explore import measure_explore
from benchmarks.features import measure_handbook, measure_many
from benchmarks.flink_batch import measure_flink_batch
from benchmarks.flink_stream import measure_flink_latency, measure_flink_stream
from benchmarks.inputs import Inputs
from benchmarks.machine import machine
from benchmarks.measure import ROOT, ProcessFailedError
from benchmarks.memory import measure_memory, measure_memory_with_ids
from benchmarks.operations import measure_operations
from benchmarks.plan import Plan, Results
from benchmarks.reasons import measure_reasons
from benchmarks.rescore import measure_rescore
from benchmarks.review import measure_review
from benchmarks.rules import measure_rules
from benchmarks.score import measure_score
from benchmarks.serve import measure_serve, measure_serve_monitor
from benchmarks.shadow import measure_shadow
from benchmarks.start_up import measure_help
from benchmarks.stream import measure_stream
from benchmarks.stream_avro import measure_avro
from benchmarks.stream_hostile import measure_hostile
from benchmarks.stream_latency import measure_latency
from benchmarks.stream_memory import measure_stream_memory
from benchmarks.stream_monitor import measure_monitor
from benchmarks.table import render
from benchmarks.training import measure_training
from benchmarks.upserts import measure_upserts
from benchmarks.velocity import measure_velocity
from benchmarks.workers import measure_workers

#: The real transactions that a part needs, if any.
_ULB, _PUBLISHED = "creditcard.parquet", "handbook_transactions.parquet"
#: Name of a part, the file that it needs, and what measures it.
_PARTS: tuple[tuple[str, str | None, Callable[[Plan, Results], None]], ...] = (
    ("score", _ULB, measure_score),
    ("operations", _ULB, measure_operations),
    ("workers", _ULB, measure_workers),
    ("memory", _ULB, measure_memory),
    ("memory", None, measure_memory_with_ids),
    ("velocity", None, measure_velocity),
    ("features", _PUBLISHED, measure_handbook),
    ("features", None, measure_many),
    ("training", _PUBLISHED, measure_training),
    ("explore", _PUBLISHED, measure_explore),
    ("reasons", _ULB, measure_reasons),
    ("rules", None, measure_rules),
    ("rescore", None, measure_rescore),
    ("shadow", None, measure_shadow),
    ("stream", None, measure_stream),
    ("stream-avro", None, measure_avro),
    ("stream-latency", None, measure_latency),
    ("stream-hostile", None, measure_hostile),
    ("stream-memory", None, measure_stream_memory),
    ("stream-monitor", None, measure_monitor),
    ("serve", None, measure_serve),
    ("serve-monitor", None, measure_serve_monitor),
    ("flink-batch", _ULB, measure_flink_batch),
    ("flink-stream", None, measure_flink_stream),
    ("flink-latency", None, measure_flink_latency),
    ("upserts", None, measure_upserts),
    ("review", None, measure_review),
    ("help", None, measure_help),
)
_NAMES = tuple(dict.fromkeys(name for name, _, _ in _PARTS))
_MODELS = ("hist_gradient_boosting", "forest")
#: 18 times the ULB transactions.
_ROWS = 5_126_526


def main() -> int:
    """Measure and print; return 1 if a process failed."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    data = (ROOT / options.data).resolve()
    work = (ROOT / options.work).resolve()
    inputs = Inputs(data / _ULB, data / _PUBLISHED, work, options.rows)
    models = tuple(options.model or _MODELS)
    plan, results = Plan(inputs, options.repeat, models, options.full, options.seconds), Results()
    try:
        for name, needed, measure in _PARTS:
            if name in options.only:
                if needed and not (data / needed).is_file():
                    logging.warning("%s: no %s, left out; see --data", name, data / needed)
                else:
                    measure(plan, results)
    except (ProcessFailedError, FraudError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work / "out", ignore_errors=True)
    if options.json:
        measured = {
            "machine": machine(),
            "figures": [asdict(figure) for figure in results.figures],
            "latencies": [asdict(latency) for latency in results.latencies],
            "ratios": [{**asdict(ratio), "holds": ratio.holds} for ratio in results.ratios],
        }
        print(json.dumps(measured, indent=2))
    else:
        print(render(machine(), results.figures, results.ratios, results.latencies))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", type=_parts, default=_NAMES, help=f"of {','.join(_NAMES)}")
    parser.add_argument("--repeat", type=_positive, default=3, help="runs of each case")
    parser.add_argument("--rows", type=_positive, default=_ROWS, help="of the large data sets")
    parser.add_argument("--model", action="append", choices=_MODELS, help="for score; repeatable")
    parser.add_argument("--full", action="store_true", help="what takes many minutes too")
    parser.add_argument(
        "--seconds", type=_positive, default=60, help="of a stream or server at each rate"
    )
    parser.add_argument("--data", default="../shared/data", help="folder of real transactions")
    parser.add_argument("--work", default="bench-data", help="folder for what is made, kept")
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in _NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(_NAMES)}")
    return names


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
