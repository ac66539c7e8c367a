"""Programs that some tests need and Python can't install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def need(program: str) -> Path:
    """Where a program is; without it the test is skipped, in CI (`CI=true`) it fails."""
    found = shutil.which(program)
    if found is None:
        says = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        says(f"{program} is not on PATH")
    return Path(found)
