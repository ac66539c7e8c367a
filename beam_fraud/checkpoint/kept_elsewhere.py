"""What identifies a stream whose state Beam's runner keeps: a savepoint does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from beam_fraud.checkpoint.local_checkpoint import refuse_created_again
from beam_fraud.checkpoint.stream_hash import KEY, hash_of_key
from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash


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
                "--out and no --savepoint_path"
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
