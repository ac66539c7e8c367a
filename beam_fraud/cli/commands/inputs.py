"""Check the inputs of a command."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sources.filesystem import list_files
from beam_fraud.storage.store import Directory, is_bundle
from beam_fraud.storage.urls import Place


def input_places(given: Sequence[str]) -> tuple[Place, ...]:
    """Parse the files, directories or globs of transactions of an option.

    Raises:
      UsageError: a directory is a model bundle.
      FraudError: the file system reports an error.
    """
    places = Place.parse_all(given)
    refuse_bundles(places)
    return places


def refuse_bundles(places: Sequence[Place]) -> None:
    """Refuse model bundles among the transactions.

    Raises:
      UsageError: a directory is a model bundle.
      FraudError: the file system reports an error.
    """
    for place in places:
        if place.local is not None and _is_bundle(place.local):
            raise UsageError(
                f"{place.shown}: is a model bundle, not transactions; give it as --model",
                Code.INPUT_FORMAT,
            )


def _is_bundle(path: Path) -> bool:
    try:
        return is_bundle(Directory(path))
    except OSError as error:
        raise FraudError(
            f"{path}: cannot be read: {error.strerror}", Code.INPUT_UNREADABLE
        ) from None


def refuse_own_outputs(places: Sequence[Place], out: Path | str) -> None:
    """Refuse inputs that are outputs of this or an earlier run.

    Args:
      places: files, directories or globs.
      out: the directory of the outputs, absolute, or its URL.

    Raises:
      UsageError: the output directory is inside an input directory, or a glob matches into it.
        Names that start with `_` are never read and allowed.
      FraudError: the file system reports an error.
    """
    if isinstance(out, str):
        for place in places:
            read = place.name.rstrip("/")
            if f"{out}/".startswith(f"{read}/") or read.startswith(f"{out}/"):
                raise UsageError(_inside(out, place), Code.PLACE_SHARED)
        return
    if out.is_file():
        raise UsageError(f"--out {out}: is a file, give a directory", Code.OUTPUT_NAME)
    real = Path(realpath(out))
    for place in places:
        directory = None if place.local is None else Path(realpath(place.local))
        if directory and real.is_relative_to(directory) and not _hidden(real, directory):
            raise UsageError(_inside(out, place), Code.PLACE_SHARED)
        if any(Path(realpath(file)).is_relative_to(real) for file in _matches(place)):
            raise UsageError(_inside(out, place), Code.PLACE_SHARED)


def _hidden(place: Path, directory: Path) -> bool:
    return any(part.startswith((".", "_")) for part in place.relative_to(directory).parts)


def _matches(pattern: Place) -> list[str]:
    # Only globs remain; paths that match nothing fail on reading.
    if pattern.local is None or pattern.local.exists():
        return []
    try:
        return [file.path for file in list_files(pattern)]
    except FraudError:
        return []


def _inside(out: Path | str, place: Place) -> str:
    return (
        f"--out {out}: is among the files to read ({place.shown}), so the next run would read "
        "the outputs of this run; give a directory outside"
    )
