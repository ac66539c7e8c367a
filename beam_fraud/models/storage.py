"""Read and write the files of a bundle, in a local directory or at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.atomic import check_writable
from beam_fraud.storage.store import Directory, Store, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of


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


def check_directory(directory: Place, last: str) -> None:
    """Check that `write_directory` can write to `directory`.

    At a URL, check only that a file system knows its scheme: permissions show on writing.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    local = directory.local
    if local is None:
        _store(directory)
        return
    try:
        _refuse_foreign(local, last)
    except OSError as error:
        raise FraudError(
            f"{directory.shown}: can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
    check_writable(local.parent)


def write_directory(directory: Place, files: Mapping[str, bytes], last: str) -> None:
    """Write `files` to `directory`, replacing those of an earlier call.

    A local directory is replaced atomically. A URL has no atomic rename, so the file `last`, which
    makes the others valid, is written after all others.

    Args:
      directory: a local directory that holds files but no `last` stays untouched.
      files: name to contents.
      last: the name of the file that makes the others valid.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    store, local = _store(directory), directory.local
    try:
        if local is not None:
            _refuse_foreign(local, last)
        store.write_all(files, last)
    except OSError as error:
        raise FraudError(
            f"{directory.shown}: can't be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def _refuse_foreign(target: Path, last: str) -> None:
    replaces = target.is_dir() and any(target.iterdir())
    if target.exists() and (not target.is_dir() or (replaces and not (target / last).is_file())):
        raise FraudError(
            f"{target}: exists and holds no {last}; give another directory",
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
