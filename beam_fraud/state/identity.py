"""What identifies a stream whose state Beam's runner keeps: a savepoint does not say it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.storage.checkpoint import LocalCheckpoint, refuse_created_again

_LOG = logging.getLogger(__name__)

#: Name of the key, in hexadecimal digits, among what is kept about a stream.
KEY = "key of ids"


def hash_kept_here(checkpoint: LocalCheckpoint) -> IdHash:
    """Return the hash of a stream on this machine; one that is new gets a random key.

    Call it before the checkpoint is claimed: what is claimed and has no key is older than keys.

    Raises:
      FraudError: the state is damaged.
    """
    kept = checkpoint.about(KEY)
    if kept is not None:
        return hash_of_key(kept, str(checkpoint.path))
    hashing = UNKEYED if checkpoint.knows("source") else IdHash.random()
    checkpoint.claim({KEY: hashing.key.hex()})
    return hashing


def hash_of_key(key: str, place: str) -> IdHash:
    """Return the hash under a key that was kept.

    Args:
      key: hexadecimal digits.
      place: where it was kept, for messages.

    Raises:
      FraudError: it is none.
    """
    try:
        return IdHash(bytes.fromhex(key))
    except ValueError:
        raise FraudError(
            f"{place}: the stream's state is damaged (its key of ids); start anew with another "
            "--out",
            Code.STATE_UNREADABLE,
        ) from None


def warn_of_no_key(hashing: IdHash, place: str) -> None:
    """Warn of a stream that an earlier version began, whose ids are hashed without a key."""
    if not hashing.keyed:
        _LOG.warning(
            "%s: an earlier version began this stream, whose state knows ids by hashes without a "
            "key: who chooses ids can make two count as one; start a stream with another --out and "
            "--history to have them keyed",
            place,
        )


class Place(Protocol):
    """Where a stream writes (`stream_outputs.StreamOutputs`)."""

    @property
    def shown(self) -> str:
        """Its name, for messages."""

    def read_about(self) -> bytes | None:
        """Return what `write_about` wrote there, None if it never did."""

    def write_about(self, about: bytes) -> None:
        """Write what identifies the stream."""


def taken_up(outputs: Place, about: Mapping[str, str]) -> IdHash:
    """Check that this is the stream that `remember` recorded there; pass if it recorded none.

    Flink restores the state of sixteen shards into eight without an error, and every window
    would miss rows.

    Args:
      outputs: of the stream whose state the runner restores.
      about: names to what must not change while the state is kept.

    Returns:
      The hash that the state was kept under.

    Raises:
      FraudError: it was another stream.
    """
    before = _recorded(outputs)
    for name, value in about.items():
        if name in before and before[name] != value:
            refuse_created_again(name, outputs.shown)
            raise FraudError(
                f"--savepoint_path: {outputs.shown} holds a stream with another {name} "
                f"({before[name]}, now {value}); give what it had, or start anew with another "
                "--out and no --savepoint_path",
                Code.STREAM_CHANGED,
            )
    return hash_of_key(before[KEY], outputs.shown) if KEY in before else UNKEYED


def remember(outputs: Place, about: Mapping[str, str], hashing: IdHash, *, restored: bool) -> None:
    """Record what identifies the stream, in a place that is there.

    Args:
      outputs: of the stream.
      about: names to what must not change while the state is kept.
      hashing: of its ids.
      restored: whether the runner restores the state of the stream that is recorded there. What
        that recorded and this run does not use stays: a run without the labels topic must not
        lose the topic's id.

    Raises:
      FraudError: the file system refuses.
    """
    before = _recorded(outputs) if restored else {}
    outputs.write_about(msgspec.json.encode({**before, **about, KEY: hashing.key.hex()}))


def _recorded(outputs: Place) -> dict[str, str]:
    try:
        return msgspec.json.decode(outputs.read_about() or b"{}", type=dict[str, str])
    except msgspec.DecodeError:
        return {}
