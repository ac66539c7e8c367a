"""Delta and Iceberg tables: the data files of one version, which is fixed when it is listed.

A table is a directory whose log says which files are in it. Files that it has removed stay in the
directory for days, so files of a table are never listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.sources.file_format import format_of
from beam_fraud.sources.filesystem import DELTA_LOG, FoundFile, within_table
from beam_fraud.sources.segment import Partitions
from beam_fraud.storage.objects import file_systems
from beam_fraud.storage.urls import Place

TableKind = Literal["Delta", "Iceberg"]
#: Names of Iceberg's metadata.
_METADATA = re.compile(r"(?:^|/)metadata/[^/]+\.metadata\.json$")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class DataFile:
    """A file of a table."""

    #: The file; its name is relative to the table.
    file: FoundFile
    #: Columns that the table says.
    partitions: Partitions = ()
    #: A bit for each row from the first, set if the table has deleted it; later rows are kept.
    deleted: bytes = b""
    #: Names of columns in the file to those in the table; "" for a column of neither.
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A version of a table."""

    #: Its kind and version, for messages.
    shown: str
    #: Columns of its rows; a file written before a column was added lacks it.
    columns: pa.Schema
    #: Its data files.
    files: tuple[DataFile, ...]


def kind_of(place: Place) -> TableKind | None:
    """Return the kind of the table at a place, or of Iceberg's metadata; None if it is none."""
    if _METADATA.search(place.name):
        return "Iceberg"
    if place.local is not None:
        return _kind_of_directory(place.local)
    if format_of(place.name) is not None or _WILDCARD.search(place.name):
        return None
    root = place.name.rstrip("/")
    patterns = [f"{root}/{DELTA_LOG}/*.json", f"{root}/metadata/*.metadata.json"]
    try:
        log, metadata = file_systems().match(patterns)
    except Exception:
        # Listing the files reports the error.
        return None
    return "Delta" if log.metadata_list else "Iceberg" if metadata.metadata_list else None


def _kind_of_directory(path: Path) -> TableKind | None:
    try:
        if (path / DELTA_LOG).is_dir():
            return "Delta"
        if any((path / "metadata").glob("*.metadata.json")):
            return "Iceberg"
    except OSError:
        # Reading the directory reports the error.
        pass
    return None


def refuse_within_tables(files: Iterable[FoundFile]) -> None:
    """Refuse files of a table, among which are those that it has removed.

    Raises:
      FraudError: a file is in the directory of a table.
    """
    known: dict[Path, TableKind | None] = {}
    for file in files:
        if file.place.local is None:
            if metadata := _METADATA.search(file.path):
                raise within_table(file.path[: metadata.start()], "Iceberg")
            continue
        for parent in file.place.local.parents:
            if parent in known:
                break
            known[parent] = kind = _kind_of_directory(parent)
            if kind is not None:
                raise within_table(str(parent), kind)


def deleted_bits(rows: npt.NDArray[np.bool_]) -> bytes:
    """Return flags of rows as `DataFile.deleted`."""
    return np.packbits(rows).tobytes() if rows.any() else b""


def stored_place(path: str) -> Place:
    """Return the place of an absolute path or URL in the log of a table."""
    if path.startswith(("file:", "/")):
        scheme = path.startswith("file:")
        plain = re.sub("^file:(//)?", "", path)
        return Place.at(Path(unquote(plain) if scheme else plain))
    return Place(path, None)
