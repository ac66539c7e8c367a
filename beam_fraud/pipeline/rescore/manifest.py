"""The inputs of each partition, and the partitions that must be scored again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.records.doubts import Doubt
from beam_fraud.sources.archive import ArchiveFile, ArchivePartition
from beam_fraud.sources.filesystem import sha256_of
from beam_fraud.storage.objects import checksum
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

#: Changes with what a partition holds.
FORMAT = 1
#: Files that are read side by side for their digests.
_READERS = 4

State = Literal["done", "failed"]


class FileRecord(msgspec.Struct, frozen=True):
    """A file as it was read."""

    #: Path relative to that of the call; ids without a column depend on it.
    name: str
    path: str
    size: int
    #: Seconds of the epoch; None where it is unknown.
    modified: float | None = None
    #: None with `--trust-mtime`, unless an earlier run has computed it, and with a checksum.
    sha256: str | None = None
    #: What the store of a URL keeps of the content, so that it need not be read.
    checksum: str | None = None
    #: Partitions of which it has rows, if the archive is cut by event time.
    periods: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """A text that identifies the content."""
        if self.checksum is not None:
            return f"{self.size} bytes with {self.checksum}"
        return self.sha256 or f"{self.size} bytes of {self.modified}"

    @property
    def digest(self) -> str | None:
        """A digest or checksum of the content; None if only size and time are known."""
        return self.sha256 or self.checksum

    def unchanged(self, other: FileRecord) -> bool:
        """Return whether size and time are those of another record of the path."""
        return (self.size, self.modified) == (other.size, other.modified)


class PartitionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A partition in `manifest.json`, and in its own `partition.json`."""

    name: str
    state: State = "done"
    #: Why it failed.
    error: str | None = None
    #: Error code of that.
    code: str | None = None
    #: Whether its rows could not be read, so that windows of other partitions lack them.
    unread: bool = False
    inputs: tuple[FileRecord, ...] = ()
    #: Names of its files, relative to its directory.
    outputs: tuple[str, ...] = ()
    model_ids: tuple[str, ...] = ()
    #: Digest of each model's rules; empty for none.
    rules: tuple[str, ...] = ()
    #: Options that change results.
    options: dict[str, Any] = {}
    #: First and last of the partitions whose rows its windows (or its search for repeated ids)
    #: reach, and `--history` if they do.
    reaches: tuple[str, ...] = ()
    #: Those of them that could not be read.
    without: tuple[str, ...] = ()
    #: Digest of all of the above.
    identity: str = ""
    rows_in: int = 0
    rows_scored: int = 0
    rows_flagged: int = 0
    rows_dead: int = 0
    rows_duplicate: int = 0
    #: Records that are no transactions, and count as none.
    rows_tombstone: int = 0
    rows_correction: int = 0
    #: Rows of its files outside --from and --until.
    rows_outside: int = 0
    dead_reasons: dict[str, int] = {}
    #: Rows that were read by an assumption.
    doubts: dict[Doubt, int] = {}
    #: First and last event time of its transactions; None without any.
    first_event: datetime | None = None
    last_event: datetime | None = None
    #: Seconds of the processor for each side: its model, rules, reasons and files.
    side_seconds: dict[str, float] = {}
    scored_at: str = ""

    def to_bytes(self) -> bytes:
        """Return the JSON of `partition.json`."""
        return json_bytes(self)


def decode_records(records: Mapping[str, bytes]) -> dict[str, PartitionRecord]:
    """Decode records by name; those of another version or damaged ones count as absent."""
    decoded = {}
    for name, data in records.items():
        try:
            record = msgspec.json.decode(data, type=PartitionRecord)
        except msgspec.MsgspecError:
            continue
        if record.name == name:
            decoded[name] = record
    return decoded


