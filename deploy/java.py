"""Java programs whose parts Maven fetches."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
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


def compiled(sources: Sequence[Path], into: Path, class_path: str) -> Path:
    """The directory that holds the classes of some source files, for a class path.

    Args:
      sources: the files; they are compiled again only if they have changed.
      into: where such directories are.
      class_path: what the files refer to.

    Raises:
      FraudError: there is no compiler, or it refuses a file.
    """
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    classes = into / f"classes-{digest}"
    if not classes.exists():
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into) as directory:
            made = Path(directory) / "classes"
            command = [program("javac"), "--release=17", "-proc:none", "-nowarn", "-d", str(made)]
            done = subprocess.run(
                [*command, "-cp", class_path, *map(str, sources)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                said = (done.stderr.strip() or "it said nothing").splitlines()[0]
                raise FraudError(f"javac can't compile what stands before Beam's classes: {said}")
            # Another process may have been quicker; it has the same.
            with suppress(OSError):
                made.rename(classes)
    return classes


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
