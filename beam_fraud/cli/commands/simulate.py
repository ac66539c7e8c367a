"""`beam-fraud simulate`: labelled transactions in a file or a topic."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.simulate.files import (
    FORMATS,
    Partition,
    file_format,
    whole_file,
    write_partitions,
    write_transactions,
)
from beam_fraud.simulate.fraud import MIX, NEW_KIND
from beam_fraud.simulate.label_delay import parse_label_delay
from beam_fraud.simulate.messages import Sender, handbook_messages
from beam_fraud.simulate.seasons import Seasons
from beam_fraud.simulate.simulation import FRAUD_RATE, Simulation, simulate
from beam_fraud.sources.kafka.options import broker_settings
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Type: write transactions and return their part of the result.
Write = Callable[[pa.Table], dict[str, object]]


def run(options: SimulateOptions) -> dict[str, object]:
    """Simulate and write the file, or send messages in the order of their event times.

    Returns:
      `transactions`, `frauds`, `fraud_rate` (the one reached), `accounts`, `merchants`, `days`,
      `seconds` and `scenarios` (transactions of each kind of fraud, by its number); with delays of
      labels `labelled`, the frauds whose label is known at the end; of a file
      `out`, of several files `partitions` as well, of a topic `topic`, `messages`,
      `sending_seconds` and `messages_per_second`.

    Raises:
      UsageError: an option is invalid.
      FraudError: the file or the messages cannot be written.
    """
    out = () if options.out is None else (Place.parse(options.out),)
    with sole_writer("--out", *out):
        return _simulate(options)


def _simulate(options: SimulateOptions) -> dict[str, object]:
    began = time.perf_counter()
    place = _place(options)
    spec = _specification(options)
    with place as write:
        with doing(f"simulating {spec.days:,} days of {spec.accounts:,} accounts"):
            transactions = simulate(spec)
        _LOG.info("simulated %d transactions", transactions.num_rows)
        written = write(transactions)
    scenario = transactions["TX_FRAUD_SCENARIO"]
    kinds = (*MIX, *(() if spec.new_fraud is None else (NEW_KIND,)))
    scenarios = {str(kind): pc.sum(pc.equal(scenario, kind)).as_py() or 0 for kind in kinds}
    frauds = sum(scenarios.values())
    labelled = pc.sum(transactions["TX_FRAUD"]).as_py() or 0
    return {
        **written,
        **({} if spec.label_delay is None else {"labelled": labelled}),
        "transactions": transactions.num_rows,
        "frauds": frauds,
        "fraud_rate": frauds / max(transactions.num_rows, 1),
        "accounts": spec.accounts,
        "merchants": spec.merchants,
        "days": spec.days,
        "seconds": round(time.perf_counter() - began, 3),
        "scenarios": scenarios,
    }


def render(result: Mapping[str, object]) -> str:
    """Return the result of `run` in plain text."""
    scenarios = cast(Mapping[str, int], result["scenarios"])
    return (
        f"{_counted(result, 'transactions')} of {_counted(result, 'accounts')} at "
        f"{_counted(result, 'merchants')} over {_counted(result, 'days')} in "
        f"{result['seconds']:.1f} s\n"
        f"{_counted(result, 'frauds')} ({result['fraud_rate']:.2%}): "
        f"{scenarios['1']:,} amounts too high, {scenarios['2']:,} at compromised terminals, "
        f"{scenarios['3']:,} of compromised customers{_new_kind(scenarios)}\n"
        f"{_labelled(result)}"
        f"{_where(result)}"
    )


def _new_kind(scenarios: Mapping[str, int]) -> str:
    new = scenarios.get(str(NEW_KIND))
    return "" if new is None else f", {new:,} small ones at new terminals"


def _labelled(result: Mapping[str, object]) -> str:
    if "labelled" not in result:
        return ""
    return f"{cast(int, result['labelled']):,} of them are labelled when the last day ends\n"


def _where(result: Mapping[str, object]) -> str:
    if "partitions" in result:
        return f"{result['out']}: {_counted(result, 'partitions')}"
    if "out" in result:
        return str(result["out"])
    return (
        f"{_counted(result, 'messages')} sent to {result['topic']} in "
        f"{result['sending_seconds']:.1f} s, {result['messages_per_second']:,.0f} a second"
    )


def _counted(result: Mapping[str, object], name: str) -> str:
    count = cast(int, result[name])
    return f"{count:,} {name.removesuffix('s') if count == 1 else name}"


def _place(options: SimulateOptions) -> AbstractContextManager[Write]:
    """Return the checked output of the transactions, unchanged so far."""
    if options.out is not None and options.kafka is not None:
        raise UsageError("--out and --kafka: give one of them", Code.OPTION_CONFLICT)
    if options.kafka is not None and options.partition is not None:
        raise UsageError("--partition: for files only; give --out DIR", Code.OPTION_CONFLICT)
    if options.kafka is not None and options.label_delay is not None:
        raise UsageError(
            "--label-delay and --kafka: messages of transactions come before their labels; write "
            "a file (--out)",
            Code.OPTION_CONFLICT,
        )
    if options.kafka is not None:
        return nullcontext(_to_topic(options))
    if options.kafka is None and options.partition is not None and options.out is not None:
        if Path(options.out).suffix.lower() in FORMATS:
            raise UsageError(
                f"--out {options.out}: --partition {options.partition} writes many files; name a "
                "directory",
                Code.OUTPUT_NAME,
            )
        check_output(Directory(Path(options.out)), f"--out {options.out}")
        return nullcontext(_to_partitions(options.out, options.partition, options.seed))
    for_topics = {
        "--topic": options.topic,
        "--rate": options.rate,
        "--kafka-config": options.kafka_config,
        "--kafka-properties": options.kafka_properties,
    }
    for option, value in for_topics.items():
        if value not in (None, ()):
            raise UsageError(
                f"{option}: for messages only; give --kafka HOST:PORT, too", Code.OPTION_CONFLICT
            )
    if options.out is None:
        raise UsageError("give --out FILE or --kafka HOST:PORT --topic T", Code.OPTION_MISSING)
    file_format(Path(options.out))
    return _to_file(options.out)


@contextmanager
def _to_file(out: str) -> Iterator[Write]:
    path = Path(out)
    with whole_file(path) as sink:

        def write(transactions: pa.Table) -> dict[str, object]:
            with doing(f"writing {transactions.num_rows:,} rows to {out}"):
                write_transactions(transactions, path, sink)
            return {"out": out}

        yield write


def _to_partitions(out: str, partition: Partition, seed: int) -> Write:
    def write(transactions: pa.Table) -> dict[str, object]:
        files = 0
        with doing(f"writing {transactions.num_rows:,} rows to {out}", lambda: f"{files:,} files"):
            for _ in write_partitions(transactions, Path(out), partition, f"seed-{seed}"):
                files += 1
        return {"out": out, "partitions": files}

    return write


def _to_topic(options: SimulateOptions) -> Write:
    """Check the topic of `options`, and return a function that sends transactions to it.

    Its result has the topic's part of the result of `run`. Interrupted, it waits
    until queued messages are written; a second interruption ends that, too.

    Raises:
      UsageError: an option is missing or invalid.
      FraudError: the topic does not exist, or no broker answers.
    """
    # Imported here: a file needs no client library.
    from beam_fraud.sinks.topic import TopicWriter
    from beam_fraud.sources.kafka.check import topic_partitions

    if not options.topic or options.kafka is None:
        raise UsageError("--topic: missing; name the topic to send to", Code.OPTION_MISSING)
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise UsageError(
            f"--rate {options.rate:g}: must be above 0, in messages a second", Code.OPTION_VALUE
        )
    settings = broker_settings(options)
    topic_partitions(settings, options.topic)
    topic, rate = options.topic, options.rate

    def send(transactions: pa.Table) -> dict[str, object]:
        writer = TopicWriter(settings, topic)
        sender = Sender(writer, rate)
        began = time.perf_counter()
        total = transactions.num_rows
        try:
            with doing(f"sending to {topic}", lambda: f"{sender.sent:,} of {total:,} messages"):
                sender.send(handbook_messages(transactions))
        except KeyboardInterrupt:
            writer.flush()
            _LOG.info("stopped after %d messages, all of them written", sender.sent)
            raise
        with doing(f"waiting for the broker of {topic}"):
            writer.flush()
        seconds = time.perf_counter() - began
        return {
            "topic": topic,
            "messages": sender.sent,
            "sending_seconds": round(seconds, 3),
            "messages_per_second": round(sender.sent / seconds, 1),
        }

    return send


def _specification(options: SimulateOptions) -> Simulation:
    start = _day("--start", options.start)
    delay = None if options.label_delay is None else parse_label_delay(options.label_delay)
    return Simulation(
        days=options.days,
        accounts=options.accounts,
        merchants=options.merchants,
        seed=options.seed,
        fraud_rate=FRAUD_RATE if options.fraud_rate is None else options.fraud_rate,
        start=start,
        label_delay=delay,
        seasons=Seasons(options.weekend, options.pay_days, options.growth),
        merchant_types=options.merchant_types,
        new_fraud=None if options.new_fraud is None else _day("--new-fraud", options.new_fraud),
    )


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text!r}: not a day, as in 2024-01-01", Code.TIME_INVALID
        ) from None
