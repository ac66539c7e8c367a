"""`beam-fraud label`: import labels into the table of a database, and export them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.dataset as pds
import pyarrow.parquet as pq

from beam_fraud.cli.commands.database import database_of, new_database_of
from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import ExportLabelsOptions, ImportLabelsOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.registry.registry import Author
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.dead_share import DeadShare, first_dead_letter
from beam_fraud.records.label_source import LabelMapping, read_label_rows
from beam_fraud.records.labels import label_messages
from beam_fraud.schema.event_time import micros_of
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import EXPLAINED_LABEL
from beam_fraud.sinks.dead_letters import write_dead_letters
from beam_fraud.sinks.labels import EXPORTED, Imported, import_labels, stored_labels
from beam_fraud.sources.kafka.options import broker_settings
from beam_fraud.storage.atomic import whole_file
from beam_fraud.storage.database.connection import masked, prepare_database, writing
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line, reason_of

_LOG = logging.getLogger(__name__)
#: Labels per transaction.
_ROWS_AT_A_TIME = 20_000
#: Columns of an archive that labels may lack.
_OF_TRANSACTION = ("event_time", "account_id", "merchant_id")


def run_import(options: ImportLabelsOptions) -> dict[str, object]:
    """Import labels.

    Raises:
      UsageError: an option or the mapping is invalid.
      FraudError: a file cannot be read, each of its rows is bad, or the database or the broker
        refuses the labels.
    """
    mapping = _mapping(options)
    places = input_places(options.files)
    send = _sender(options)
    database = new_database_of(options.database)
    labels, dead = _read(places, mapping)
    rows_in = len(labels) + len(dead)
    reasons = Counter[str](dead["reason"].to_pylist())
    share = DeadShare(rows_in, dict(reasons), first_dead_letter(dead.to_batches()))
    if (refusal := share.refusal(options.max_dead)) is not None:
        raise FraudError(refusal.replace("is a transaction", "is a label"), Code.ROWS_INVALID)
    # Only now: a wrong path of a file leaves no new database.
    prepare_database(database)
    if len(dead):
        _LOG.warning("%d of %d rows are left out %s", len(dead), rows_in, share.why)
        for batch in dead.combine_chunks().to_batches(max_chunksize=_ROWS_AT_A_TIME):
            write_dead_letters(database, batch)
    if options.scores:
        labels = _with_archived(labels, Place.parse_all(options.scores))
    imported, written = Imported(), list[dict[str, object]]()
    with doing(f"writing {len(labels):,} labels"):
        for batch in labels.combine_chunks().to_batches(max_chunksize=_ROWS_AT_A_TIME):
            with writing(database) as connection:
                written += import_labels(connection, batch, imported)
    if imported.unknown:
        reasons["unknown_transaction"] += imported.unknown
        _LOG.warning(
            "labels of transactions that were neither flagged nor audited are left out, because "
            "their rows have no event_time (%s); give --column event_time=NAME or --scores DIR",
            f"{imported.unknown:,}",
        )
    send(written)
    return {
        "rows_in": rows_in,
        "labels_new": imported.new,
        "labels_known": imported.known,
        "labels_replaced": imported.replaced,
        "transactions_unseen": imported.unseen,
        "conflicts": imported.conflicts,
        "verdicts_changed": imported.changed,
        "rows_dead": len(dead) + imported.unknown,
        "dead_reasons": dict(reasons),
        **({} if options.labels_topic is None else {"labels_sent": len(written)}),
        "database": masked(database),
    }


def render_import(result: dict[str, Any]) -> str:
    """Return the counts for a terminal."""
    named = (
        ("rows read", "rows_in"),
        ("  new labels", "labels_new"),
        ("  known before", "labels_known"),
        ("  replaced", "labels_replaced"),
        ("  left out", "rows_dead"),
    )
    lines = [fact(shown, result[name]) for shown, name in named]
    reasons = result["dead_reasons"].items()
    lines += table([(reason, f"{rows:,}") for reason, rows in reasons], margin=4)
    lines.append(fact("unseen", result["transactions_unseen"], "(neither flagged nor audited)"))
    lines.append(fact("in conflict", result["conflicts"], "(the latest label counts)"))
    lines.append(fact("changed", result["verdicts_changed"], "(latest labels)"))
    if "labels_sent" in result:
        lines.append(fact("sent", result["labels_sent"]))
    return "\n".join(lines)


def run_export(options: ExportLabelsOptions) -> dict[str, object]:
    """Export labels.

    Raises:
      UsageError: an option is invalid.
      FraudError: the database cannot be read, or the file not be written.
    """
    since = parse_moment("--since", options.since)
    out = Place.parse(options.out).local
    ending = Path(options.out).suffix.lower()
    if out is None or ending not in _WRITERS:
        raise UsageError(
            f"--out {options.out}: give a local file that ends in {', '.join(_WRITERS)}",
            Code.OUTPUT_NAME,
        )
    database = database_of(options.database, writes=False)
    count = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in stored_labels(database, since, history=options.history):
            count += len(batch)
            yield batch

    try:
        with whole_file(out) as file:
            _WRITERS[ending](file, counted())
    except OSError as error:
        raise FraudError(
            f"--out {out}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    return {"labels": count, "file": str(out), "database": masked(database)}


def render_export(result: dict[str, object]) -> str:
    """Return what was written where."""
    return f"{result['labels']:,} labels to {result['file']}"


def _mapping(options: ImportLabelsOptions) -> LabelMapping:
    columns = {}
    for text in options.columns:
        role, equals, name = text.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--column {text}: write ROLE=NAME, as in label=outcome", Code.OPTION_VALUE
            )
        columns[role.strip()] = name
    if options.label is not None and (options.fraud or "label" in columns):
        raise UsageError(
            "--label: gives every row its label; not together with --fraud or a column of labels",
            Code.OPTION_CONFLICT,
        )
    at = parse_moment("--labelled-at", options.labelled_at)
    return LabelMapping(
        file=None if options.mapping is None else Path(options.mapping),
        columns=columns,
        fraud=options.fraud,
        label=None if options.label is None else int(options.label == "fraud"),
        labelled_at=None if at is None else micros_of(at),
        who=Author.of(options.who, None).who,
    )


def _read(places: Sequence[Place], mapping: LabelMapping) -> tuple[pa.Table, pa.Table]:
    """Return the labels (`stages.EXPLAINED_LABEL`) and dead letters of files."""
    labels, dead = list[pa.RecordBatch](), list[pa.RecordBatch]()
    now = micros_of(datetime.now(UTC))
    with doing("reading labels"):
        for good, bad in read_label_rows(places, mapping, now):
            labels.append(good.select(EXPLAINED_LABEL.names).replace_schema_metadata(None))
            dead.append(bad)
    return _joined(labels), pa.Table.from_batches(dead)


def _joined(labels: Sequence[pa.RecordBatch]) -> pa.Table:
    fields = [field.with_nullable(True) for field in EXPLAINED_LABEL]
    return pa.Table.from_batches(labels, pa.schema(fields))


def _with_archived(labels: pa.Table, places: Sequence[Place]) -> pa.Table:
    """Return n labels with what an archive of scores knows of their transactions.

    Raises:
      FraudError: it cannot be read.
    """
    columns = ["transaction_id", *_OF_TRANSACTION]
    wanted = pc.field("transaction_id").isin(labels["transaction_id"].unique())
    found = []
    for place in places:
        try:
            archive = pds.dataset(place.name, format="parquet")
            found.append(archive.to_table(columns=columns, filter=wanted))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise FraudError(
                f"--scores {place.shown}: is no archive of scores ({first_line(error)})",
                Code.INPUT_UNREADABLE,
            ) from None
    scored = pa.concat_tables(found)
    places_of = pc.index_in(labels["transaction_id"], value_set=scored["transaction_id"])
    for name in _OF_TRANSACTION:
        own = labels[name]
        archived = scored[name].take(places_of).cast(own.type)
        labels = labels.set_column(
            labels.schema.get_field_index(name), name, pc.coalesce(own, archived)
        )
    return labels


def _sender(options: ImportLabelsOptions) -> Callable[[Sequence[dict[str, object]]], None]:
    """Return what sends labels to the topic, or does nothing.

    Raises:
      UsageError: one of the two options is missing.
    """
    if (options.kafka is None) != (options.labels_topic is None):
        raise UsageError("--kafka and --labels-topic: give both or none", Code.OPTION_CONFLICT)
    if options.labels_topic is None:
        return lambda labels: None
    topic, settings = options.labels_topic, broker_settings(options)

    def send(labels: Sequence[dict[str, object]]) -> None:
        # Imported here: Kafka is an extra.
        from beam_fraud.sinks.topic import TopicWriter

        writer = TopicWriter(settings, topic)
        with doing(f"sending {len(labels):,} labels"):
            writer.write(label_messages(labels), [str(row["transaction_id"]) for row in labels])
            writer.flush()

    return send


def _write_parquet(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(file, EXPORTED, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> None:
    times = [at for at, field in enumerate(EXPORTED) if field.type == EVENT_TIME]
    schema = EXPORTED
    for at in times:
        schema = schema.set(at, pa.field(schema.names[at], pa.string()))
    with pcsv.CSVWriter(file, schema) as writer:
        for batch in batches:
            columns = list(batch.columns)
            for at in times:
                columns[at] = pc.strftime(columns[at], "%Y-%m-%dT%H:%M:%SZ")
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _write_json(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> None:
    encoder = msgspec.json.Encoder()
    for batch in batches:
        file.write(encoder.encode_lines(batch.to_pylist()))


_WRITERS: dict[str, Callable[[Any, Iterable[pa.RecordBatch]], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_json,
}
