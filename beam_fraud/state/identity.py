"""The identity of a stream whose state Beam's runner keeps: a savepoint has none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.storage.checkpoint import LocalCheckpoint, refuse_created_again

_LOG = logging.getLogger(__name__)

#: Name of the key, in hex digits, in the identity of a stream.
KEY = "key of ids"
#: Name of the velocity definitions of the start, and of what decided last, in the same place.
DEFINITIONS, IN_FORCE = "velocity definitions", "in force"


def checkpoint_hash(checkpoint: LocalCheckpoint) -> IdHash:
    """Return the id hash of a stream on this machine; a new stream gets a random key.

    Call it before the checkpoint is claimed: a claimed one without a key is older than keys.

    Raises:
      FraudError: the state is damaged.
    """
    key = checkpoint.about(KEY)
    if key is not None:
        return hash_of_key(key, str(checkpoint.path))
    hashing = UNKEYED if checkpoint.knows("source") else IdHash.random()
    checkpoint.claim({KEY: hashing.key.hex()})
    return hashing


def hash_of_key(key: str, place: str) -> IdHash:
    """Return the id hash of a stored key.

    Args:
      key: the key in hex digits.
      place: place of the key, for messages.

    Raises:
      FraudError: it is no key.
    """
    try:
        return IdHash(bytes.fromhex(key))
    except ValueError:
        raise FraudError(
            f"{place}: the stream's state is damaged (its key of ids); start again with another "
            "--out",
            Code.STATE_UNREADABLE,
        ) from None


def warn_of_no_key(hashing: IdHash, place: str) -> None:
    """Warn of a stream of an earlier version, whose ids are hashed without a key."""
    if not hashing.keyed:
        _LOG.warning(
            "%s: this stream of an earlier version hashes ids without a key, so an attacker can "
            "choose ids that collide; start a stream with another --out and --history to use a key",
            place,
        )


class Place(Protocol):
    """The outputs of a stream (`stream_outputs.StreamOutputs`)."""

    @property
    def shown(self) -> str:
        """Its name, for messages."""

    def read_about(self) -> bytes | None:
        """Return the identity written by `write_about`, None without one."""

    def write_about(self, about: bytes) -> None:
        """Write the identity of the stream."""


def taken_up(outputs: Place, about: Mapping[str, str]) -> IdHash:
    """Check the identity against the one that `remember` stored, if any.

    Flink restores the state of sixteen shards into eight without an error, and every window would
    miss rows.

    Args:
      outputs: outputs of the stream whose state the runner restores.
      about: name to value of settings that must not change for the life of the state.

    Returns:
      The id hash of the state.

    Raises:
      FraudError: it is another stream.
    """
    before = recorded_identity(outputs)
    for name, value in about.items():
        if name in before and before[name] != value:
            refuse_created_again(name, outputs.shown)
            raise FraudError(
                f"--savepoint_path: {outputs.shown} holds a stream with another {name} "
                f"({before[name]}, now {value}); give the options of that stream, or start again "
                "with another --out and no --savepoint_path",
                Code.STREAM_CHANGED,
            )
    return hash_of_key(before[KEY], outputs.shown) if KEY in before else UNKEYED


def remember(outputs: Place, about: Mapping[str, str], hashing: IdHash, *, restored: bool) -> None:
    """Store the identity of the stream in its existing outputs.

    Args:
      outputs: outputs of the stream.
      about: name to value of settings that must not change for the life of the state.
      hashing: hash of its ids.
      restored: whether the runner restores the recorded stream's state. Recorded settings that this
        run does not use stay: a run without the labels topic must not lose the topic's id.

    Raises:
      FraudError: the file system reports an error.
    """
    before = recorded_identity(outputs) if restored else {}
    outputs.write_about(msgspec.json.encode({**before, **about, KEY: hashing.key.hex()}))


def recorded_identity(outputs: Place) -> dict[str, str]:
    """Return the identity that `remember` stored, empty without one."""
    try:
        return msgspec.json.decode(outputs.read_about() or b"{}", type=dict[str, str])
    except msgspec.DecodeError:
        return {}
