"""A place for files, a directory of this machine or a URL, behind the same few verbs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.storage import atomic, objects
from beam_fraud.storage.folder import check_writable, make_directory
from beam_fraud.storage.lock import locked_directory


@dataclass(frozen=True)
class Directory:
    """A directory; a name is a path below it, and what is written survives a loss of power.

    Every verb raises OSError where the file system refuses.
    """

    #: The directory.
    path: Path

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def scratch(self) -> Path:
        """Where a file can grow that `take` puts here."""
        return self.path

    def check(self, option: str) -> None:
        """Check that files can be made here.

        Raises:
          FraudError: they cannot.
        """
        check_writable(self.path)

    def make(self) -> None:
        """Make the directory, if it is absent."""
        make_directory(self.path)

    def place(self, name: str) -> str:
        """Return the path of a name."""
        return str(self.path / name)

    def list(self, pattern: str) -> list[str]:
        """Names of the files that a pattern leads to, sorted: `**` in the end for all below."""
        found = self.path.glob(f"{pattern}/*" if pattern.endswith("**") else pattern)
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self.path / name).exists()

    def holds(self, name: str) -> bool:
        """Return whether there is such a directory."""
        return (self.path / name).is_dir()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError if there is none."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file of these bytes whole or not at all, in a directory that exists."""
        atomic.write_file(self.path / name, data)

    def write_all(self, files: Mapping[str, bytes], last: str) -> None:
        """Replace all that is here by these files, at once."""
        atomic.write_directory(self.path, files)

    def take(self, file: Path) -> None:
        """Keep a finished file of `scratch` here, under its own name."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name; nothing happens if that was done before."""
        with suppress(FileNotFoundError):
            atomic.move(self.path / name, self.path / to)
        atomic.sync_path((self.path / to).parent)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; absent ones are no failure."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Hold off other runs while the body looks at what is published, or changes it."""
        return locked_directory(self.path)


@dataclass(frozen=True)
class ObjectStore:
    """A URL without a slash at its end; a name is what follows it.

    Objects appear whole. Nothing is locked, and several are never replaced at once. Every verb
    raises OSError where the file system refuses.
    """

    #: The URL.
    url: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.url

    @property
    def scratch(self) -> Path:
        """Where a file can grow that `take` puts here."""
        return Path(tempfile.gettempdir())

    def check(self, option: str) -> None:
        """Check that a file system knows the URL.

        Raises:
          UsageError: none does.
        """
        objects.check_scheme(option, self.url)

    def make(self) -> None:
        """Nothing: there are no directories."""

    def place(self, name: str) -> str:
        """Return the URL of a name."""
        return f"{self.url}/{name}"

    def list(self, pattern: str) -> list[str]:
        """Names of the objects that a pattern leads to, sorted: `**` in the end for all below."""
        found = objects.objects(self.place(pattern))
        return sorted(path.removeprefix(f"{self.url}/") for path in found)

    def exists(self, name: str) -> bool:
        """Return whether there is such an object."""
        return objects.exists(self.place(name))

    def holds(self, name: str) -> bool:
        """Return whether there is anything below a name."""
        return bool(self.list(f"{name}/**"))

    def read(self, name: str) -> bytes:
        """Return the bytes of an object; FileNotFoundError if there is none."""
        if not self.exists(name):
            raise FileNotFoundError(self.place(name))
        return objects.read(self.place(name))

    def write(self, name: str, data: bytes) -> None:
        """Write an object of these bytes."""
        objects.write(self.place(name), data)

    def write_all(self, files: Mapping[str, bytes], last: str) -> None:
        """Write these objects, `last` after all others: it makes them valid."""
        for name in (*(name for name in files if name != last), last):
            self.write(name, files[name])

    def take(self, file: Path) -> None:
        """Upload a finished file of `scratch` under its own name, and remove it there."""
        self.write(file.name, file.read_bytes())
        file.unlink()

    def move(self, name: str, to: str) -> None:
        """Give an object another name; nothing happens if that was done before."""
        objects.move(self.place(name), self.place(to))

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; absent ones are no failure."""
        objects.remove([self.place(name) for name in names])

    def locked(self) -> AbstractContextManager[None]:
        """Nothing: no lock keeps two runs apart."""
        return nullcontext()


Store = Directory | ObjectStore


def store_at(place: Path | str) -> Store:
    """Return the store at a path, or at a URL."""
    return Directory(place) if isinstance(place, Path) else ObjectStore(place.rstrip("/"))
