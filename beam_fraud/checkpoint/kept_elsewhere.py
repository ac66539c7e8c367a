"""What a stream is whose state Beam's runner keeps: a savepoint does not tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from beam_fraud.checkpoint.stream_hash import KEY, hash_of_key
from beam_fraud.checkpoint.topic_id import refuse_created_again
from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash


class Place(Protocol):
    """What a stream leaves and keeps (`stream_outputs.StreamOutputs`)."""

    @property
    def shown(self) -> str:
        """Its name, for messages."""

    def read_about(self) -> bytes | None:
        """What `write_about` has written there."""

    def write_about(self, about: bytes) -> None:
        """Write what the stream is."""


def taken_up(outputs: Place, about: Mapping[str, str]) -> IdHash:
    """Check that the stream that `remember` described there is this one; it may be if none was.

    Flink takes the state of sixteen shards for eight as well, and every window would miss rows.

    Args:
      outputs: of the stream whose state the runner takes up.
      about: names to what must not change while the state is kept.

    Returns:
      The hash that the state was kept under.

    Raises:
      FraudError: it was another stream.
    """
    try:
        before = msgspec.json.decode(outputs.read_about() or b"{}", type=dict[str, str])
    except msgspec.DecodeError:
        before = {}
    for name, value in about.items():
        if name in before and before[name] != value:
            refuse_created_again(name, outputs.shown)
            raise FraudError(
                f"--savepoint_path: {outputs.shown} holds a stream with another {name} "
                f"({before[name]}, now {value}); give what it had, or start anew with another "
                "--out and no --savepoint_path"
            )
    return hash_of_key(before[KEY], outputs.shown) if KEY in before else UNKEYED


def remember(outputs: Place, about: Mapping[str, str], hashing: IdHash) -> None:
    """Write down what the stream is, in a place that is there.

    Raises:
      FraudError: the file system refuses.
    """
    outputs.write_about(msgspec.json.encode({**about, KEY: hashing.key.hex()}))
