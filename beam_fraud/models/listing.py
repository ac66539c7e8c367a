"""Find bundles in directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import DIGESTED_FILES, MANIFEST_FILE
from beam_fraud.storage.urls import Place

#: Maximum depth of the search: enough for a folder of experiments.
DEEPEST = 4


def find_bundles(directory: str) -> list[str]:
    """Return the sorted paths of bundles, valid or not, in a directory.

    A bundle has a manifest and at least one other of its files, because many other things have a
    `manifest.json`. The search skips the inside of bundles, hidden directories and links.

    Args:
      directory: a bundle, or a local directory with bundles up to `DEEPEST` levels down. A URL must
        be a bundle's: remote file systems are not searched.

    Raises:
      FraudError: the directory does not exist.
    """
    if Place.parse(directory).local is None:
        return [directory]
    if not Path(directory).is_dir():
        raise FraudError(f"{directory}: is no directory", Code.BUNDLE_MISSING)
    return sorted(_below(directory))


def _below(directory: str) -> Iterator[str]:
    depth = len(Path(directory).parts)
    for place, inner, files in os.walk(directory):
        if MANIFEST_FILE in files and not set(files).isdisjoint(DIGESTED_FILES):
            inner.clear()
            yield place
        elif len(Path(place).parts) - depth >= DEEPEST:
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]


def bundle_bytes(path: str) -> int | None:
    """Return the size of a bundle's files in bytes; None at a URL."""
    local = Place.parse(path).local
    if local is None:
        return None
    return sum(
        file.stat().st_size
        for name in (MANIFEST_FILE, *DIGESTED_FILES)
        if (file := local / name).is_file()
    )
