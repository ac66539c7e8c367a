"""Delta tables, by the library deltalake."""

from __future__ import annotations

from datetime import date
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.sources.filesystem import FoundFile
from beam_fraud.sources.tables import DataFile, Table, deleted_bits, stored_place
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

#: Features of tables that change nothing for a reader, or that are handled here.
_FEATURES = {
    *("columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint"),
    *("vacuumProtocolCheck", "typeWidening", "typeWidening-preview"),
}
_MAPPING = "delta.columnMapping.mode"


def delta_table(place: Place) -> Table:
    """Return the newest version of a table.

    Raises:
      FraudError: deltalake is missing, or the table cannot be read.
    """
    library = extra_module("deltalake", f"{place.shown}: is a Delta table and")
    try:
        table = library.DeltaTable(place.name)
        _refuse_features(place, table)
        actions = pa.table(table.get_add_actions()).to_pylist()
        deleted = _deleted(table)
        files = tuple(_data_file(place, action, deleted) for action in actions)
        left = set(deleted) - {file.file.name for file in files}
        if left:
            raise ValueError(f"deleted rows are of {min(left)}, which is no file of it")
        columns = pa.schema(table.schema().to_arrow())
        shown = f"Delta table, version {table.version()}"
    except FraudError:
        raise
    except Exception as error:
        raise FraudError(
            f"{place.shown}: is a Delta table that cannot be read: {first_line(error)}",
            Code.INPUT_DAMAGED,
        ) from None
    return Table(shown, columns, files)


def _refuse_features(place: Place, table: Any) -> None:
    unknown = sorted({*(table.protocol().reader_features or ())} - _FEATURES)
    mapping = table.metadata().configuration.get(_MAPPING, "none")
    if mapping != "none":
        unknown.append(f"{_MAPPING} = {mapping}")
    if unknown:
        raise FraudError(
            f"{place.shown}: is a Delta table with {', '.join(unknown)}, which is not read; "
            "write its rows to Parquet files",
            Code.INPUT_FORMAT,
        )


def _deleted(table: Any) -> dict[str, bytes]:
    """Return the deleted rows of each file by its name in the table."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    root = unquote(table.table_uri).rstrip("/") + "/"
    vectors = pa.table(table.deletion_vectors()).to_pydict()
    names = [unquote(path).partition(root)[2] for path in vectors["filepath"]]
    return {
        name: deleted_bits(~np.array(kept, dtype=bool))
        for name, kept in zip(names, vectors["selection_vector"], strict=True)
    }


def _data_file(place: Place, action: dict[str, Any], deleted: dict[str, bytes]) -> DataFile:
    name = unquote(action["path"])
    if "://" in name or name.startswith("/"):
        # Of a shallow clone.
        there = stored_place(name)
    elif place.local is not None:
        there = Place.at(place.local / name)
    else:
        there = Place(f"{place.name.rstrip('/')}/{name}", None)
    values = action.get("partition") or {}
    partitions = tuple((column, _text(value)) for column, value in values.items())
    file = FoundFile(there, name, action["size_bytes"])
    return DataFile(file, partitions, deleted.get(name, b""))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)
