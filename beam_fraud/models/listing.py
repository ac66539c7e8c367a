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


def find_bundles(directory: Place) -> list[Place]:
    """Return the sorted places of bundles, valid or not, in a directory.

    A bundle has a manifest and at least one other of its files, because many other things have a
    `manifest.json`. The search skips the inside of bundles, hidden directories and links.

    Args:
      directory: a bundle, or a local directory with bundles up to `DEEPEST` levels down. A URL must
        be a bundle's: remote file systems are not searched.

    Raises:
      FraudError: the directory does not exist.
    """
    if directory.local is None:
        return [directory]
    if not directory.local.is_dir():
        raise FraudError(f"{directory.shown}: is no directory", Code.BUNDLE_MISSING)
    shown = Path(directory.shown)
    return [
        Place(str(path), path, str(shown / path.relative_to(directory.local)))
        for path in sorted(_below(directory.local), key=str)
    ]


def _below(directory: Path) -> Iterator[Path]:
    depth = len(directory.parts)
    for place, inner, files in os.walk(directory):
        if MANIFEST_FILE in files and not set(files).isdisjoint(DIGESTED_FILES):
            inner.clear()
            yield Path(place)
        elif len(Path(place).parts) - depth >= DEEPEST:
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]


def bundle_bytes(place: Place) -> int | None:
    """Return the size of a bundle's files in bytes; None at a URL."""
    local = place.local
    if local is None:
        return None
    return sum(
        file.stat().st_size
        for name in (MANIFEST_FILE, *DIGESTED_FILES)
        if (file := local / name).is_file()
    )
