"""The hash of ids that a stream began with, which is kept as long as its state."""

from __future__ import annotations

import logging

from beam_fraud.checkpoint.local_checkpoint import LocalCheckpoint
from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash

_LOG = logging.getLogger(__name__)

#: Name of the key, in hexadecimal digits, among what is kept about a stream.
KEY = "key of ids"


def hash_kept_here(checkpoint: LocalCheckpoint) -> IdHash:
    """The hash of a stream on this machine; one that is new gets a random key.

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
    """The hash under a key that was kept.

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
            "--out"
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
