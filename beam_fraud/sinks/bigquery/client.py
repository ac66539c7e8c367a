"""Connections to BigQuery, and what it says in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from beam_fraud.errors import FraudError
from beam_fraud.extras import install
from beam_fraud.sinks.bigquery.table import TableName

#: Seconds for an answer; the library tries again, with back-off and jitter, for `PATIENCE` seconds.
TIMEOUT = 30.0
PATIENCE = 300.0
#: How Beam says in a worker that a job has failed, and in it what BigQuery says.
_FAILED_JOB = re.compile(r"BigQuery job \S+ failed\. Error Result: (.*)", re.DOTALL)
_MESSAGE = re.compile(r"""message: (['"])(.+?)\1\s*$""", re.MULTILINE)


@contextmanager
def connected(table: TableName, patience: float = PATIENCE) -> Iterator[Any]:
    """A client of the table's project, and a policy for its calls; it is closed in the end.

    Nothing of Google's is imported before.

    Args:
      table: for the project, and for messages.
      patience: seconds for which what fails for a passing reason is tried again.

    Yields:
      The client, and the arguments that each of its calls is given.

    Raises:
      FraudError: the library or the credentials are missing; or what BigQuery says inside the
        block, in one line that names the table.
    """
    try:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.cloud import bigquery
    except ImportError as error:
        raise FraudError(f"BigQuery needs a client library ({error}): {install('gcp')}") from None
    where = f"--sink bigquery:{table}"
    try:
        client = bigquery.Client(project=table.project)
    except DefaultCredentialsError:
        raise FraudError(
            f"{where}: no credentials; run gcloud auth application-default login, or name a "
            "service account's file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    try:
        retry = bigquery.DEFAULT_RETRY.with_timeout(patience)
        yield client, {"retry": retry, "timeout": TIMEOUT}
    except GoogleAuthError as error:
        raise FraudError(f"{where}: the credentials are refused ({_said(error)})") from None
    except RetryError as error:
        raise FraudError(f"{where}: {_said(error.cause or error)}") from None
    except GoogleAPICallError as error:
        raise FraudError(f"{where}: {_said(error)}") from None
    except OSError as error:
        # What the HTTP library raises is one of these.
        raise FraudError(f"{where}: cannot be reached ({_said(error)})") from None
    finally:
        client.close()


def _said(error: BaseException) -> str:
    """What a library says, on one line, if possible without the address that it asked."""
    reasons = getattr(error, "errors", None) or [{}]
    said = reasons[0].get("message") if isinstance(reasons[0], dict) else None
    return " ".join(str(said or getattr(error, "message", "") or error).split())


def failed_load(table: TableName, error: BaseException) -> FraudError | None:
    """What BigQuery said of a load job, if `error` is that one failed; else None."""
    failed = _FAILED_JOB.search(str(error))
    if failed is None:
        return None
    message = _MESSAGE.search(failed[1])
    said = message[2] if message else failed[1].partition("\n")[0]
    return FraudError(f"--sink bigquery:{table}: rows cannot be loaded ({said})")
