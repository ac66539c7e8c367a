"""Read and write the files of a bundle, in a local directory or at a URL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import check_writable
from beam_fraud.storage.store import Directory, Store, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable, reason_of


def read_bytes(directory: Place, name: str) -> bytes:
    """Return the contents of the file `name` in `directory`.

    Raises:
      FileNotFoundError: the file does not exist.
      FraudError: the file cannot be read.
    """
    try:
        return _store(directory).read(name)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(name) from None
    except OSError as error:
        raise FraudError(
            f"{directory.shown}: {name} can't be read ({reason_of(error)})", Code.BUNDLE_DAMAGED
        ) from None


def check_directory(directory: Place, last: str, names: Collection[str] | None = None) -> None:
    """Check that `write_directory` can write to `directory`.

    At a URL, check only that a file system knows its scheme: permissions show on writing.

    Args:
      directory, last, names: as of `write_directory`.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    local = directory.local
    if local is None:
        _store(directory)
        return
    try:
        _refuse_foreign(local, last, names)
    except OSError as error:
        raise FraudError(
            f"{directory.shown}: can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
    check_writable(local.parent)


def write_directory(
    directory: Place,
    files: Mapping[str, bytes],
    last: str,
    names: Collection[str] | None = None,
) -> None:
    """Write `files` to `directory`, replacing those of an earlier call.

    A local directory is replaced atomically. A URL has no atomic rename, so the file `last`, which
    makes the others valid, is written after all others.

    Args:
      directory: a local directory that holds files but no `last` stays untouched.
      files: name to contents.
      last: the name of the file that makes the others valid.
      names: what else an earlier call may have written; a local directory that holds anything more
        stays untouched, too. None for any.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    store, local = _store(directory), directory.local
    try:
        if local is not None:
            _refuse_foreign(local, last, names)
        store.write_all(files, last)
    except OSError as error:
        raise FraudError(
            f"{directory.shown}: can't be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def _refuse_foreign(target: Path, last: str, names: Collection[str] | None) -> None:
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if target.exists() and (not target.is_dir() or (there and not (target / last).is_file())):
        raise FraudError(
            f"{target}: exists and holds no {last}; give another directory",
            Code.OUTPUT_OCCUPIED,
        )
    foreign = [] if names is None else [name for name in there if name not in {last, *names}]
    if foreign:
        raise FraudError(
            f"{target}: would be replaced, and holds {printable(foreign[0], 100)}, which is of "
            "no bundle; give another directory, or move it away",
            Code.OUTPUT_OCCUPIED,
        )


def _store(directory: Place) -> Store:
    store = store_at(directory.local or directory.name)
    if isinstance(store, Directory):
        return store
    try:
        store.check(directory.shown)
    except UsageError as error:
        raise FraudError(str(error), error.code) from None
    return store
