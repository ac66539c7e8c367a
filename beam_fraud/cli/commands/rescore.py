"""`beam-fraud rescore`: score an archive by partitions, and compare models and rules."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import realpath
from typing import Any

from beam_fraud.cli.commands.inputs import refuse_bundles, refuse_own_outputs
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.cli.terminal.columns import fact
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.velocity.reach import look_back
from beam_fraud.models.bundle import Bundle, check_packages, open_bundle
from beam_fraud.pipeline.rescore.estimate import estimate
from beam_fraud.pipeline.rescore.manifest import (
    Inputs,
    PartitionRecord,
    decode_records,
    encode_manifest,
    failed_records,
    json_bytes,
)
from beam_fraud.pipeline.rescore.plan import Before, Plan, Scope, plan_of
from beam_fraud.pipeline.rescore.run import Run, Settings, side_microseconds, totals
from beam_fraud.pipeline.rescore.scoring import Scorers
from beam_fraud.pipeline.rescore.sides import Challenge, Sides, sides_of
from beam_fraud.records.dead_share import DeadShare
from beam_fraud.schema.event_time import micros_of, moment_of
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.archive import ArchiveFile, ArchivePartition, archive_partitions
from beam_fraud.sources.source import found_files
from beam_fraud.storage.batch_outputs import local_directory, new_run_id
from beam_fraud.storage.rescore_outputs import MANIFEST, PARTITIONS, SUMMARY, RescoreOutputs
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Seconds between two writes of the manifest while partitions are scored.
_MANIFEST_EVERY = 5.0
#: Maximum of failed partitions that the error names.
_NAMED = 3


@dataclass(frozen=True)
class _Call:
    """The checked options of a call."""

    options: RescoreOptions
    outputs: RescoreOutputs
    sides: Sides
    settings: Settings
    places: tuple[Place, ...]
    history: ArchivePartition | None
    since: int | None
    until: int | None

    @property
    def changing(self) -> dict[str, Any]:
        """Options that change the rows of a partition."""
        options = self.options
        changing: dict[str, Any] = {"reasons": options.reasons, "dedupe": options.dedupe}
        if self.sides.segments:
            changing["segments"] = list(self.sides.segments)
        return changing


def run(options: RescoreOptions) -> dict[str, object]:
    """Score what is missing or changed.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      UsageError: an option is invalid.
      FraudError: a file, a bundle or the outputs cannot be used; or some partitions have failed,
        after all others were scored.
    """
    started = time.monotonic()
    call = _call_of(options)
    call.outputs.check()
    if options.dry_run:
        return _dry_run(call)
    with call.outputs.writing():
        plan, records, scored = _score(call)
        summary = _summary(call, plan, records, scored, time.monotonic() - started)
        call.outputs.write(SUMMARY, json_bytes(summary))
    failed = [record for record in records.values() if record.state == "failed"]
    if failed:
        raise _failure(call, failed)
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
    lines.append(fact("seconds", f"{shown['seconds']:,.1f}"))
    lines.append(fact("outputs", shown["outputs"]["partitions"]))
    return "\n".join(lines)


def _call_of(options: RescoreOptions) -> _Call:
    places = Place.parse_all(options.files)
    directory = local_directory(Place.parse(options.out))
    refuse_bundles(places)
    refuse_own_outputs((*places, *Place.parse_all(options.history)), directory)
    since = parse_moment("--from", options.since)
    until = parse_moment("--until", options.until)
    if since is not None and until is not None and until <= since:
        raise UsageError("--until: must be after --from", Code.OPTION_CONFLICT)
    new, *against = (_bundle(path) for path in (options.model, *options.against))
    schema = new.schema if options.schema is None else load_schema(options.schema)
    challenges = _challenges(options, new, against)
    sides = sides_of(challenges[0], challenges[1:], schema)
    settings = Settings(
        options.reasons,
        options.dedupe == "run",
        options.max_dead,
        options.block_rows,
        options.workers,
    )
    return _Call(
        options,
        RescoreOutputs(directory, new_run_id()),
        sides,
        settings,
        places,
        _history(options, places, sides),
        None if since is None else micros_of(since),
        None if until is None else micros_of(until),
    )


def _bundle(path: str) -> Bundle:
    bundle = open_bundle(Place.parse(path))
    check_packages(bundle)
    return bundle


def _challenges(options: RescoreOptions, new: Bundle, against: Sequence[Bundle]) -> list[Challenge]:
    """Return the models and rules; models without rules of their own are decided by the same."""
    others = options.against_rules or options.rules
    challenges = [Challenge(new, options.rules)]
    challenges += [Challenge(bundle, others) for bundle in against]
    if options.against_rules is not None and not against:
        challenges.append(Challenge(new, options.against_rules))
    return challenges


def _history(
    options: RescoreOptions, places: Sequence[Place], sides: Sides
) -> ArchivePartition | None:
    """Return the files of --history as a partition."""
    if not options.history:
        return None
    if not sides.velocity:
        _LOG.warning("no model has velocity features: --history adds nothing")
        return None
    files = found_files(Place.parse_all(options.history))
    own = {realpath(one.file.path) for one in found_files(places)}
    for one in files:
        if realpath(one.file.path) in own:
            raise UsageError(
                f"--history {one.file.path}: is among the files as well; give it once",
                Code.PLACE_SHARED,
            )
    return ArchivePartition("--history", tuple(map(ArchiveFile, files)))


def _score(call: _Call) -> tuple[Plan, dict[str, PartitionRecord], set[str]]:
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
        scorers = Scorers(call.sides, call.settings.reasons)
        manifest = _Manifest(call, records)
        records |= Run(plan, outputs, call.settings, scorers, manifest.note)()
        scored |= {task.name for task in pending}
        if all(records[name].state == "failed" for name in unread):
            break
        # Windows of others lack the rows of what can be read again.
        plan = _plan(call, records)
    _Manifest(call, records).write({})
    _refuse_if_all_are_dead(records.values())
    there = {task.name: records[task.name] for task in plan.tasks if task.name in records}
    return plan, there, scored


def _earlier(outputs: RescoreOutputs) -> dict[str, PartitionRecord]:
    """Return the records that earlier runs left."""
    failed = failed_records(outputs.read(MANIFEST))
    return decode_records(outputs.records()) | failed


def _dry_run(call: _Call) -> dict[str, object]:
    plan = _plan(call, _earlier(call.outputs))
    expected = estimate(plan, Scorers(call.sides, call.settings.reasons), call.settings.workers)
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


def _plan(call: _Call, records: Mapping[str, PartitionRecord]) -> Plan:
    options = call.options
    inputs = Inputs(records.values(), trust_mtime=options.trust_mtime)
    since = None if call.since is None else call.since - look_back(call.sides.velocity)
    before = Before(
        {name: record for name, record in records.items() if record.state == "done"},
        {name: record for name, record in records.items() if record.state == "failed"},
    )

    def planned(remembered: Mapping[str, tuple[str, ...]]) -> Plan:
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
    return planned({}) if inputs.mistaken else plan


def _refuse_if_all_are_dead(records: Iterable[PartitionRecord]) -> None:
    """Fail if no row of the archive is a transaction, as with another archive's schema."""
    done = [record for record in records if record.state == "done"]
    reasons = Counter[str]()
    for record in done:
        reasons.update(record.dead_reasons)
    share = DeadShare(sum(record.rows_in for record in done), reasons)
    if share.rows and share.dead == share.rows:
        raise FraudError(str(share.refusal(None)), Code.ROWS_INVALID)
    if share.remarkable:
        _LOG.warning("%s", share.warning())


class _Manifest:
    """Write `manifest.json` now and then while partitions are scored."""

    def __init__(self, call: _Call, others: Mapping[str, PartitionRecord]) -> None:
        self._call = call
        self._others = others
        self._lock = threading.Lock()
        self._written = time.monotonic()

    def note(self, records: Mapping[str, PartitionRecord]) -> None:
        """Write it, unless that was a moment ago."""
        with self._lock:
            if time.monotonic() - self._written >= _MANIFEST_EVERY:
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
    call: _Call,
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
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "run_id": call.outputs.run_id,
        "outputs": {
            "partitions": str(call.outputs.directory / PARTITIONS),
            "manifest": str(call.outputs.directory / MANIFEST),
        },
    }


def _failure(call: _Call, failed: Sequence[PartitionRecord]) -> FraudError:
    shown = "; ".join(f"{record.name}: {record.error}" for record in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
    return FraudError(
        f"--out {call.outputs.directory}: {len(failed):,} partitions failed, all others are there; "
        f"repeat the call once they can be read: {shown}{more}",
        Code.PARTITIONS_FAILED,
    )
