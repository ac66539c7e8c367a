"""Plan and run pipelines over files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import apache_beam as beam
import pyarrow.parquet as pq

from beam_fraud.cli.commands.inputs import refuse_bundles, refuse_own_outputs
from beam_fraud.cli.commands.places import RunPlaces
from beam_fraud.cli.options import BatchOptions
from beam_fraud.cli.terminal.progress import progress_of
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.monitoring import activity, counters
from beam_fraud.monitoring.recorder import rows_done
from beam_fraud.operations.dead_letters.directory import note_headers
from beam_fraud.pipeline.batch import Inputs
from beam_fraud.records.dead_share import DeadShare, first_dead_letter
from beam_fraud.records.doubts import Doubt, strange_accounts, warnings_of
from beam_fraud.records.event_span import event_span
from beam_fraud.records.event_times import EventTimes
from beam_fraud.runners import launch
from beam_fraud.runners.call import Call, Target
from beam_fraud.runners.checks import enforce
from beam_fraud.runners.submission import Submission
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.schema import Schema
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sources.columns import absence, absent_columns
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import find_history, find_inputs, limit_files
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, RunOutputs
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.counters import read_counters

_LOG = logging.getLogger(__name__)

#: Minimum size of the segments of a file that several workers share.
_MIN_SEGMENT_BYTES = 8 << 20
#: Segments per worker if there are fewer files: enough for balance, few enough to be large.
_SEGMENTS_PER_WORKER = 4
#: Segments on a cluster of unknown size.
_CLUSTER_SEGMENT_BYTES = 256 << 20


@dataclass(frozen=True)
class BatchPlan:
    """The plan of a pipeline over files."""

    #: Options of the call.
    options: BatchOptions
    #: The places that they name.
    places: RunPlaces
    #: Beam's options and the runner.
    submission: Submission
    #: Destination of the pipeline.
    target: Target

    @property
    def template(self) -> str | None:
        """Path of the template if the call only creates one; None if it runs the job."""
        return self.submission.template_location


def plan(
    options: BatchOptions,
    places: RunPlaces,
    sink: FlaggedSink | None = None,
    attended: Sequence[str] = (),
) -> BatchPlan:
    """Plan the pipeline; refuse calls that the runner cannot run.

    Args:
      options: options of the call.
      places: the places that they name.
      sink: the sink of `--sink`, or None.
      attended: options whose effect needs this command at the job's end.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    submission = Submission.of(options.beam_args, options.workers)
    call = Call(
        submission,
        streaming=False,
        places=places.of_workers(sink),
        workers=options.workers,
        attended=attended,
    )
    return BatchPlan(options, places, submission, enforce(call))


def find(planned: BatchPlan, features: FeatureSet, outputs: RunOutputs) -> Inputs:
    """Find and check the input files.

    Raises:
      UsageError: a file is its own history, a bundle, or among the outputs.
      FraudError: a file cannot be read or lacks a column.
    """
    options, here = planned.options, planned.target.runner.local
    places = planned.places
    refuse_bundles((*places.files, *places.history))
    refuse_own_outputs((*places.files, *places.history), outputs.directory)
    inputs = Inputs((), features, outputs)
    files = tuple(find_inputs(places.files, features.schema, labels=inputs.labels))
    if absent := absent_columns([file.columns for file in files], features.schema):
        _LOG.warning("%s", absence(absent, features.schema))
    history = find_history(places.history, files, features.schema, labels=inputs.labels)
    return replace(
        inputs,
        files=files,
        history=tuple(history),
        segments=tuple(limit_files(files, options.limit)) if options.limit else None,
        segment_bytes=_segment_bytes(files, options.workers) if here else _CLUSTER_SEGMENT_BYTES,
        max_dead=options.max_dead,
        dedupe_across_files=options.dedupe == "run",
        block_rows=options.block_rows,
        spill=outputs.scratch / "spill" if here else None,
    )


