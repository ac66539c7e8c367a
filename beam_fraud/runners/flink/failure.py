"""Convert Flink's errors to one line."""

from __future__ import annotations

import re

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)

from beam_fraud.errors import Code, FraudError

_OF_SAVEPOINTS = "Failed to rollback to checkpoint/savepoint "
_NO_SAVEPOINT = re.compile(r"Cannot find checkpoint or savepoint file/directory '([^']*)'")
#: Pattern of a task manager's error without a worker pool; a pool that answers gives its own
#: reason.
_ASKING_A_POOL = re.compile(r"StatusRuntimeException: (\w+: [^\n]*)")
_REFUSED = re.compile(r"Caused by: [^\n]*?((?:Connection refused|connection timed out)[^\n]*)")


def flink_failure(options: PipelineOptions, error: Exception) -> FraudError | None:
    """Return the error for users; None for other errors.

    Args:
      options: Beam's options.
      error: Beam's exception, whose text contains Flink's message.
    """
    text = str(error)
    if _OF_SAVEPOINTS in text:
        path = text.partition(_OF_SAVEPOINTS)[2].split(". ")[0]
        if "Cannot map checkpoint/savepoint state" in text:
            why = (
                "it is of a stream with other steps; give the same options as before, but for the "
                "model, or start again with another --out"
            )
        else:
            why = "Flink cannot read it, see its log"
        return FraudError(f"--savepoint_path {path}: {why}", Code.SAVEPOINT_UNUSABLE)
    if (missing := _NO_SAVEPOINT.search(text)) is not None:
        return FraudError(
            f"--savepoint_path {missing[1]}: Flink finds no savepoint or checkpoint there; give "
            "the directory that holds _metadata, as Flink's machines see it",
            Code.SAVEPOINT_UNUSABLE,
        )
    if "ExternalEnvironmentFactory" in text and (pooled := _ASKING_A_POOL.search(text)) is not None:
        pool = options.view_as(PortableOptions).environment_config
        why = refusal[1] if (refusal := _REFUSED.search(text)) is not None else pooled[1]
        return FraudError(
            f"--environment_config {pool}: no pool of workers answers a task manager there "
            f"({why.strip()}); start beam-fraud workers on its machine, or correct the address",
            Code.RUNNER_SILENT,
        )
    if "NoResourceAvailableException" in text:
        parallelism = options.view_as(FlinkRunnerOptions).parallelism
        return FraudError(
            f"--parallelism {parallelism}: too few task slots of Flink became free; give fewer, "
            "start more task managers, or cancel other jobs",
            Code.SLOTS_MISSING,
        )
    return None
