"""What a stream is whose state Beam's runner keeps: a savepoint does not tell it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from beam_fraud.errors import FraudError


def refuse_other_stream(file: Path, about: Mapping[str, str]) -> None:
    """See that the stream that wrote `remember`'s file is this one; without a file it may be.

    Flink takes the state of sixteen shards for eight as well, and every window would miss rows.

    Args:
      file: below `--out`.
      about: names to what must not change while the state is kept.

    Raises:
      FraudError: it was another one.
    """
    try:
        before = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return
    for name, value in about.items():
        if name in before and before[name] != value:
            raise FraudError(
                f"--savepoint_path: {file.parent.parent} holds a stream with another {name} "
                f"({before[name]}, now {value}); give what it had, or start anew with another "
                "--out and no --savepoint_path"
            )


def remember(file: Path, about: Mapping[str, str]) -> None:
    """Write down what the stream is, in a directory that is there."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(dict(about)))
    unfinished.replace(file)
