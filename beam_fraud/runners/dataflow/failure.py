"""Why a job could not be sent to Dataflow, or failed there, in one line."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.errors import FraudError
from beam_fraud.runners.runner import runner_of

#: Whose errors say something of the service, of Google's libraries or of Beam's talk with them.
_THEIRS = ("google.", "apache_beam.runners.dataflow")
_INVALID = "Pipeline has validations errors:"
#: Characters of what the service says; a worker's whole traceback can be in it.
_MOST = 600


def dataflow_failure(options: PipelineOptions, error: Exception) -> FraudError | None:
    """Return what a user is told; None for another runner, and for what is a bug of this program.

    An error of this package that a worker has raised is found by its own line in the text, so it
    is left alone.
    """
    text = str(error)
    if not runner_of(options).dataflow or f"{FraudError.__module__}." in text:
        return None
    if type(error).__module__.startswith(_THEIRS):
        said = text.partition("Error:\n")[2] or text
    elif isinstance(error, OSError) or text.startswith(_INVALID):
        said = text.removeprefix(_INVALID)
    else:
        return None
    line = " ".join(_last_of_traceback(said).split())
    return FraudError(f"Dataflow: {line[:_MOST]}")


def _last_of_traceback(said: str) -> str:
    if "Traceback (most recent call last)" not in said:
        return said
    raised = [line for line in said.splitlines() if line and not line[0].isspace()]
    return raised[-1]
