"""Beam's file systems, which open what is named by a URL."""

from __future__ import annotations

from typing import Any

from beam_fraud.extras import install, is_installed

#: Scheme to the package that its file system stands on, and the extra that brings it.
_EXTRAS = {
    "gs": ("google.cloud.storage", "gcp"),
    "s3": ("boto3", "aws"),
    "azfs": ("azure.storage.blob", "azure"),
}


def file_systems() -> Any:
    """`apache_beam.io.filesystems.FileSystems`, ready for use without a pipeline."""
    # Beam takes seconds to import, and only a URL needs it.
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    if FileSystems._pipeline_options is None and RuntimeValueProvider.runtime_options is None:
        # Those of S3 and Azure refuse to work without any.
        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def missing_file_system(url: str, error: Exception) -> str:
    """What to do about a URL that no file system could be asked for.

    Args:
      url: such as `s3://bucket/x.csv`.
      error: what was said.

    Example:
      >>> missing_file_system("ftp://x/y", ValueError("no"))
      'no file system knows ftp://; give a local path, or gs://, s3:// or azfs://'
    """
    scheme = url.partition("://")[0]
    if scheme not in _EXTRAS:
        return f"no file system knows {scheme}://; give a local path, or gs://, s3:// or azfs://"
    package, extra = _EXTRAS[scheme]
    if not is_installed(package):
        return f"{scheme}:// needs {package}; {install(extra)}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_missing(url: str) -> bool:
    """Whether what a URL's file system stands on is not installed."""
    scheme = url.partition("://")[0]
    return scheme in _EXTRAS and not is_installed(_EXTRAS[scheme][0])
