"""The sets of persisted data, unpacked for a test."""

from __future__ import annotations

import tarfile
from pathlib import Path

HERE = Path(__file__).parent
#: Directories of all sets, one for each version that something has been kept of.
SETS = sorted(path.parent for path in HERE.glob("*/commands.txt"))
#: Every name of this package that a pickle of any version holds, as `module.Class`.
NAMES = frozenset((HERE / "names.txt").read_text().split())


def unpack(packed: Path, directory: Path) -> Path:
    """Put the files of a part of a set into a directory; the directory."""
    with tarfile.open(packed) as archive:
        archive.extractall(directory, filter="data")
    return directory
