"""Iceberg tables, by the library pyiceberg."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.sources.filesystem import FoundFile, list_files, open_file
from beam_fraud.sources.segment import Partitions
from beam_fraud.sources.tables import DataFile, Table, deleted_bits, stored_place
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

#: Number of a version in the name of its metadata, as in `v3.metadata.json` or `00003-<uuid>...`.
_VERSION = re.compile(r"/v?([0-9]+)[^/]*\.metadata\.json$")
_METADATA = ".metadata.json"
#: Key of a column's id in the metadata of a Parquet file's columns.
_FIELD_ID = b"PARQUET:field_id"
_EPOCH = date(1970, 1, 1)


def iceberg_table(place: Place) -> Table:
    """Return the current snapshot of the newest metadata of a table.

    Args:
      place: the directory of the table, or one of its files of metadata.

    Raises:
      FraudError: pyiceberg is missing, or the table cannot be read.
    """
    library = extra_module("pyiceberg.table", f"{place.shown}: is an Iceberg table and")
    metadata = place if place.name.endswith(_METADATA) else _newest(place)
    try:
        table = library.StaticTable.from_metadata(metadata.name)
        snapshot = table.current_snapshot()
        if snapshot is None:
            return Table("Iceberg table without a snapshot", pa.schema([]), ())
        _refuse_defaults(place, table.schema())
        files = tuple(_data_file(place, table, task) for task in table.scan().plan_files())
        columns = table.schema().as_arrow()
    except FraudError:
        raise
    except Exception as error:
        raise FraudError(
            f"{place.shown}: is an Iceberg table that cannot be read: {first_line(error)}",
            Code.INPUT_DAMAGED,
        ) from None
    return Table(f"Iceberg table, snapshot {snapshot.snapshot_id}", columns, files)


def _refuse_defaults(place: Place, schema: Any) -> None:
    """Refuse columns whose value in older files is not null."""
    defaults = [field.name for field in schema.fields if field.initial_default is not None]
    if defaults:
        raise FraudError(
            f"{place.shown}: is an Iceberg table with a default for rows before column "
            f"{defaults[0]!r} was added, which is not read; rewrite its data files without it",
            Code.INPUT_FORMAT,
        )


def _newest(place: Place) -> Place:
    """Return the metadata of the highest version.

    Raises:
      FraudError: there are several; only the table's catalogue knows which is committed.
    """
    directory = f"{place.name.rstrip('/')}/metadata"
    found: dict[int, list[Place]] = {}
    here = Place(directory, place.local and place.local / "metadata")
    for file in list_files(here):
        if version := _VERSION.search(file.path):
            found.setdefault(int(version[1]), []).append(file.place)
    if not found:
        raise FraudError(
            f"{place.shown}: is an Iceberg table without numbered metadata; name the file of its "
            "metadata",
            Code.INPUT_FORMAT,
        )
    newest = found[max(found)]
    if len(newest) > 1:
        raise FraudError(
            f"{place.shown}: is an Iceberg table with {len(newest)} files of metadata of version "
            f"{max(found)}; name the one that its catalogue says",
            Code.INPUT_FORMAT,
        )
    return newest[0]


def _data_file(place: Place, table: Any, task: Any) -> DataFile:
    """Return a data file with what its rows lack in it."""
    file = task.file
    there = stored_place(file.file_path)
    if file.file_format.name != "PARQUET":
        raise FraudError(
            f"{place.shown}: is an Iceberg table with {file.file_format.name} files, of which only "
            "Parquet is read; write its rows to Parquet files",
            Code.INPUT_FORMAT,
        )
    root = place.name.removesuffix(_METADATA).rpartition("/metadata/")[0] or place.name
    name = there.name.removeprefix(root.rstrip("/") + "/")
    found = FoundFile(there, name, file.file_size_in_bytes)
    partitions = _partitions(table, file)
    deleted = _deleted(place, file, task.delete_files)
    return DataFile(found, partitions, deleted, _renamed(there, table.schema()))


def _partitions(table: Any, file: Any) -> Partitions:
    """Return the columns that are the same in a whole file, which a migrated one lacks."""
    spec = table.specs()[file.spec_id]
    columns = []
    for at, field in enumerate(spec.fields):
        if str(field.transform) == "identity":
            name = table.schema().find_column_name(field.source_id)
            if name is not None:
                type = table.schema().find_type(field.source_id)
                columns.append((name, _text(file.partition[at], str(type))))
    return tuple(columns)


def _text(value: Any, type: str) -> str | None:
    """Return a partition's value as text: times are counted from 1970."""
    if value is None:
        return None
    if type == "date" and isinstance(value, int):
        return (_EPOCH + timedelta(days=value)).isoformat()
    if type.startswith("timestamp") and isinstance(value, int):
        moment = pa.scalar(value, pa.int64()).cast(pa.timestamp("ns" if "_ns" in type else "us"))
        return str(moment.cast(pa.string()))
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def _deleted(place: Place, file: Any, deletes: Iterable[Any]) -> bytes:
    """Return the deleted rows by the positional delete files of a data file.

    Raises:
      FraudError: rows are deleted otherwise.
    """
    gone: list[Any] = []
    for delete in deletes:
        if delete.content.name != "POSITION_DELETES" or delete.file_format.name != "PARQUET":
            raise FraudError(
                f"{place.shown}: is an Iceberg table with deleted rows of a kind that is not read "
                f"({delete.content.name.lower()}, {delete.file_format.name.lower()}); rewrite its "
                "data files",
                Code.INPUT_FORMAT,
            )
        with open_file(stored_place(delete.file_path)) as source:
            rows = pq.read_table(source, columns=["file_path", "pos"])
        own = rows.filter(pc.equal(rows["file_path"], file.file_path))
        gone.append(own["pos"].to_numpy())
    if not gone:
        return b""
    flags = np.zeros(file.record_count, dtype=bool)
    flags[np.concatenate(gone)] = True
    return deleted_bits(flags)


def _renamed(place: Place, schema: Any) -> tuple[tuple[str, str], ...]:
    """Return the table's names for the columns of a file, by their ids.

    Raises:
      FraudError: a member of a struct was renamed.
    """
    with open_file(place) as source:
        stored = pq.read_schema(source)
    names = {field.field_id: field.name for field in schema.fields}
    if any(_id(field) is None for field in stored):
        # A file of before the table, whose columns are known by name.
        return ()
    for field in stored:
        if _id(field) in names:
            _check_members(place, field, schema)
    renamed = ((field.name, names.get(_id(field), "")) for field in stored)
    return tuple((own, name) for own, name in renamed if own != name)


def _id(field: pa.Field) -> int | None:
    value = (field.metadata or {}).get(_FIELD_ID)
    return None if value is None else int(value)


def _check_members(place: Place, field: pa.Field, schema: Any) -> None:
    inner = [field.type.field(at) for at in range(field.type.num_fields)]
    for member in inner:
        number = _id(member)
        name = None if number is None else schema.find_column_name(number)
        if pa.types.is_struct(field.type) and name is not None:
            if name.rpartition(".")[2] != member.name:
                raise FraudError(
                    f"{place}: member {member.name!r} of a struct was renamed to {name!r} since; "
                    "rewrite the table's data files",
                    Code.INPUT_FORMAT,
                )
        elif pa.types.is_struct(field.type) and number is not None:
            raise FraudError(
                f"{place}: member {member.name!r} of a struct was dropped since; rewrite the "
                "table's data files",
                Code.INPUT_FORMAT,
            )
        _check_members(place, member, schema)
