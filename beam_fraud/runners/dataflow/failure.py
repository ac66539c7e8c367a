"""Convert Dataflow's errors to one line."""

from __future__ import annotations

from beam_fraud.errors import Code, FraudError

#: Modules whose errors concern the service, Google's libraries or Beam's use of them.
_THEIRS = ("google.", "apache_beam.runners.dataflow")
_INVALID = "Pipeline has validations errors:"
#: Maximum of characters of the service's message, which may contain a worker's traceback.
_MOST = 600


def dataflow_failure(error: Exception) -> FraudError | None:
    """Return the error for users; None for a bug of this program.

    An error of this package in a worker is left alone: its own line is in the text.
    """
    text = str(error)
    if f"{FraudError.__module__}." in text:
        return None
    if type(error).__module__.startswith(_THEIRS):
        reason = text.partition("Error:\n")[2] or text
    elif isinstance(error, OSError) or text.startswith(_INVALID):
        reason = text.removeprefix(_INVALID)
    else:
        return None
    line = " ".join(_last_of_traceback(reason).split())
    return FraudError(f"Dataflow: {line[:_MOST]}", Code.PIPELINE_FAILED)


def _last_of_traceback(text: str) -> str:
    if "Traceback (most recent call last)" not in text:
        return text
    raised = [line for line in text.splitlines() if line and not line[0].isspace()]
    return raised[-1]
