"""Estimate a run by scoring a sample of its rows."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

from beam_fraud.errors import FraudError
from beam_fraud.pipeline.rescore.plan import Plan, Task
from beam_fraud.pipeline.rescore.scoring import Scorers
from beam_fraud.pipeline.rescore.walk import Windows
from beam_fraud.records.read import read_transactions
from beam_fraud.sources.raw import POSITION
from beam_fraud.storage.parquet_writer import ParquetBlockWriter

#: Rows of the sample, and of each of its blocks.
_ROWS, _BLOCK = 100_000, 50_000


@dataclass(frozen=True)
class Estimate:
    """The partitions, bytes and seconds of a run to come."""

    #: Partitions to score, those that are complete, and those that only fill windows.
    pending: int
    complete: int
    windows_only: int
    #: Bytes to read.
    bytes: int
    #: Rows to read; None if no file says so and the sample is empty.
    rows: int | None
    #: Seconds that they take; None without a sample.
    seconds: float | None


def estimate(plan: Plan, scorers: Scorers, workers: int) -> Estimate:
    """Score a sample of the first partitions, writing nothing.

    Args:
      plan: the plan.
      scorers: models and rules.
      workers: number of threads that score.
    """
    needed = [task for task in plan.tasks if task.needed]
    size = sum(task.size for task in needed)
    sampled = size_read = 0
    reading = scoring = 0.0
    windows = Windows(plan.sides.velocity)
    for task in plan.pending:
        if sampled >= _ROWS:
            break
        try:
            start = time.perf_counter()
            inputs = task.partition.inputs(plan.sides.schema, labels=plan.sides.labels)
            before = sampled
            for block in read_transactions(
                inputs, plan.sides.schema, labels=plan.sides.labels, block_rows=_BLOCK
            ):
                rows = windows.add(block.transactions.drop_columns([POSITION]))
                middle = time.perf_counter()
                reading += middle - start
                for one in scorers.score(rows.replace_schema_metadata(None)):
                    writer = ParquetBlockWriter(io.BytesIO(), one.rows.schema)
                    writer.write(one.rows)
                    writer.close()
                start = time.perf_counter()
                scoring += start - middle
                sampled += len(block.transactions) + block.rows_left_out
                if sampled >= _ROWS:
                    break
            known = _rows(task, plan)
            share = (sampled - before) / known if known else 1.0
            size_read += round(task.size * min(share, 1.0))
        except FraudError:
            # The run names it.
            continue
    counts = [_rows(task, plan) for task in needed]
    total = sum(rows for rows in counts if rows is not None)
    if None in counts:
        total = round(size * sampled / size_read) if size_read else 0
    seconds = None
    if sampled:
        # Rows are read in one thread if they need those before them.
        alone = reading if plan.in_order else 0.0
        shared = scoring if plan.in_order else reading + scoring
        each = max(alone, (alone + shared) / workers, shared / workers) / sampled
        seconds = each * total
    return Estimate(
        len(plan.pending),
        sum(not task.pending for task in plan.tasks),
        sum(task.needed and not task.pending for task in plan.tasks),
        size,
        total or None,
        seconds,
    )


def _rows(task: Task, plan: Plan) -> int | None:
    """Return the number of rows of a partition's files, if all say so."""
    if task.partition.cut:
        return None
    try:
        inputs = task.partition.inputs(plan.sides.schema, labels=plan.sides.labels)
    except FraudError:
        return 0
    rows = [file.rows for file in inputs]
    return None if None in rows else sum(row for row in rows if row is not None)
