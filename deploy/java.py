"""Java programs whose parts Maven fetches."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from beam_fraud.errors import FraudError


def program(name: str) -> str:
    """Where a program is.

    Raises:
      FraudError: It is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise FraudError(f"{name} is not on PATH: install Java 17 or newer, and Maven")
    return found


@cache
def class_path(pom: Path) -> str:
    """The jars that a Maven project names, fetched if this machine doesn't have them.

    Raises:
      FraudError: Maven is missing or can't fetch them.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        maven(pom, "dependency:build-classpath", f"-Dmdep.outputFile={file.name}")
        return Path(file.name).read_text("utf-8").strip()


def maven(pom: Path, *goal: str) -> None:
    """Let Maven do something with a project.

    Raises:
      FraudError: Maven is missing or fails.
    """
    command = [program("mvn"), "--quiet", "--batch-mode", "--file", str(pom)]
    # First without a look at any registry, which is quicker and works without a network.
    for offline in (["--offline"], []):
        if not offline:
            print(f"Maven fetches what {pom} names, once", file=sys.stderr)
        done = subprocess.run(
            [*command, *offline, *goal], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
    errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
    raise FraudError(f"{pom}: Maven can't fetch it: {' '.join(errors[:1]) or done.returncode}")
