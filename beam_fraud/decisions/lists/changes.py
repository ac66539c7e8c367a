"""The changes of a list, a file of JSON lines that only grows: who added or removed what, and why.

DIR/blocked.jsonl    the list that rules name as @blocked
DIR/blocked.toml     in its place: the table or topic that the list comes from (`declaration.py`)
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import append_lines, make_directory
from beam_fraud.storage.lock import lock_current
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.wording import did_you_mean, own_call, reason_of

ENDING, DECLARED = ".jsonl", ".toml"
#: Pattern of the name of a list, which is a word of conditions.
_NAME = re.compile(r"[^\W\d]\w{0,79}")
#: Maximum of characters of a value, and of a reason.
MAX_LENGTH = 1_000
#: Columns of the changes that a list is made of.
CHANGES = pa.schema(
    [("value", pa.string()), ("action", pa.string()), ("until", pa.timestamp("us", "UTC"))]
)


class Change(msgspec.Struct, omit_defaults=True, frozen=True):
    """A value that was added or removed."""

    value: str
    action: Literal["add", "remove"]
    #: Time of the change; None if a table does not tell.
    at: datetime | None
    who: str
    #: Event time from which on the entry has no effect; None for never.
    until: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Tail:
    """The complete lines of a file from a position on."""

    #: `CHANGES`, in the order of the file.
    changes: pa.Table
    #: Position after them.
    end: int


def list_file(directory: Path, name: str) -> Path:
    """Return the file of a list.

    Raises:
      UsageError: it is no name of a list.

    Example:
      >>> list_file(Path("lists"), "blocked")
      PosixPath('lists/blocked.jsonl')
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"list {name!r}: a name is one word of letters, digits and '_', as in blocked",
            Code.LIST_INVALID,
        )
    return directory / f"{name}{ENDING}"


def list_names(directory: Path) -> list[str]:
    """Return the names of the lists in a directory, sorted."""
    files = (path for ending in (ENDING, DECLARED) for path in directory.glob(f"*{ending}"))
    return sorted({path.stem for path in files if _NAME.fullmatch(path.stem) is not None})


def declaration_file(directory: Path, name: str) -> Path:
    """Return the file that says which table or topic a list comes from.

    Raises:
      UsageError: it is no name of a list.
    """
    return list_file(directory, name).with_suffix(DECLARED)


def missing_list(directory: Path, name: str) -> FraudError:
    """Return the error for a list that does not exist."""
    hint = did_you_mean(name, list_names(directory), f"`{own_call()} lists add` makes one")
    return FraudError(f"{directory}: has no list {name!r}; {hint}", Code.LIST_MISSING)


def append_changes(directory: Path, name: str, changes: Iterable[Change]) -> int:
    """Append changes to a list, all or none; create it if it is missing.

    Returns:
      Their number.

    Raises:
      UsageError: it is no name of a list, or a value cannot be an entry.
      FraudError: the list comes from a table or topic, or its file cannot be written.
    """
    refuse_declared(directory, name)
    path, encoder = list_file(directory, name), msgspec.json.Encoder()
    lines, count = io.BytesIO(), 0
    for change in changes:
        _check(name, change)
        lines.write(encoder.encode(change) + b"\n")
        count += 1
    check_output(Directory(directory), f"--lists {directory}")
    make_directory(directory)
    try:
        held = lock_current(path, wait=True, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _drop_torn_line(held.descriptor)
            append_lines(held.descriptor, lines.getvalue())
        finally:
            held.release()
    except OSError as error:
        raise FraudError(
            f"{path}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    return count


def refuse_declared(directory: Path, name: str) -> None:
    """Refuse to change a list that comes from a table or topic.

    Raises:
      UsageError: it is no name of a list.
      FraudError: the list comes from elsewhere.
    """
    declared = declaration_file(directory, name)
    if declared.exists():
        raise FraudError(
            f"list {name}: comes from what {declared} names; change it there", Code.LIST_INVALID
        )


def _check(name: str, change: Change) -> None:
    for text in (change.value, change.reason or "-"):
        if not text.strip() or len(text) > MAX_LENGTH:
            raise UsageError(
                f"list {name}: a value or reason must have 1 to {MAX_LENGTH:,} characters",
                Code.LIST_INVALID,
            )


def _drop_torn_line(descriptor: int) -> None:
    """Cut off the line of a process that was killed while it wrote."""
    end = os.fstat(descriptor).st_size
    begin = max(0, end - 16 * MAX_LENGTH)
    whole = os.pread(descriptor, end - begin, begin).rfind(b"\n") + 1
    if begin + whole < end:
        os.ftruncate(descriptor, begin + whole)


def read_tail(directory: Path, name: str, begin: int = 0) -> Tail:
    """Read the complete lines of a list's file.

    Args:
      directory: the directory of the lists.
      name: of the list.
      begin: position of the first line.

    Raises:
      FraudError: there is no such list, or a line is no change.
    """
    data = _bytes(directory, name, begin)
    whole = data.rfind(b"\n") + 1
    if not whole:
        return Tail(CHANGES.empty_table(), begin)
    lines = pa.BufferReader(pa.py_buffer(data).slice(0, whole))
    options = arrow_json.ParseOptions(explicit_schema=CHANGES, unexpected_field_behavior="ignore")
    try:
        # By one thread: no answer waits for a list, but answers wait for a free processor.
        one = arrow_json.ReadOptions(use_threads=False)
        read = arrow_json.read_json(lines, read_options=one, parse_options=options)
        known = pc.is_in(read.column("action"), value_set=pa.array(["add", "remove"]))
        if read.column("value").null_count or not pc.all(known, min_count=0).as_py():
            raise ValueError("a line has no value or no action")
    except (pa.ArrowInvalid, ValueError) as error:
        raise _damaged(directory, name, str(error)) from None
    return Tail(read, begin + whole)


def read_history(directory: Path, name: str) -> list[Change]:
    """Return all changes of a list, the oldest first.

    Raises:
      FraudError: there is no such list, or a line is no change.
    """
    data = _bytes(directory, name, 0)
    try:
        return msgspec.json.Decoder(Change).decode_lines(data[: data.rfind(b"\n") + 1])
    except msgspec.DecodeError as error:
        raise _damaged(directory, name, str(error)) from None


def _bytes(directory: Path, name: str, begin: int) -> bytes:
    path = list_file(directory, name)
    try:
        with open(path, "rb") as file:
            file.seek(begin)
            return file.read()
    except FileNotFoundError:
        raise missing_list(directory, name) from None
    except OSError as error:
        raise FraudError(
            f"{path}: cannot be read ({reason_of(error)})", Code.LIST_INVALID
        ) from None


def _damaged(directory: Path, name: str, reason: str) -> FraudError:
    return FraudError(
        f"{list_file(directory, name)}: cannot be read ({reason}); restore it from a copy",
        Code.LIST_INVALID,
    )
