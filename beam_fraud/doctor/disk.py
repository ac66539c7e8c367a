"""Whether `--out` can be written to, and how much."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from beam_fraud.doctor.check import Check, failed, ok, warning
from beam_fraud.urls import is_url

#: Less than this is told as too little: state and archive of a day take about as much.
_LITTLE = 2 << 30


def nearest_directory(out: str) -> Path:
    """The directory that is there already, of those on the way to `out`."""
    path = Path(out).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_disk(out: str) -> Check:
    """Whether there is room at a directory, which may have to be made yet."""
    if is_url(out):
        return ok("--out", f"{out}: no disk of this machine")
    there = nearest_directory(out)
    if not there.is_dir():
        return failed("--out", f"{there} is a file", "give a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        return failed("--out", f"{there} cannot be written to", "give another directory")
    free = shutil.disk_usage(there).free
    found = f"{free / (1 << 30):,.1f} GiB free at {there}"
    if free < _LITTLE:
        return warning("--out", found, "make room, or give another directory")
    return ok("--out", found)
