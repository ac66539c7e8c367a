"""The files of a bundle, on a local path or a URL that Beam's file systems know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beam_fraud.errors import FraudError
from beam_fraud.storage import atomic
from beam_fraud.storage.folder import check_writable
from beam_fraud.storage.objects import file_systems, is_missing, missing_file_system
from beam_fraud.storage.urls import is_url


def read_bytes(directory: str, name: str) -> bytes:
    """The contents of the file `name` in `directory`.

    Raises:
      FileNotFoundError: there is no such file.
      FraudError: it can't be read.
    """
    try:
        if not is_url(directory):
            return (Path(directory) / name).read_bytes()
        file_systems = _file_systems(directory)
        path = file_systems.join(directory, name)
        if not file_systems.exists(path):
            raise FileNotFoundError(path)
        with file_systems.open(path) as file:
            return bytes(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(name) from None
    except FraudError:
        raise
    except Exception as error:  # each file system raises its own kinds
        raise FraudError(f"{directory}: {name} can't be read ({_first_line(error)})") from None


def check_directory(directory: str, last: str) -> None:
    """See that `write_directory` can put files into `directory`, before there are any.

    At a URL, only that some file system knows it: what it allows shows when it is written to.

    Raises:
      FraudError: something else is there, or it can't be written.
    """
    if is_url(directory):
        _file_systems(directory)
        return
    try:
        _refuse_foreign(Path(directory).absolute(), last)
    except OSError as error:
        raise FraudError(f"{directory}: can't be written ({error.strerror})") from None
    check_writable(Path(directory).absolute().parent)


def write_directory(directory: str, files: Mapping[str, bytes], last: str) -> None:
    """Put `files` into `directory`, in place of what an earlier call put there.

    A local directory appears whole or not at all. At a URL, where nothing can be renamed at once,
    the file `last` is written after all others, and it is what makes them one.

    Args:
      directory: a path or URL; a local directory with other contents than a `last` is not touched.
      files: name to contents.
      last: the name of the file that makes the others valid.

    Raises:
      FraudError: something else is there, or it can't be written.
    """
    try:
        if is_url(directory):
            _write_url(directory, files, last)
        else:
            _write_local(Path(directory), files, last)
    except FraudError:
        raise
    except Exception as error:  # each file system raises its own kinds
        raise FraudError(f"{directory}: can't be written ({_first_line(error)})") from None


def _write_local(target: Path, files: Mapping[str, bytes], last: str) -> None:
    target = target.absolute()
    _refuse_foreign(target, last)
    atomic.write_directory(target, files)


def _refuse_foreign(target: Path, last: str) -> None:
    replaces = target.is_dir() and any(target.iterdir())
    if target.exists() and (not target.is_dir() or (replaces and not (target / last).is_file())):
        raise FraudError(f"{target}: is there already and no model bundle; give another --out")


def _write_url(directory: str, files: Mapping[str, bytes], last: str) -> None:
    file_systems = _file_systems(directory)
    for name in (*(n for n in files if n != last), last):
        with file_systems.create(file_systems.join(directory, name)) as file:
            file.write(files[name])


def _file_systems(path: str) -> Any:
    beam = file_systems()
    try:
        beam.get_filesystem(path)
        if is_missing(path):
            raise ValueError(path)
    except ValueError as error:
        raise FraudError(f"{path}: {missing_file_system(path, error)}") from None
    return beam


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
