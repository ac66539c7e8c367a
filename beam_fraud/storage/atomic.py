"""Files and directories that appear under their names whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: Ending of the name of a file that is not whole yet.
ENDING = ".unfinished"
#: Permissions of a new file, before the process's mask.
_MODE = 0o666


def hidden_name(directory: Path, stem: str) -> Path:
    """Return the hidden name in `directory` of a file that is not whole yet.

    Example:
      >>> hidden_name(Path("out"), "part-000-ab").name
      '.part-000-ab.unfinished'
    """
    return directory / f".{stem.removeprefix('.')}{ENDING}"


def hidden_beside(path: Path) -> Path:
    """A hidden name, another one at every call, for what `move` then gives the name `path`."""
    return hidden_name(path.parent, f"{path.name}.{uuid.uuid4().hex[:8]}")


def remove_unfinished(directory: Path, stem: str = "") -> None:
    """Remove the files in `directory` that killed processes left unfinished.

    Args:
      directory: where nobody else writes such files.
      stem: what their names begin with after the dot; nothing for every name, hidden or not.

    Raises:
      OSError: the file system refuses.
    """
    begin = f".{glob.escape(stem)}" if stem else ""
    for path in directory.glob(f"{begin}*{ENDING}"):
        path.unlink(missing_ok=True)


def remove_unfinished_of(path: Path) -> None:
    """Remove what killed processes, also of earlier versions, left of a file nobody writes now.

    Raises:
      OSError: the file system refuses.
    """
    hidden_name(path.parent, path.name).unlink(missing_ok=True)
    remove_unfinished(path.parent, f"{path.name}.")


@contextmanager
def whole_file(
    path: Path, *, hidden: Path | None = None, mode: int = _MODE, durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a file that appears at `path`, in place of another one, once the body succeeds.

    A failure of the body or of the file system leaves `path` as it was and no other file.

    Args:
      path: in a directory that exists.
      hidden: the name until then, in the same directory; `hidden_beside` if None.
      mode: permissions of the file, before the process's mask.
      durable: whether the file survives a loss of power once this returns.

    Raises:
      OSError: the file system refuses.
    """
    hidden = hidden or hidden_beside(path)
    try:
        with open(hidden, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if durable:
                # Compressors close what they write to.
                sync_path(hidden) if file.closed else sync(file)
        move(hidden, path)
        if durable:
            sync_path(path.parent)
    except BaseException:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file of these bytes as `whole_file` does.

    Raises:
      OSError: the file system refuses.
    """
    with whole_file(path, durable=durable) as file:
        file.write(data)


def write_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a directory of these files, in place of another one; its parents are made.

    Args:
      target: absolute.
      files: name to contents.

    Raises:
      OSError: the file system refuses; `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir()
        for name, data in files.items():
            with open(new / name, "wb") as file:
                file.write(data)
                sync(file)
        if target.exists():
            move(target, old)
        try:
            move(new, target)
        except OSError:
            if old.exists():
                move(old, target)
            raise
        sync_path(target.parent)
    finally:
        # What could not be put back is not thrown away.
        if target.exists() or not old.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def move(old: Path, new: Path) -> None:
    """Give a file or directory another name on the same file system, in one step.

    Raises:
      OSError: the file system refuses; FileNotFoundError if there is no `old`.
    """
    old.rename(new)


def sync(file: BinaryIO) -> None:
    """Return once what was written to the file is on its disk, if it has one.

    Raises:
      OSError: the file system refuses.
    """
    file.flush()
    _sync(file.fileno())


def sync_path(path: Path) -> None:
    """Return once what was written to a file, or the names in a directory, are on its disk.

    Raises:
      OSError: the file system refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def append_lines(descriptor: int, lines: bytes) -> None:
    """Append lines to a file, all of them or none, and return once they are on its disk.

    A last line that a killed process did not finish is ended first.

    Args:
      descriptor: of a file that is opened to be read and appended to.
      lines: each with its end.

    Raises:
      OSError: the file system refuses; the file is as long as it was.
    """
    end = os.fstat(descriptor).st_size
    torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
    rest = memoryview(b"\n" + lines if torn else lines)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        _sync(descriptor)
    except OSError:
        # A full disk takes a part of it: written again, that part would be there twice.
        os.ftruncate(descriptor, end)
        raise


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # A pipe or a device has no disk to reach, and some file systems sync no directory.
        if error.errno != errno.EINVAL:
            raise
