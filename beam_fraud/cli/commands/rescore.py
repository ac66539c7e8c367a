"""`beam-fraud rescore`: score an archive by partitions, and compare models and rules."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from beam_fraud.cli.commands.rescore_plan import RescorePlan, plan_rescore
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.cli.options.groups import ComparisonOptions
from beam_fraud.cli.terminal.columns import fact
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.comparison.scored_rows import Partition as ComparedPartition
from beam_fraud.features.velocity.reach import look_back
from beam_fraud.monitoring.activity import doing
from beam_fraud.pipeline.rescore.estimate import estimate
from beam_fraud.pipeline.rescore.manifest import (
    Inputs,
    PartitionRecord,
    decode_records,
    encode_manifest,
    failed_records,
    json_bytes,
)
from beam_fraud.pipeline.rescore.plan import Before, Plan, Scope, Task, plan_of
from beam_fraud.pipeline.rescore.run import Run, side_microseconds, totals
from beam_fraud.pipeline.rescore.scoring import Scorers
from beam_fraud.pipeline.rescore.sides import Sides
from beam_fraud.records.dead_share import DeadShare
from beam_fraud.records.doubts import Doubt, warnings_of
from beam_fraud.records.event_times import EventTimes
from beam_fraud.schema.event_time import micros_of, moment_of
from beam_fraud.sources.archive import ArchiveFile, archive_partitions, division_of
from beam_fraud.storage.rescore_outputs import MANIFEST, PARTITIONS, SUMMARY, RescoreOutputs

if TYPE_CHECKING:
    from beam_fraud.pipeline.rescore.backfill import PartitionScores

_LOG = logging.getLogger(__name__)
#: Seconds between two writes of the manifest while partitions are scored.
_MANIFEST_EVERY = 5.0
#: Ranges on Dataflow, which starts as many workers as it likes if no option limits them.
_RANGES = 4
#: Maximum of failed partitions that the error names.
_NAMED = 3


def call(options: RescoreOptions, *, as_json: bool) -> Outcome:
    """Run the command; the exit code is 3 if a condition of `--fail-if` holds."""
    result = run(options)
    return Outcome(result, render, 3 if _fails(result) else 0)


def _fails(result: Mapping[str, Any]) -> bool:
    """Return whether a condition of `--fail-if` holds."""
    return bool(result.get("comparison", {}).get("fail_if"))


def _undefined(result: Mapping[str, Any]) -> str | None:
    """Return the error of a condition that compares an undefined figure, or None."""
    message: str | None = result.get("comparison", {}).get("undefined")
    return message


def run(options: RescoreOptions) -> dict[str, object]:
    """Score what is missing or changed.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      UsageError: an option is invalid.
      FraudError: a file, a bundle or the outputs cannot be used; or some partitions have failed,
        after all others were scored; or a condition compares an undefined figure, after
        everything else was written.
    """
    started = time.monotonic()
    call = plan_rescore(options)
    call.outputs.check()
    if call.backfill is not None:
        call.backfill.check()
    if options.dry_run:
        return _dry_run(call)
    with call.outputs.writing():
        before = call.outputs.read(SUMMARY)
        plan, records, scored = _score(call)
        for side in call.sides.all:
            keep_rules(call.outputs.directory, side.rules)
        _check_rows(plan, records.values())
        summary = _summary(call, plan, records, scored, time.monotonic() - started)
        summary |= _compare(call, records, before)
        summary["seconds"] = round(time.monotonic() - started, 3)
        call.outputs.write(SUMMARY, json_bytes(summary))
        undefined = _undefined(summary)
        if call.backfill is not None and undefined is None and not _fails(summary):
            summary |= call.backfill.run(_new_scores(call, plan, records), call.outputs)
            call.outputs.write(SUMMARY, json_bytes(summary))
    failed = [record for record in records.values() if record.state == "failed"]
    if failed:
        raise _failure(call, failed)
    if undefined is not None:
        raise FraudError(undefined, Code.FIGURE_UNDEFINED)
    return summary


def render(result: dict[str, object]) -> str:
    """Return the summary for a terminal."""
    shown: Any = result
    partitions = shown["partitions"]
    if shown.get("dry_run"):
        return _render_dry_run(shown)
    lines = [
        fact("partitions", partitions["all"], f"({partitions['scored']:,} scored now)"),
        fact("rows read", shown["rows_in"]),
        fact("  scored", shown["rows_scored"]),
        fact("    flagged", shown["rows_flagged"]),
        fact("  dead", shown["rows_dead"]),
        fact("  duplicate", shown["rows_duplicate"]),
    ]
    for side in shown["models"]:
        cost = side["microseconds_per_row"]
        lines.append(fact(side["side"], side["name"], f"({cost} µs a row)" if cost else ""))
    for place, rows in shown.get("backfill", {}).items():
        lines.append(fact("written", rows, f"to {place}"))
    if "alerts" in shown:
        lines.append(fact("alerts sent", shown["alerts"]["sent"]))
    speed = shown["rows_per_second"]
    rate = f"({shown['scoring_seconds']:,.1f} to score, {speed:,} rows/s)" if speed else ""
    lines.append(fact("seconds", f"{shown['seconds']:,.1f}", rate))
    lines.append(fact("outputs", shown["outputs"]["partitions"]))
    if comparison := shown.get("comparison"):
        lines += [fact("comparison", comparison["outputs"][0]), comparison["sentence"]]
        lines += [f"--fail-if {condition}: holds" for condition in comparison["fail_if"]]
    return "\n".join(lines)


def _new_scores(
    call: RescorePlan, plan: Plan, records: Mapping[str, PartitionRecord]
) -> list[PartitionScores]:
    """Return the scores of the new model in every partition of the archive that is done."""
    # Imported here: with alerts and databases, which most runs do not need.
    from beam_fraud.pipeline.rescore.backfill import PartitionScores

    key = call.sides.all[0].key
    return [
        PartitionScores(
            task.name,
            call.outputs.scores(task.name, records[task.name].outputs, key),
        )
        for task in plan.tasks
        if task.name in records and records[task.name].state == "done"
    ]


def _compare(
    call: RescorePlan, records: Mapping[str, PartitionRecord], before: bytes | None
) -> dict[str, object]:
    """Compare the sides, unless nothing has changed since the last comparison."""
    done = [record for record in records.values() if record.state == "done"]
    if call.comparison is None or not done:
        return {}
    identity = _identity_of_comparison(call, done)
    known = msgspec.json.decode(before) if before is not None else {}
    places = known.get("comparison", {}).get("outputs", ())
    names = [PurePosixPath(place).name for place in places]
    if known.get("comparison_of") == identity and all(map(call.outputs.exists, names)):
        return {name: known[name] for name in ("comparison", "comparison_of")}
    partitions = [
        ComparedPartition(record.name, call.outputs.scores(record.name, record.outputs))
        for record in done
    ]
    result = call.comparison.run(call.outputs, partitions)
    return {"comparison": result, "comparison_of": identity}


def _identity_of_comparison(call: RescorePlan, done: Sequence[PartitionRecord]) -> str:
    """Return the digest of the scores, the options and the labels."""
    options = {one.name: getattr(call.options, one.name) for one in fields(ComparisonOptions)}
    labels = b"" if call.options.labels is None else Path(call.options.labels).read_bytes()
    parts = [[(r.name, r.identity) for r in done], options, hashlib.sha256(labels).hexdigest()]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def _score(call: RescorePlan) -> tuple[Plan, dict[str, PartitionRecord], set[str]]:
    """Score what is missing or changed.

    Returns:
      The plan, the record of each of its partitions, and the names of those that were scored.
    """
    outputs = call.outputs
    records = _earlier(outputs)
    scored: set[str] = set()
    plan = _plan(call, records)
    while pending := plan.pending:
        unread = {task.name for task in pending if _was_unread(records.get(task.name))}
        records = {n: r for n, r in records.items() if n not in {task.name for task in pending}}
        reach = None if scored else plan.reach()
        if reach is not None and (warning := reach.warning()) is not None:
            _LOG.warning("%s", warning)
        records |= _scored_elsewhere(call, plan) or _scored_here(call, plan, records)
        scored |= {task.name for task in pending}
        healed = any(records[name].state == "done" for name in unread)
        if not healed and not plan.widened:
            break
        # Windows of others lack the rows of what can be read again.
        plan = _plan(call, records)
    _Manifest(call, records).write({})
    there = {task.name: records[task.name] for task in plan.tasks if task.name in records}
    return plan, there, scored


def _scored_here(
    call: RescorePlan, plan: Plan, others: Mapping[str, PartitionRecord]
) -> dict[str, PartitionRecord]:
    scorers = _scorers(call)
    manifest = _Manifest(call, others)
    with call.outputs.attempt() as attempt:
        return Run(plan, attempt, call.settings, scorers, manifest.note)()


def _scorers(call: RescorePlan) -> Scorers:
    settings = call.settings
    return Scorers(call.sides, settings.reasons, keep_features=settings.keep_features)


def _scored_elsewhere(call: RescorePlan, plan: Plan) -> dict[str, PartitionRecord]:
    """Score by a runner of Beam; return nothing without one."""
    if call.elsewhere is None:
        return {}
    # Imported here: Beam takes seconds to import, and nothing else needs it.
    from beam_fraud.pipeline.rescore.ranges import ScoreRanges, ranges_of
    from beam_fraud.runners import launch

    workers = max(call.settings.workers, call.elsewhere.workers or 1)
    if call.elsewhere.runner.dataflow and workers == 1 and call.elsewhere.workers is None:
        workers = _RANGES
    ranges = ranges_of(plan, workers)
    with doing(f"rescoring on {call.elsewhere.runner.name}"):
        launch.run(
            call.elsewhere,
            lambda root: root | "Rescore" >> ScoreRanges(ranges, call.outputs, call.settings),
        )
    records = decode_records(call.outputs.records()) | decode_records(call.outputs.failures())
    return {
        task.name: records.get(task.name) or task.failed(_lost(call, task), unread=False)
        for task in plan.pending
    }


def _lost(call: RescorePlan, task: Task) -> FraudError:
    """Return the error of a partition that a worker overwrote after the end of the job."""
    return FraudError(
        f"--out {call.outputs.shown}: the files of partition {task.name} are not there",
        Code.OUTPUT_UNWRITABLE,
    )


def _earlier(outputs: RescoreOutputs) -> dict[str, PartitionRecord]:
    """Return the records that earlier runs left."""
    failed = failed_records(outputs.read(MANIFEST))
    return decode_records(outputs.records()) | failed


def _dry_run(call: RescorePlan) -> dict[str, object]:
    plan = _plan(call, _earlier(call.outputs))
    expected = estimate(plan, _scorers(call), call.settings.workers)
    return {
        "dry_run": True,
        "partitions": {
            "all": len(plan.tasks),
            "pending": [task.name for task in plan.pending],
            "complete": expected.complete,
            "windows_only": expected.windows_only,
            "unreadable": [task.name for task in plan.tasks if task.error is not None],
        },
        "rows": expected.rows,
        "bytes": expected.bytes,
        "seconds": None if expected.seconds is None else round(expected.seconds, 1),
        "models": _models(call.sides),
    }


def _render_dry_run(shown: Mapping[str, Any]) -> str:
    partitions = shown["partitions"]
    skipped = f"({partitions['complete']:,} complete)"
    lines = [
        fact("partitions", partitions["all"], skipped),
        fact("  to score", len(partitions["pending"])),
        fact("  for windows", partitions["windows_only"]),
        fact("rows", "unknown" if shown["rows"] is None else shown["rows"]),
        fact("bytes", shown["bytes"]),
    ]
    lines += [fact(side["side"], side["name"]) for side in shown["models"]]
    if partitions["unreadable"]:
        lines.append(fact("unreadable", ", ".join(partitions["unreadable"])))
    if shown["seconds"] is not None:
        lines.append(fact("time", f"about {shown['seconds']:,.0f} s", "by a sample"))
    lines.append("Nothing was written.")
    return "\n".join(lines)


def _was_unread(record: PartitionRecord | None) -> bool:
    return record is not None and record.unread


def _plan(call: RescorePlan, records: Mapping[str, PartitionRecord]) -> Plan:
    options = call.options
    inputs = Inputs(records.values(), trust_mtime=options.trust_mtime)
    since = None if call.since is None else call.since - look_back(call.sides.velocity)
    before = Before(
        {name: record for name, record in records.items() if record.state == "done"},
        {name: record for name, record in records.items() if record.state == "failed"},
    )

    def planned(remembered: Callable[[ArchiveFile], tuple[str, ...] | None]) -> Plan:
        partitions = archive_partitions(
            call.places,
            call.sides.schema,
            cut=options.partition,
            since=None if since is None else moment_of(since),
            until=None if call.until is None else moment_of(call.until),
            remembered=remembered,
        )
        return plan_of(
            partitions,
            call.sides,
            before,
            inputs,
            Scope(
                call.changing,
                call.since,
                call.until,
                options.partition or "day",
                call.history,
                call.settings.dedupe_across,
            ),
        )

    plan = planned(inputs.remembered)
    plan = planned(lambda file: None) if inputs.mistaken else plan
    _refuse_other_division(call.outputs, [task.name for task in plan.tasks], before.complete)
    return plan


def _refuse_other_division(
    outputs: RescoreOutputs, planned: Iterable[str], complete: Iterable[str]
) -> None:
    """Refuse outputs of the same rows under names of another kind: each row would be there twice.

    Raises:
      UsageError: they hold such partitions.
    """
    now = {division_of(name) for name in planned} - {None}
    other = {division_of(name) for name in complete} - {None} - now
    if now and other:
        raise UsageError(
            f"--out {outputs.shown}: has partitions by {' and '.join(map(str, other))}, and "
            f"this call makes them by {' and '.join(map(str, now))}: rows would be there twice; "
            "give another --out",
            Code.OUTPUT_OCCUPIED,
        )


def _check_rows(plan: Plan, records: Iterable[PartitionRecord]) -> None:
    """Fail if no row is a transaction, or times are implausible; warn of assumptions.

    Raises:
      FraudError: all rows are dead letters, as with another archive's schema, or most times cannot
        be those of card payments.
    """
    done = [record for record in records if record.state == "done"]
    reasons, doubts = Counter[str](), Counter[Doubt]()
    for record in done:
        reasons.update(record.dead_reasons)
        doubts.update(record.doubts)
    total = totals(done)
    share = DeadShare(total["rows_in"], reasons)
    if share.rows and share.dead == share.rows:
        raise FraudError(str(share.refusal(None)), Code.ROWS_INVALID)
    if share.remarkable:
        _LOG.warning("%s", share.warning())
    schema = plan.sides.schema
    for warning in warnings_of(doubts, schema):
        _LOG.warning("%s", warning)
    moments = [m for r in done for m in (r.first_event, r.last_event) if m is not None]
    micros = [micros_of(moment) for moment in moments]
    times = EventTimes(
        total["rows_scored"] + total["rows_duplicate"],
        min(micros, default=None),
        max(micros, default=None),
        doubts,
    )
    if (refusal := times.refusal(schema.roles["event_time"])) is not None:
        raise FraudError(refusal, Code.TIMES_IMPLAUSIBLE)


class _Manifest:
    """Write `manifest.json` now and then while partitions are scored."""

    def __init__(self, call: RescorePlan, others: Mapping[str, PartitionRecord]) -> None:
        self._call = call
        self._others = others
        self._lock = threading.Lock()
        self._written = time.monotonic()

    def note(self, records: Mapping[str, PartitionRecord]) -> None:
        """Write it, unless that was a moment ago."""
        with self._lock:
            if time.monotonic() - self._written >= _MANIFEST_EVERY:
                # The last one says what is wrong with the disk.
                with suppress(FraudError):
                    self.write(records)
                self._written = time.monotonic()

    def write(self, records: Mapping[str, PartitionRecord]) -> None:
        """Write it.

        Raises:
          FraudError: it cannot be written.
        """
        all_of = dict(sorted({**self._others, **records}.items()))
        about = {"run_id": self._call.outputs.run_id, "models": _models(self._call.sides)}
        self._call.outputs.write(MANIFEST, encode_manifest(all_of.values(), about))


def _models(sides: Sides) -> list[dict[str, object]]:
    return [
        {
            "side": side.key,
            "name": side.name,
            "model_id": side.bundle.model_id,
            "rules": side.rules_file,
            "rule_set": side.rule_set,
        }
        for side in sides.all
    ]


def _summary(
    call: RescorePlan,
    plan: Plan,
    records: Mapping[str, PartitionRecord],
    scored: set[str],
    seconds: float,
) -> dict[str, object]:
    done = [record for record in records.values() if record.state == "done"]
    now = [record for record in done if record.name in scored]
    cost = side_microseconds(now or done)
    rows = sum(record.rows_in for record in now)
    models = [
        side | {"microseconds_per_row": cost.get(str(side["side"]))} for side in _models(call.sides)
    ]
    return {
        **totals(done),
        "partitions": {
            "all": len(plan.tasks),
            "done": len(done),
            "scored": len(now),
            "failed": sorted(name for name, r in records.items() if r.state == "failed"),
        },
        "models": models,
        **({} if (reach := plan.reach()) is None else {"windows": reach.to_dict()}),
        "scoring_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "run_id": call.outputs.run_id,
        "outputs": {
            "partitions": call.outputs.place(PARTITIONS),
            "manifest": call.outputs.place(MANIFEST),
        },
    }


def _failure(call: RescorePlan, failed: Sequence[PartitionRecord]) -> FraudError:
    shown = "; ".join(f"{record.name}: {record.error}" for record in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
    return FraudError(
        f"--out {call.outputs.shown}: {len(failed):,} partitions failed, all others are there; "
        f"repeat the call once they can be read: {shown}{more}",
        Code.PARTITIONS_FAILED,
    )
