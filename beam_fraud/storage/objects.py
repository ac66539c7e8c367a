"""Files at a URL: what Beam's file systems do, and what they refuse as OSError."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from beam_fraud.errors import Code, UsageError, install, is_installed
from beam_fraud.wording import first_line

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

    from beam_fraud.beam_internals import file_systems_have_options

    if not file_systems_have_options():
        # Those of S3 and Azure refuse to work without any.
        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def missing_file_system(where: str, url: str, error: Exception) -> UsageError:
    """Return the error for a URL that no file system could be asked for.

    Args:
      where: begins the message.
      url: such as `s3://bucket/x.csv`.
      error: what was said.

    Example:
      >>> missing_file_system("--out ftp://x/y", "ftp://x/y", ValueError("no")).args[0]
      '--out ftp://x/y: no file system knows ftp://; give a local path, or gs://, s3:// or azfs://'
    """
    scheme = url.partition("://")[0]
    if scheme not in _EXTRAS:
        known = "give a local path, or gs://, s3:// or azfs://"
        return UsageError(f"{where}: no file system knows {scheme}://; {known}", Code.URL_UNUSABLE)
    package, extra = _EXTRAS[scheme]
    if not is_installed(package):
        return UsageError(
            f"{where}: {scheme}:// needs {package}; {install(extra)}", Code.EXTRA_MISSING
        )
    return UsageError(f"{where}: {first_line(error)}", Code.URL_UNUSABLE)


def is_missing(url: str) -> bool:
    """Return whether what a URL's file system stands on is not installed."""
    scheme = url.partition("://")[0]
    return scheme in _EXTRAS and not is_installed(_EXTRAS[scheme][0])


def check_scheme(option: str, url: str) -> None:
    """Check that some file system knows the URL, and that what it stands on is installed.

    Raises:
      UsageError: none does, or it is not.
    """
    try:
        file_systems().get_filesystem(url)
        if is_missing(url):
            raise ValueError(url)
    except ValueError as error:
        raise missing_file_system(option, url, error) from None


def objects(pattern: str) -> list[str]:
    """URLs of the files that a pattern leads to: `*` within a folder, `**` below it as well."""
    with as_os_errors():
        found = file_systems().match([pattern])[0].metadata_list
        return [str(entry.path) for entry in found]


def exists(url: str) -> bool:
    """Return whether there is such a file."""
    with as_os_errors():
        return bool(file_systems().exists(url))


def create(url: str) -> BinaryIO:
    """Return a new file, seen under its URL once it is closed."""
    with as_os_errors():
        # Else an ending would have it compressed once more.
        return cast(BinaryIO, file_systems().create(url, compression_type="uncompressed"))


def read(url: str) -> bytes:
    """Return the bytes of a file."""
    with as_os_errors(), file_systems().open(url) as file:
        return bytes(file.read())


def write(url: str, data: bytes) -> None:
    """A file of these bytes."""
    with as_os_errors():
        file = create(url)
        try:
            file.write(data)
            file.close()
        except BaseException:
            give_up(file)
            raise


def give_up(file: BinaryIO) -> None:
    """Let go of a file that could not be written, so that no part of it comes to be seen.

    One of Cloud Storage would otherwise try to be closed once more when nobody holds it any longer.
    """
    terminate = getattr(file, "terminate", None)
    if terminate is not None:
        with suppress(Exception):
            terminate()


def move(url: str, to: str) -> None:
    """Give a file another URL; nothing is done if that has been done before."""
    with as_os_errors():
        systems = file_systems()
        if not systems.exists(url) and systems.exists(to):
            return
        systems.copy([url], [to])
    remove([url])


def remove(urls: Sequence[str]) -> None:
    """Delete files; those that are not there are no failure."""
    if urls:
        with as_os_errors():
            file_systems().delete(list(urls))


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Have whatever the file system at a URL raises in the body come out as OSError."""
    try:
        yield
    except Exception as error:  # each file system raises its own kinds
        raise OSError(first_line(error)) from None
