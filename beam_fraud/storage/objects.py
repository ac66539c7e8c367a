"""Files at a URL, by Beam's file systems; errors become OSError."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from beam_fraud.errors import Code, UsageError, install, is_installed
from beam_fraud.wording import first_line

_CHUNK = 8 << 20
#: Scheme to the package of its file system, and its extra.
_EXTRAS = {
    "gs": ("google.cloud.storage", "gcp"),
    "s3": ("boto3", "aws"),
    "azfs": ("azure.storage.blob", "azure"),
}


def file_systems() -> Any:
    """Return `apache_beam.io.filesystems.FileSystems`, ready for use without a pipeline."""
    # Imported here: Beam takes seconds to import, and only a URL needs it.
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_fraud.beam_internals import file_systems_have_options

    if not file_systems_have_options():
        # The file systems of S3 and Azure require options.
        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def missing_file_system(where: str, url: str, error: Exception) -> UsageError:
    """Return the error for a URL that no file system could be asked for.

    Args:
      where: begins the message.
      url: such as `s3://bucket/x.csv`.
      error: the error.

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
    """Return whether the package of a URL's file system is missing."""
    scheme = url.partition("://")[0]
    return scheme in _EXTRAS and not is_installed(_EXTRAS[scheme][0])


def check_scheme(option: str, url: str) -> None:
    """Check that a file system supports the URL and that its package is installed.

    Raises:
      UsageError: it is not supported or not installed.
    """
    try:
        file_systems().get_filesystem(url)
        if is_missing(url):
            raise ValueError(url)
    except ValueError as error:
        raise missing_file_system(option, url, error) from None


def objects(pattern: str) -> list[str]:
    """Return the URLs of a pattern's files: `*` within a folder, `**` below it as well."""
    with as_os_errors():
        entries = file_systems().match([pattern])[0].metadata_list
        return [str(entry.path) for entry in entries]


def exists(url: str) -> bool:
    """Return whether the file exists."""
    with as_os_errors():
        return bool(file_systems().exists(url))


def create(url: str) -> BinaryIO:
    """Create a file that appears at its URL once closed."""
    with as_os_errors():
        # Otherwise Beam would compress by the ending.
        return cast(BinaryIO, file_systems().create(url, compression_type="uncompressed"))


def read(url: str) -> bytes:
    """Return the bytes of a file."""
    with as_os_errors(), file_systems().open(url) as file:
        return bytes(file.read())


def write(url: str, data: bytes) -> None:
    """Write a file of these bytes."""
    with as_os_errors():
        file = create(url)
        try:
            file.write(data)
            file.close()
        except BaseException:
            give_up(file)
            raise


def upload(path: Path, url: str) -> None:
    """Copy a file of this disk to a URL, where it appears at its end."""
    with path.open("rb") as source, as_os_errors():
        file = create(url)
        try:
            shutil.copyfileobj(source, file, _CHUNK)
            file.close()
        except BaseException:
            give_up(file)
            raise


def checksum(url: str) -> str | None:
    """Return what the store keeps of the content of a file; None if it keeps nothing.

    It is a CRC-32C at Cloud Storage and an entity tag at others; equal ones mean equal content
    only of files of the same size.
    """
    try:
        return str(file_systems().checksum(url) or "") or None
    except Exception:  # each file system raises its own kinds; reading tells what is wrong
        return None


def size_and_time(url: str) -> tuple[int, float | None]:
    """Return the size of a file in bytes, and when it changed, seconds of the epoch, if known."""
    with as_os_errors():
        described = file_systems().get_filesystem(url).metadata(url)
        return int(described.size_in_bytes), described.last_updated_in_seconds or None


def give_up(file: BinaryIO) -> None:
    """Discard a file after a failed write, so that no part of it appears.

    A file of Cloud Storage would otherwise try to close again at its garbage collection.
    """
    terminate = getattr(file, "terminate", None)
    if terminate is not None:
        with suppress(Exception):
            terminate()


def move(url: str, to: str) -> None:
    """Move a file to another URL; idempotent."""
    with as_os_errors():
        systems = file_systems()
        if not systems.exists(url) and systems.exists(to):
            return
        systems.copy([url], [to])
    remove([url])


def remove(urls: Sequence[str]) -> None:
    """Delete files; missing ones are no error."""
    if urls:
        with as_os_errors():
            file_systems().delete(list(urls))


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Convert every error of a URL's file system in the body to OSError."""
    try:
        yield
    except Exception as error:  # each file system raises its own kinds
        raise OSError(first_line(error)) from None
