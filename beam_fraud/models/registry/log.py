"""The log of a registry: one JSON line per change, each with the digest of the line before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.chain import digest_of, follows, line_of

Action = Literal["add", "promote", "rollback", "retire"]
#: What a registry holds.
Kind = Literal["model", "rules"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of a registry."""

    #: From 1 on, without gaps.
    number: int
    #: SHA-256 of the line before, in hexadecimal; "" for the first.
    previous: str
    #: Time of the change, ISO 8601 in UTC.
    at: str
    #: Who changed it.
    who: str
    action: Action
    kind: Kind
    #: The model or rule set: added, promoted, retired, or demoted by a rollback.
    id: str
    #: Reason of the change.
    why: str | None = None
    #: After a promotion or rollback: what decides now; None for no rule set.
    in_force: str | None = None
    #: What was added: SHA-256 of a model's manifest, or of a rule set.
    digest: str | None = None
    #: What was added: file of a rule set to its SHA-256. A model's manifest lists its files.
    files: dict[str, str] = field(default_factory=dict)
    #: Figures on which a promotion or a challenger of `retrain` rests, with the digest of their
    #: rows.
    evidence: dict[str, Any] | None = None
    #: Comparison report of it: its place in the registry and its SHA-256.
    report: dict[str, str] | None = None


@dataclass(frozen=True)
class Log:
    """A log whose lines form a chain."""

    #: The bytes of the file.
    data: bytes
    entries: tuple[Entry, ...]
    #: SHA-256 of each line.
    digests: tuple[str, ...]

    @property
    def head(self) -> str:
        """SHA-256 of the last line; "" without one."""
        return self.digests[-1] if self.digests else ""

    def with_entry(self, entry: Entry) -> Log:
        """Append an entry, whose `previous` is the head."""
        line = line_of(entry)
        digests = (*self.digests, digest_of(line))
        return Log(self.data + line + b"\n", (*self.entries, entry), digests)


#: A log without entries.
EMPTY = Log(b"", (), ())


def read_log(data: bytes, where: str) -> Log:
    """Parse a log and check its chain.

    Args:
      data: the bytes of the file.
      where: the file, for messages.

    Raises:
      FraudError: a line is incomplete, invalid, or does not follow the line before.
    """
    if not data:
        return EMPTY
    *lines, rest = data.split(b"\n")
    if rest:
        raise damaged(where, f"line {len(lines) + 1} is incomplete")
    entries: list[Entry] = []
    digests: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise damaged(where, f"line {number} is no entry ({error})") from None
        previous = digests[-1] if digests else ""
        if not follows(entry, number - 1, previous):
            raise damaged(where, f"line {number} does not follow the line before it")
        entries.append(entry)
        digests.append(digest_of(line))
    return Log(data, tuple(entries), tuple(digests))


def damaged(where: str, reason: str) -> FraudError:
    """Return the error for a registry that was changed by other means than its commands."""
    return FraudError(
        f"{where}: {reason}: it was changed or damaged; restore the registry from a copy",
        Code.REGISTRY_DAMAGED,
    )
