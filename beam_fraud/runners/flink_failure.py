"""Why a job could not go on at Flink, in one line."""

from __future__ import annotations

from beam_fraud.errors import FraudError

_OF_SAVEPOINTS = "Failed to rollback to checkpoint/savepoint "


def flink_failure(error: Exception) -> FraudError | None:
    """What a user is told; None for what Flink does not say.

    Args:
      error: what Beam has raised; Flink's own words are somewhere in its text.
    """
    text = str(error)
    if _OF_SAVEPOINTS not in text:
        return None
    path = text.partition(_OF_SAVEPOINTS)[2].split(". ")[0]
    if "Cannot map checkpoint/savepoint state" in text:
        why = (
            "it is of a stream with other steps; give the same options as before, but for the "
            "model, or start anew with another --out"
        )
    else:
        why = "Flink cannot read it, see its log"
    return FraudError(f"--savepoint_path {path}: {why}")
