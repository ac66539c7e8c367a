"""Beam's Prism runner, built from the Go module of the installed Beam's version."""

from __future__ import annotations

import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.requirements import need


def prism_binary() -> Path:
    """The program for `--runner=PrismRunner --prism_location=`; built once, in some minutes."""
    release = version("apache-beam")
    binary = cache_directory() / f"prism-{release}" / "prism"
    if not binary.exists():
        go = need("go")
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place and moved there whole: another run may build or look at the same time.
        with tempfile.TemporaryDirectory(dir=binary.parent) as building:
            module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{release}"
            done = subprocess.run(
                [go, "install", module],
                env={**os.environ, "GOBIN": building},
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"go install {module}:\n{done.stderr}"
            (Path(building) / "prism").rename(binary)
    return binary


def prism_options(binary: Path) -> tuple[str, ...]:
    """What a command is given to run on Prism."""
    return ("--runner=PrismRunner", f"--prism_location={binary}")


def cache_directory() -> Path:
    """Where what is built once is kept: outside the clone, so that a new clone finds it."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "beam-fraud"
