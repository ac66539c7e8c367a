"""The bucket through which files are loaded: `--temp_location`."""

from __future__ import annotations

import logging

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from beam_fraud.errors import FraudError, UsageError

_LOG = logging.getLogger(__name__)


def temporary(options: PipelineOptions) -> str:
    """The URL of the directory for temporary files, without a slash in the end.

    Raises:
      UsageError: none is given, or it is in no bucket.
    """
    given = options.view_as(GoogleCloudOptions).temp_location or ""
    if not given.startswith("gs://"):
        raise UsageError(
            "--sink bigquery: rows are loaded from files in a bucket; give --temp_location "
            "gs://BUCKET/DIR"
        )
    return str(given).rstrip("/")


def check_bucket(options: PipelineOptions) -> None:
    """See that the bucket is there and can be looked into.

    Raises:
      UsageError: as in `temporary`.
      FraudError: it is not, or cannot.
    """
    where = temporary(options)
    from apache_beam.io.gcp.gcsio import GcsIO
    from google.api_core.exceptions import GoogleAPIError

    bucket, _, prefix = where.removeprefix("gs://").partition("/")
    try:
        # Who may write objects may list them, but not always ask about the bucket.
        list(GcsIO(pipeline_options=options).client.list_blobs(bucket, 1, prefix=prefix or None))
    except (GoogleAPIError, OSError, ValueError) as error:
        said = " ".join(str(getattr(error, "message", "") or error).split())
        raise FraudError(f"--temp_location {where}: cannot be used ({said})") from None


def remove(directory: str) -> None:
    """Remove what a run has left in its directory; where that fails, that is only told."""
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.delete([f"{directory}/"])
    except Exception as error:
        # The rows are loaded: no failure here may fail the run.
        _LOG.warning("%s: cannot be removed (%s); remove it yourself", directory, error)
