"""A store of files, a directory or a URL, with one interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage import atomic, objects
from beam_fraud.storage.atomic import check_writable, make_directory
from beam_fraud.storage.lock import locked_directory
from beam_fraud.wording import reason_of

#: The files by which a model bundle is recognised.
BUNDLE_MARKS = ("manifest.json", "model.joblib")


@dataclass(frozen=True)
class Directory:
    """A directory; names are paths below it, and writes are durable.

    Every method raises OSError if the file system fails.
    """

    #: The directory.
    path: Path

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def scratch(self) -> Path:
        """Directory for growing files, which `take` stores here."""
        return self.path

    def check(self, option: str) -> None:
        """Check that files can be created here.

        Raises:
          FraudError: they cannot be created.
        """
        check_writable(self.path)

    def make(self) -> None:
        """Create the directory if it is missing."""
        make_directory(self.path)

    def place(self, name: str) -> str:
        """Return the path of a name."""
        return str(self.path / name)

    def list(self, pattern: str) -> list[str]:
        """Return the sorted names of a pattern's files; `**` at the end means all below."""
        paths = self.path.glob(f"{pattern}/*" if pattern.endswith("**") else pattern)
        return sorted(path.relative_to(self.path).as_posix() for path in paths)

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""
        return (self.path / name).exists()

    def holds(self, name: str) -> bool:
        """Return whether the directory exists."""
        return (self.path / name).is_dir()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError without one."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, in an existing directory."""
        atomic.write_file(self.path / name, data)

    def write_all(self, files: Mapping[str, bytes], last: str) -> None:
        """Replace all contents by these files atomically."""
        atomic.write_directory(self.path, files)

    def take(self, file: Path) -> None:
        """Store a finished file of `scratch` under its own name."""

    def move(self, name: str, to: str) -> None:
        """Rename a file; idempotent."""
        with suppress(FileNotFoundError):
            atomic.move(self.path / name, self.path / to)
        atomic.sync_path((self.path / to).parent)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; missing ones are no error."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other runs while the body reads or changes the published files."""
        return locked_directory(self.path)


@dataclass(frozen=True)
class ObjectStore:
    """A URL without a trailing slash; names follow it.

    Objects appear atomically. There are no locks, and no atomic replacement of several objects.
    Every method raises OSError if the file system fails.
    """

    #: The URL.
    url: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.url

    @property
    def scratch(self) -> Path:
        """Directory for growing files, which `take` stores here."""
        return Path(tempfile.gettempdir())

    def check(self, option: str) -> None:
        """Check that a file system supports the URL.

        Raises:
          UsageError: no file system supports it.
        """
        objects.check_scheme(option, self.url)

    def make(self) -> None:
        """Do nothing: there are no directories."""

    def place(self, name: str) -> str:
        """Return the URL of a name."""
        return f"{self.url}/{name}"

    def list(self, pattern: str) -> list[str]:
        """Return the sorted names of a pattern's objects; `**` at the end means all below."""
        paths = objects.objects(self.place(pattern))
        return sorted(path.removeprefix(f"{self.url}/") for path in paths)

    def exists(self, name: str) -> bool:
        """Return whether the object exists."""
        return objects.exists(self.place(name))

    def holds(self, name: str) -> bool:
        """Return whether any object is below a name."""
        return bool(self.list(f"{name}/**"))

    def read(self, name: str) -> bytes:
        """Return the bytes of an object; FileNotFoundError without one."""
        try:
            return objects.read(self.place(name))
        except OSError:
            if self.exists(name):
                raise
            # Also one that another process has removed meanwhile.
            raise FileNotFoundError(self.place(name)) from None

    def write(self, name: str, data: bytes) -> None:
        """Write an object of these bytes."""
        objects.write(self.place(name), data)

    def write_all(self, files: Mapping[str, bytes], last: str) -> None:
        """Write these objects, `last` after all others, which makes them valid."""
        for name in (*(name for name in files if name != last), last):
            self.write(name, files[name])

    def take(self, file: Path) -> None:
        """Upload a finished file of `scratch` under its own name, and remove it there."""
        self.write(file.name, file.read_bytes())
        file.unlink()

    def move(self, name: str, to: str) -> None:
        """Rename an object; idempotent."""
        objects.move(self.place(name), self.place(to))

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are no error."""
        objects.remove([self.place(name) for name in names])

    def locked(self) -> AbstractContextManager[None]:
        """Do nothing: a URL has no locks."""
        return nullcontext()


Store = Directory | ObjectStore


def store_at(place: Path | str) -> Store:
    """Return the store at a path, or at a URL."""
    return Directory(place) if isinstance(place, Path) else ObjectStore(place.rstrip("/"))


def is_bundle(store: Store) -> bool:
    """Return whether a place is a model bundle.

    Raises:
      OSError: the file system reports an error.
    """
    return all(store.exists(name) for name in BUNDLE_MARKS)


def check_output(store: Store, named: str) -> None:
    """Check that a command can write its outputs to a place, which is no model bundle.

    Args:
      store: the place.
      named: the option and its value, for messages.

    Raises:
      UsageError: no file system supports the URL.
      FraudError: it is a model bundle, a file, or not writable.
    """
    store.check(named)
    try:
        bundle = is_bundle(store)
    except OSError as error:
        raise FraudError(
            f"{named}: cannot be read ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    if bundle:
        raise FraudError(
            f"{named}: is a model bundle (it has {' and '.join(BUNDLE_MARKS)}); "
            "give another directory",
            Code.OUTPUT_OCCUPIED,
        )
