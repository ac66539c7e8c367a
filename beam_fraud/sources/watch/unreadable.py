"""A file that cannot be read, as the one dead letter that says so."""

from __future__ import annotations

import pyarrow as pa

from beam_fraud.sources.raw import DETAIL, PAYLOAD, POSITION, REASON, Origin, with_origin

_RAW = pa.schema(
    [
        pa.field(POSITION, pa.int64()),
        pa.field(PAYLOAD, pa.binary()),
        pa.field(REASON, pa.string()),
        pa.field(DETAIL, pa.string()),
    ]
)


def unreadable_file(name: str, row: int, detail: str, appended: int) -> pa.RecordBatch:
    """A raw batch (`sources.raw`) of one row that is a dead letter already.

    Args:
      name: the file, as dead letters tell it.
      row: the first row that could not be read, from 0.
      detail: what is wrong, one line.
      appended: when the file was last written to, milliseconds of the epoch.
    """
    origin = Origin(name, "jsonl", appended=appended)
    arrays = [
        pa.array([row], pa.int64()),
        pa.array([b""], pa.binary()),
        pa.array(["unreadable_file"]),
        pa.array([detail]),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=with_origin(_RAW, origin))
