"""`beam-fraud doctor`: check this machine and a runner before submission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.cli.options import DoctorOptions
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.operations.doctor.check import Check, refused, tried
from beam_fraud.operations.doctor.machine import (
    check_bundle,
    check_disk,
    check_kafka,
    check_packages,
)
from beam_fraud.operations.doctor.runner import check_runner
from beam_fraud.operations.doctor.workers import check_workers
from beam_fraud.runners.call import Call
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.kafka.options import broker_settings, registry_settings
from beam_fraud.sources.kafka.registry import registry_of
from beam_fraud.storage.urls import Place

#: Width of a check's name.
_WIDE = 11
#: State of a check to its name in the count.
_WORDS = {"ok": "ok", "warning": "with a warning", "failed": "failed"}
#: Beam's options that only streams use.
_OF_STREAMS = frozenset({"streaming", "checkpointing_interval", "savepoint_path", "update"})


def run(options: DoctorOptions, show: Callable[[Check], None] | None = None) -> dict[str, object]:
    """Run all checks of the options; change nothing.

    Args:
      options: the options.
      show: callback for each finished check.

    Returns:
      `checks`, each a `Check` as a dictionary, and the number `failed`.

    Raises:
      UsageError: an option is invalid.
    """
    if options.topics and options.kafka is None:
        raise UsageError("--topic: needs --kafka HOST:PORT", Code.OPTION_CONFLICT)
    checks = list[Check]()
    for check in _checks(options):
        checks.append(check)
        if show is not None:
            show(check)
    return {
        "checks": [asdict(check) for check in checks],
        "failed": sum(check.state == "failed" for check in checks),
    }


def _checks(options: DoctorOptions) -> Iterator[Check]:
    yield from check_packages()
    schema, places = options.schema, _places(options)
    model, out = places.get("--model"), places.get("--out")
    if schema is not None:
        yield tried("schema", lambda: f"{load_schema(schema).name} can be read")
    if model is not None:
        with doing(f"opening {model.shown}"):
            opened = tried("model", lambda: check_bundle(model))
        yield opened
    if out is not None:
        yield check_disk(out)
    if options.kafka is not None:
        with doing(f"asking Kafka {options.kafka}"):
            kafka_checks = _kafka(options)
        yield from kafka_checks
    if options.schema_registry is not None:
        with doing(f"asking {options.schema_registry}"):
            answered = tried("registry", partial(_registry, options))
        yield answered
    if options.beam_args:
        yield from _runner(options, places)


def call(options: DoctorOptions, *, as_json: bool) -> Outcome:
    """Run the checks, and show each once finished, unless the result is JSON."""
    result = run(options, None if as_json else show_check)
    return Outcome(result, render, 1 if result["failed"] else 0)


def show_check(check: Check) -> None:
    """Print a line for a check, and one for its fix.

    Raises:
      FraudError: standard output cannot be written.
    """
    code = f" [{check.code}]" if check.code else ""
    lines = [f"{check.state:<8} {check.name:<{_WIDE}}  {check.found}{code}"]
    if check.fix:
        lines.append(f"{'':<8} {'':<{_WIDE}}  → {check.fix}")
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:
        raise FraudError(
            f"standard output cannot be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None


def render(result: dict[str, object]) -> str:
    """Return the totals of the checks, which have been shown."""
    states = Counter(check["state"] for check in result["checks"])  # type: ignore[attr-defined]
    counts = (f"{states[state]} {word}" for state, word in _WORDS.items() if states[state])
    return f"{sum(states.values())} checks: {', '.join(counts)}"


def _kafka(options: DoctorOptions) -> list[Check]:
    try:
        return check_kafka(broker_settings(options), options.topics)
    except FraudError as error:
        return [refused("Kafka", error)]


def _registry(options: DoctorOptions) -> str:
    settings = registry_settings(options)
    assert settings is not None, "asked for without --schema-registry"
    registry_of(settings).check()
    return f"{settings.url} answers"


def _places(options: DoctorOptions) -> dict[str, Place]:
    """Return the places of the options, once a call."""
    named = {"--model": options.model, "--out": options.out}
    return {option: Place.parse(text) for option, text in named.items() if text is not None}


def _runner(options: DoctorOptions, places: Mapping[str, Place]) -> Iterator[Check]:
    beam_options = PipelineOptions(list(options.beam_args)).get_all_options(drop_default=True)
    streaming = options.kafka is not None or not _OF_STREAMS.isdisjoint(beam_options)
    submission = Submission.of(options.beam_args, workers=1, streaming=streaming)
    seen = [
        WorkerPlace(option, place, written=option == "--out") for option, place in places.items()
    ]
    checks = list[Check]()
    for check in check_runner(Call(submission, streaming=streaming, places=seen, thorough=True)):
        checks.append(check)
        yield check
    # On Dataflow a probe would cost minutes of paid machines.
    costly = submission.runner.dataflow
    if any(check.state == "failed" for check in checks) or options.no_probe or costly:
        return
    probed = Submission.of(options.beam_args, workers=1)
    yield from check_workers(
        probed,
        model=places.get("--model"),
        out=places.get("--out"),
        seconds=options.probe_seconds,
    )