def failed_records(manifest: bytes | None) -> dict[str, PartitionRecord]:
    """Return the failed partitions of a `manifest.json`."""
    try:
        listed = msgspec.json.decode(manifest or b"{}").get("partitions", [])
        records = msgspec.convert(listed, list[PartitionRecord])
    except (msgspec.MsgspecError, AttributeError):
        return {}
    return {record.name: record for record in records if record.state == "failed"}


def encode_manifest(records: Iterable[PartitionRecord], about: Mapping[str, Any]) -> bytes:
    """Return `manifest.json`: what concerns the run, then the partitions."""
    return json_bytes({**about, "partitions": list(records)})


def json_bytes(document: object) -> bytes:
    """Return readable JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


class Inputs:
    """The files of an archive, with their digests."""

    def __init__(self, known: Iterable[PartitionRecord], *, trust_mtime: bool) -> None:
        """Start with the digests of earlier runs.

        Args:
          known: records of earlier runs.
          trust_mtime: whether size and time of change stand for the content.
        """
        self._known = {file.path: file for record in known for file in record.inputs}
        self._trust = trust_mtime
        self._records: dict[str, FileRecord] = {}
        self._errors: dict[str, FraudError] = {}

    def read(self, partitions: Iterable[ArchivePartition]) -> None:
        """Read the files for their digests, each once."""
        files = {file.path: file for one in partitions for file in one.files}
        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(self._read, files.values()))

    def of(self, partition: ArchivePartition) -> tuple[FileRecord, ...]:
        """Return the records of a partition's files, all of which were read.

        Raises:
          FraudError: one could not be read.
        """
        for file in partition.files:
            if file.path in self._errors:
                raise self._errors[file.path]
        return tuple(self._records[file.path] for file in partition.files)

    def remembered(self, file: ArchiveFile) -> tuple[str, ...] | None:
        """Return the periods of a file of the same size and time as before; None if unknown."""
        known = self._known.get(file.path)
        if known is None or (known.size, known.modified) != (file.size, file.modified):
            return None
        return known.periods or None

    @property
    def mistaken(self) -> bool:
        """Return whether a file has other content, though its size and time are the same."""
        return any(
            known.unchanged(self._records[path]) and known.digest != self._records[path].digest
            for path, known in self._known.items()
            if path in self._records and None not in (known.digest, self._records[path].digest)
        )

    def _read(self, file: ArchiveFile) -> None:
        record = FileRecord(file.name, file.path, file.size, file.modified, periods=file.periods)
        known = self._known.get(file.path)
        try:
            if not self._trust or record.modified is None:
                record = _digested(record, file.place)
            elif known is not None and known.unchanged(record):
                record = msgspec.structs.replace(
                    record, sha256=known.sha256, checksum=known.checksum
                )
        except FraudError as error:
            self._errors[file.path] = error
        except Exception as error:
            self._errors[file.path] = FraudError(
                f"{file.path}: cannot be read: {reason_of(error)}", Code.INPUT_UNREADABLE
            )
        deleted = b"" if file.found.data is None else file.found.data.deleted
        if deleted and record.digest is not None:
            digest = hashlib.sha256(record.digest.encode() + deleted).hexdigest()
            record = msgspec.structs.replace(record, sha256=digest, checksum=None)
        self._records[file.path] = record


def identity_of(record: PartitionRecord, reached: Sequence[Sequence[FileRecord]]) -> str:
    """Return the digest of what a partition is made of.

    Args:
      record: its inputs, models, rules and options.
      reached: files of the partitions and of the history that its windows reach.
    """
    parts = [
        FORMAT,
        [(file.name, file.content) for file in record.inputs],
        record.model_ids,
        record.rules,
        record.options,
        record.without,
        [[(file.name, file.content) for file in files] for files in reached],
    ]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def _digested(record: FileRecord, place: Place) -> FileRecord:
    """Return the record with the store's checksum, else with the digest of what is read."""
    if place.local is None and (kept := checksum(place.name)) is not None:
        return msgspec.structs.replace(record, checksum=kept)
    return msgspec.structs.replace(record, sha256=sha256_of(place))
