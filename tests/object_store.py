"""A file system of Beam at `kept://` whose objects are files of a directory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote
from uuid import uuid4

from apache_beam.io.filesystem import FileMetadata, FileSystem


class KeptObjects(FileSystem):
    """Objects appear whole when they are closed; there are no directories and no renames."""

    #: Where the objects are: a file each, its name the quoted URL.
    root: ClassVar[Path]
    #: Called with what is about to change: `put`, `copy` or `delete`.
    before: ClassVar[Callable[[str], None]] = staticmethod(lambda change: None)

    @classmethod
    def scheme(cls) -> str:
        return "kept"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join((basepath, *paths))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise AssertionError("there are no directories")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for entry in os.scandir(self.root):
            if unquote(entry.name).startswith(dir_or_prefix):
                # One that is removed meanwhile is not there.
                with suppress(FileNotFoundError):
                    found = entry.stat()
                    yield FileMetadata(unquote(entry.name), found.st_size, found.st_mtime)

    def create(self, path: str, *options: Any, **named: Any) -> io.BytesIO:
        store = self

        class Growing(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    data = self.getvalue()
                    super().close()
                    store._put("put", path, data)

            def terminate(self) -> None:
                super().close()

        return Growing()

    def open(self, path: str, *options: Any, **named: Any) -> io.BytesIO:
        return io.BytesIO(self._file(path).read_bytes())

    def copy(self, sources: list[str], destinations: list[str]) -> None:
        for source, destination in zip(sources, destinations, strict=True):
            self._put("copy", destination, self._file(source).read_bytes())

    def rename(self, sources: list[str], destinations: list[str]) -> None:
        raise AssertionError("nothing can be renamed")

    def exists(self, path: str) -> bool:
        return self._file(path).exists()

    def size(self, path: str) -> int:
        return self._file(path).stat().st_size

    def last_updated(self, path: str) -> float:
        return self._file(path).stat().st_mtime

    def checksum(self, path: str) -> str:
        return hashlib.md5(self._file(path).read_bytes()).hexdigest()

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self.before("delete")
            self._file(path).unlink(missing_ok=True)

    def _put(self, change: str, path: str, data: bytes) -> None:
        self.before(change)
        # One call, as far as any other process can tell.
        hidden = self.root.parent / f"{uuid4().hex}.put"
        with open(hidden, "wb") as file:
            file.write(data)
        hidden.replace(self._file(path))

    def _file(self, path: str) -> Path:
        return self.root / quote(path, safe="")
