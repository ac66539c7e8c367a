"""Convert raw batches of labels to labels and dead letters.

A label is a JSON object with the members of `stages.LABEL`. `labelled_by` is optional, and so are
`account_id` and `merchant_id`, for transactions without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.records.dead_letters import dead_letters, no_dead_letters
from beam_fraud.records.faults import Faults, faults_of_parsing
from beam_fraud.records.identifiers import as_identifiers
from beam_fraud.records.json_records import Kind
from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.parse import decode_messages, parsed_batch
from beam_fraud.records.times import as_times
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import EXPLAINED_LABEL, LABEL
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.raw import PAYLOAD, POSITION, origin_of, with_origin

_ENCODER = msgspec.json.Encoder()
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("transaction_id", "identifier"),
    ("account_id", "identifier"),
    ("merchant_id", "identifier"),
    ("event_time", "measure"),
    ("label", "number"),
    ("labelled_at", "measure"),
    ("labelled_by", "identifier"),
)


def read_labels(
    raw: pa.RecordBatch, registry: RegistrySettings | None = None
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Parse and check each label independently.

    Args:
      raw: n rows (`sources.raw`), each with a JSON object or a framed record in `@payload`.
      registry: schema registry of framed messages.

    Returns:
      The labels (`stages.LABEL`, followed by `@position`, the origin in the metadata) and the dead
      letters (`stages.DEAD_LETTER`); n rows together, each in the order of `raw`.
    """
    payload = raw.column(PAYLOAD).to_pylist()
    columns, unreadable = decode_messages(payload, _KINDS, None, registry, _accepts)
    names = [name for name, _ in _KINDS]
    parsed = parsed_batch(raw, dict(zip(names, columns, strict=True)), unreadable)
    faults = faults_of_parsing(parsed)
    checked = [
        _identifier(parsed, faults, "transaction_id", absent="fault"),
        _identifier(parsed, faults, "account_id", absent="null"),
        _identifier(parsed, faults, "merchant_id", absent="null"),
        _time(parsed, faults, "event_time"),
        _label(parsed, faults),
        _time(parsed, faults, "labelled_at"),
        _identifier(parsed, faults, "labelled_by", absent="null").fill_null(""),
        parsed.column(POSITION),
    ]
    described = with_origin(LABEL.append(pa.field(POSITION, pa.int64())), origin_of(raw))
    faulty = faults.faulty
    if not faulty.any():
        return pa.RecordBatch.from_arrays(checked, schema=described), no_dead_letters()
    good = pa.array(~faulty)
    labels = pa.RecordBatch.from_arrays([a.filter(good) for a in checked], schema=described)
    return labels, dead_letters(parsed, faults)


def label_messages(labels: Sequence[Mapping[str, object]]) -> list[bytes]:
    """Return labels as messages that `read_labels` reads, with the reason where there is one.

    Args:
      labels: n labels, by the columns of `stages.EXPLAINED_LABEL`.
    """
    names = EXPLAINED_LABEL.names
    return [
        _ENCODER.encode({name: row[name] for name in names if row[name] is not None})
        for row in labels
    ]


def _accepts(column: str, type: pa.DataType) -> bool:
    if column in ("event_time", "labelled_at"):
        return pat.is_timestamp(type) or pat.is_integer(type) or is_text(type)
    return is_text(type) or pat.is_integer(type) or pat.is_boolean(type)


def _identifier(
    parsed: pa.RecordBatch, faults: Faults, column: str, *, absent: Literal["fault", "null"]
) -> pa.Array:
    identifiers = as_identifiers(parsed.column(column))
    faults.add("wrong_type", column, identifiers.unreadable)
    faults.add("too_long", column, identifiers.too_long)
    if absent == "fault":
        faults.add("missing_id", column, identifiers.absent)
    return identifiers.values


def _time(parsed: pa.RecordBatch, faults: Faults, column: str) -> pa.Array:
    times = as_times(parsed.column(column))
    faults.add("missing_time", column, times.absent)
    faults.add("unparseable_time", column, times.unreadable)
    faults.add("impossible_time", column, times.impossible)
    return pa.array(times.micros).cast(EVENT_TIME)


def _label(parsed: pa.RecordBatch, faults: Faults) -> pa.Array:
    labels: npt.NDArray[np.float64] = as_numbers(parsed.column("label")).values
    wrong = ~((labels == 0) | (labels == 1))
    faults.add("invalid_label", "label", wrong)
    return pa.array(np.where(wrong, 0, labels).astype(np.int8))
