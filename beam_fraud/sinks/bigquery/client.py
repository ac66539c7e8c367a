"""Connect to BigQuery and convert its errors to one line."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from beam_fraud.errors import Code, FraudError, UsageError, install
from beam_fraud.sinks.bigquery.table import TableName

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

#: Time limit of a call in seconds; the library retries, with back-off and jitter, for `PATIENCE`
#: seconds.
TIMEOUT = 30.0
PATIENCE = 300.0
#: Pattern of Beam's error for a failed job, which contains BigQuery's message.
_FAILED_JOB = re.compile(r"BigQuery job \S+ failed\. Error Result: (.*)", re.DOTALL)
_MESSAGE = re.compile(r"""message: (['"])(.+?)\1\s*$""", re.MULTILINE)


@contextmanager
def connected(table: TableName, patience: float = PATIENCE) -> Iterator[Any]:
    """Open a client of the table's project, with a retry policy; close it at the end.

    Google's packages are imported here, not before.

    Args:
      table: names the project, and the table in messages.
      patience: seconds of retries after transient errors.

    Yields:
      The client, and the arguments to pass to each of its calls.

    Raises:
      FraudError: the library or the credentials are missing, or BigQuery reports an error inside
        the block; one line that names the table.
    """
    try:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.cloud import bigquery
    except ImportError as error:
        raise FraudError(
            f"BigQuery needs a client library ({error}): {install('gcp')}", Code.EXTRA_MISSING
        ) from None
    where = f"--sink bigquery:{table}"
    try:
        client = bigquery.Client(project=table.project)
    except DefaultCredentialsError:
        raise FraudError(
            f"{where}: no credentials; run gcloud auth application-default login, or name a "
            "service account's file in GOOGLE_APPLICATION_CREDENTIALS",
            Code.BIGQUERY_ACCESS,
        ) from None
    try:
        retry = bigquery.DEFAULT_RETRY.with_timeout(patience)
        yield client, {"retry": retry, "timeout": TIMEOUT}
    except GoogleAuthError as error:
        raise FraudError(
            f"{where}: the credentials are refused ({_message(error)})", Code.BIGQUERY_ACCESS
        ) from None
    except RetryError as error:
        raise FraudError(
            f"{where}: {_message(error.cause or error)}", Code.BIGQUERY_ACCESS
        ) from None
    except GoogleAPICallError as error:
        raise FraudError(f"{where}: {_message(error)}", Code.BIGQUERY_ACCESS) from None
    except OSError as error:
        # The HTTP library raises one of these.
        raise FraudError(
            f"{where}: cannot be reached ({_message(error)})", Code.BIGQUERY_ACCESS
        ) from None
    finally:
        client.close()


def _message(error: BaseException) -> str:
    """Return a library's message on one line, without the requested address if possible."""
    reasons = getattr(error, "errors", None) or [{}]
    text = reasons[0].get("message") if isinstance(reasons[0], dict) else None
    return " ".join(str(text or getattr(error, "message", "") or error).split())


def failed_load(table: TableName, error: BaseException) -> FraudError | None:
    """Return BigQuery's error if `error` is a failed load job; else None."""
    failed = _FAILED_JOB.search(str(error))
    if failed is None:
        return None
    message = _MESSAGE.search(failed[1])
    reason = message[2] if message else failed[1].partition("\n")[0]
    return FraudError(
        f"--sink bigquery:{table}: rows cannot be loaded ({reason})", Code.BIGQUERY_LOAD
    )


_LOG = logging.getLogger(__name__)


def temporary(options: PipelineOptions) -> str:
    """Return the URL of the directory for temporary files, without a trailing slash.

    Raises:
      UsageError: the option is missing, or names no bucket.
    """
    # Imported here: it imports all of Google's libraries.
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    location = options.view_as(GoogleCloudOptions).temp_location or ""
    if not location.startswith("gs://"):
        raise UsageError(
            "--sink bigquery: rows are loaded from files in a bucket; give --temp_location "
            "gs://BUCKET/DIR",
            Code.OPTION_MISSING,
        )
    return str(location).rstrip("/")


def check_bucket(options: PipelineOptions) -> None:
    """Check that the bucket exists and can be listed.

    Raises:
      UsageError: as in `temporary`.
      FraudError: it does not exist or cannot be listed.
    """
    where = temporary(options)
    from apache_beam.io.gcp.gcsio import GcsIO
    from google.api_core.exceptions import GoogleAPIError

    bucket, _, prefix = where.removeprefix("gs://").partition("/")
    try:
        # A login that may write objects may list them, but not always read the bucket's metadata.
        list(GcsIO(pipeline_options=options).client.list_blobs(bucket, 1, prefix=prefix or None))
    except (GoogleAPIError, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "message", "") or error).split())
        raise FraudError(
            f"--temp_location {where}: cannot be used ({reason})", Code.BIGQUERY_ACCESS
        ) from None


def remove(directory: str) -> None:
    """Remove a run's temporary directory; log a failure, and do not raise it."""
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.delete([f"{directory}/"])
    except Exception as error:
        # The rows are loaded already, so no failure here may fail the run.
        _LOG.warning("%s: cannot be removed (%s); remove it yourself", directory, error)
