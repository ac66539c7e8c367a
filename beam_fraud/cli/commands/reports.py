"""The files of reports: `--out FILE` ending in .html, .json or .md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import write_file
from beam_fraud.storage.urls import Place

_ENDINGS = (".html", ".json", ".md")


def report_files(places: Sequence[Place]) -> tuple[Path, ...]:
    """Return the files of reports.

    Args:
      places: values of `--out`.

    Raises:
      UsageError: an unknown ending, a repeated file, or an impossible path.
    """
    files: list[Path] = []
    known = f"{', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}"
    for place in places:
        name, path = place.shown, place.local or Path(place.name)
        if path.suffix.lower() not in _ENDINGS:
            raise UsageError(f"--out {name}: must end in {known}", Code.OUTPUT_NAME)
        if place.local is None or path.is_dir() or not path.parent.is_dir():
            raise UsageError(
                f"--out {name}: give a file in a directory that is there", Code.OUTPUT_NAME
            )
        if path.absolute() in (other.absolute() for other in files):
            raise UsageError(f"--out {name}: is given twice; give it once", Code.OPTION_TWICE)
        files.append(path)
    return tuple(files)


def write_report(path: Path, data: bytes) -> None:
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
