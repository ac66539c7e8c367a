"""Programs and extras that some tests need."""

from __future__ import annotations

import importlib.util
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


def need_module(module: str, extra: str) -> None:
    """See that an extra is installed; without it the test is skipped, in CI it fails."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        says = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        says(f"pip install 'beam-fraud[{extra}]'")