def run(
    planned: BatchPlan,
    inputs: Inputs,
    build: Callable[[beam.Pipeline, Inputs], None],
    doing: str,
) -> dict[str, int]:
    """Run a graph to its end and show the progress.

    Args:
      planned: the plan.
      inputs: the inputs.
      build: function that adds the graph to a pipeline.
      doing: name of the step for the progress bar.

    Returns:
      The counters.

    Raises:
      RuntimeError: the pipeline failed.
    """
    with ExitStack() as stack:
        if planned.target.runner.local:
            # In the staging on a disk, which the next run removes if this one is killed.
            directory = str(inputs.outputs.scratch / "progress")
            make_directory(Path(directory))
            inputs = replace(inputs, progress=directory)
            total = _rows(inputs.files, planned.options.limit)
            # With velocity features, rows are read, wait, and are processed later.
            times = 2 if inputs.features.velocity else 1
            stack.enter_context(progress_of(total, lambda: rows_done(directory) // times, doing))
        else:
            name = planned.target.runner.name
            stack.enter_context(activity.doing(f"{doing} on {name}"))
        # Query the counters once it has ended: a job server that is queried earlier has none at the
        # end either.
        result = launch.run(planned.submission, lambda pipeline: build(pipeline, inputs))
    counted = read_counters(result)
    if counted.get(counters.ROWS_DEAD) and DEAD_LETTERS in inputs.outputs.branches:
        _note_headers(inputs)
    return counted


def planned_reach(inputs: Inputs) -> WindowReach | None:
    """Return the reach of a run's windows, as far as known before reading."""
    horizon = look_back(inputs.features.velocity)
    if not horizon:
        return None
    schema = inputs.features.schema
    history, rows = event_span(inputs.history, schema), event_span(inputs.files, schema)
    return WindowReach(
        horizon,
        history=bool(inputs.history),
        history_from=None if history is None else history[0],
        first_row=None if rows is None else rows[0],
    )


def warn_of_windows(inputs: Inputs) -> None:
    """Warn before a run that windows are not full from the start, if known."""
    reach = planned_reach(inputs)
    warning = None if reach is None else reach.warning()
    if warning is not None:
        _LOG.warning("%s", warning)


def windows_summary(inputs: Inputs, counted: Mapping[str, int]) -> dict[str, object]:
    """Return the reach of a run's windows for its summary; warn if not known before."""
    planned = planned_reach(inputs)
    if planned is None:
        return {}
    times = (counted.get(name) for name in (counters.EARLIEST_HISTORY_ROW, counters.EARLIEST_ROW))
    history_from, first_row = (None if t is None else t * SECOND for t in times)
    # A history without valid transactions does not count.
    history = planned.history and (history_from is not None or first_row is None)
    reach = replace(planned, history=history, history_from=history_from, first_row=first_row)
    warning = reach.warning()
    if not planned.known and warning is not None:
        _LOG.warning("%s", warning)
    return {"windows": reach.to_dict()}


def leave_template(
    planned: BatchPlan, inputs: Inputs, build: Callable[[beam.Pipeline, Inputs], None]
) -> dict[str, object]:
    """Create a template of the job, which publishes itself and writes no summary.

    Returns:
      The result in place of a summary.

    Raises:
      RuntimeError: Beam failed to create it.
    """
    launch.run(planned.submission, lambda root: build(root, inputs))
    return {
        "template": planned.template,
        "run_id": inputs.outputs.run_id,
        "outputs": {name: inputs.outputs.place(name) for name in inputs.outputs.branches},
    }


def _note_headers(inputs: Inputs) -> None:
    if inputs.outputs.at_url:
        # There is no replay from a template's outputs.
        return
    try:
        note_headers(inputs.outputs.staging / DEAD_LETTERS, inputs.files)
    except OSError as error:
        raise inputs.outputs.failure(error) from None


#: Counters of records that are no transactions.
_SKIPPED = (counters.ROWS_TOMBSTONE, counters.ROWS_CORRECTION)


def row_counts(counted: dict[str, int]) -> dict[str, object]:
    """Return the counts of rows in the form of `summary.json`."""
    counts: dict[str, object] = {
        name: counted.get(name, 0)
        for name in (counters.ROWS_IN, counters.ROWS_DEAD, counters.ROWS_DUPLICATE, *_SKIPPED)
    }
    counts["dead_reasons"] = _dead_reasons(counted)
    counts["event_times"] = event_times(counted).to_dict()
    if counters.ACCOUNTS in counted:
        counts["accounts"] = counted[counters.ACCOUNTS]
    if counters.HISTORY_ROWS in counted or counters.HISTORY_ROWS_LEFT_OUT in counted:
        names = (counters.HISTORY_ROWS, counters.HISTORY_ROWS_LEFT_OUT)
        counts |= {name: counted.get(name, 0) for name in names}
    return counts


def _warn_of_doubts(counted: Mapping[str, int], schema: Schema) -> None:
    """Warn of rows that were read by an assumption."""
    for warning in warnings_of(_doubts(counted), schema):
        _LOG.warning("%s", warning)


def event_times(counted: Mapping[str, int]) -> EventTimes:
    """Return the event times of a run by its counters."""
    first, last = (counted.get(name) for name in (counters.FIRST_EVENT, counters.LAST_EVENT))
    return EventTimes(
        counted.get(counters.ROWS_IN, 0)
        - sum(counted.get(name, 0) for name in (counters.ROWS_DEAD, *_SKIPPED)),
        None if first is None else first * SECOND,
        None if last is None else last * SECOND,
        _doubts(counted),
    )


def _doubts(counted: Mapping[str, int]) -> dict[Doubt, int]:
    return {doubt: counted.get(counters.DOUBT_PREFIX + doubt, 0) for doubt in Doubt}


def check_rows(counted: Mapping[str, int], inputs: Inputs) -> None:
    """Fail on implausible times or too many dead letters; warn of many, of no rows, of assumptions.

    Called before publication: outputs of an earlier run stay.

    Raises:
      FraudError: all are dead letters, as with another file's schema, or more than `--max-dead`
        allows; or most times cannot be those of card payments.
    """
    schema = inputs.features.schema
    column, times = schema.roles["event_time"], event_times(counted)
    for refused, code in (
        (times.mixture(column), Code.TIMES_AMBIGUOUS),
        (times.refusal(column), Code.TIMES_IMPLAUSIBLE),
    ):
        if refused is not None:
            raise FraudError(f"{refused}; nothing was written, and --out is unchanged", code)
    if not counted.get(counters.ROWS_IN):
        _LOG.warning("the input has no records, so the outputs have none, either")
    _warn_of_doubts(counted, schema)
    if inputs.history and counters.ACCOUNTS in counted:
        known = counted.get(counters.ACCOUNTS_KNOWN, 0)
        if warning := strange_accounts(counted[counters.ACCOUNTS], known):
            _LOG.warning("%s", warning)
    share = counted_share(counted)
    if not share.remarkable and share.refusal(inputs.max_dead) is None:
        return
    for part in inputs.outputs.parts(DEAD_LETTERS)[:1]:
        share = replace(share, first=first_of_file(part))
    refusal = share.refusal(inputs.max_dead)
    if refusal is not None:
        raise FraudError(
            f"{refusal}; nothing was written, and --out is unchanged", Code.ROWS_INVALID
        )
    _LOG.warning("%s", share.warning())


def refuse_replaced(outputs: RunOutputs) -> NoReturn:
    """Fail because another run's files replaced those of this run."""
    raise FraudError(
        f"--out {outputs.shown}: another run has replaced the files of run {outputs.run_id}, or "
        "has written beside them; repeat with another --out for each run",
        Code.OUTPUT_IN_USE,
    )


def counted_share(counted: Mapping[str, int]) -> DeadShare:
    """Return the share of dead letters by the counters."""
    return DeadShare(counted.get(counters.ROWS_IN, 0), _dead_reasons(counted))


def first_of_file(part: str) -> tuple[str, int, str] | None:
    """Return the first dead letter of a Parquet file of them."""
    with pq.ParquetFile(open_file(Place.parse(part))) as file:
        return first_dead_letter(file.iter_batches(1))


def _dead_reasons(counted: Mapping[str, int]) -> dict[str, int]:
    return {
        name.removeprefix(counters.DEAD_PREFIX): rows
        for name, rows in sorted(counted.items())
        if name.startswith(counters.DEAD_PREFIX)
    }


def dry_run(inputs: Inputs) -> dict[str, object]:
    """Return the inputs of a run."""
    return {
        "dry_run": True,
        "files": [file.path for file in inputs.files],
        "history": [file.path for file in inputs.history],
        "bytes": sum(file.size for file in inputs.files),
        "rows": _rows(inputs.files, None),
        "schema": inputs.features.schema.name,
        "features": list(inputs.features.names),
        **({} if (reach := planned_reach(inputs)) is None else {"windows": reach.to_dict()}),
    }


def _rows(files: Sequence[InputFile], limit: int | None) -> int | None:
    """Return the number of rows to read if all files have it, else None."""
    known = [file.rows for file in files if file.rows is not None]
    if len(known) < len(files):
        return None
    return min(sum(known), limit) if limit else sum(known)


def _segment_bytes(files: tuple[InputFile, ...], workers: int) -> int | None:
    """Return the segment size; None if whole files give every worker its share."""
    if workers == 1:
        return None
    total = sum(file.size for file in files)
    each = max(total // (workers * _SEGMENTS_PER_WORKER), _MIN_SEGMENT_BYTES)
    return each if max(file.size for file in files) > 2 * each else None
