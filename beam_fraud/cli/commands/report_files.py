"""Check and write the files of reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import write_file
from beam_fraud.storage.urls import Place


def report_files(given: Sequence[str], endings: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of reports.

    Args:
      given: values of `--out`.
      endings: endings of reports.

    Raises:
      UsageError: an unknown ending, a repeated file, or an impossible path.
    """
    files: list[Path] = []
    known = f"{', '.join(endings[:-1])} or {endings[-1]}"
    for name in given:
        place = Place.parse(name)
        path = place.local or Path(name)
        if path.suffix.lower() not in endings:
            raise UsageError(f"--out {name}: must end in {known}", Code.OUTPUT_NAME)
        if place.local is None or path.is_dir() or not path.parent.is_dir():
            raise UsageError(
                f"--out {name}: give a file in a directory that is there", Code.OUTPUT_NAME
            )
        if path.absolute() in (other.absolute() for other in files):
            raise UsageError(f"--out {name}: is given twice; give it once", Code.OPTION_TWICE)
        files.append(path)
    return tuple(files)


def png_directory(given: str | None) -> Path | None:
    """Return the directory of plots, which is created later.

    Raises:
      UsageError: it is a file or a URL.
    """
    if given is None:
        return None
    path = Place.parse(given).local
    if path is None or (path.exists() and not path.is_dir()):
        raise UsageError(f"--png {given}: give a local directory", Code.OUTPUT_NAME)
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file atomically.

    Raises:
      FraudError: the file system reports an error.
    """
    try:
        write_file(path, data)
    except OSError as error:
        raise FraudError(
            f"{path}: cannot be written: {error.strerror or error}", Code.OUTPUT_UNWRITABLE
        ) from None
