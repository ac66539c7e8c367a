"""Java programs whose jars Maven downloads."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import write_file
from beam_fraud.wording import reason_of


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
      FraudError: It is not on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise FraudError(
            f"{name} is not on PATH: install Java 17 or newer, and Maven", Code.PROGRAM_MISSING
        )
    return path


def cache_directory() -> Path:
    """Return the user's directory for what takes long to find out."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(caches) / "beam-fraud"


@cache
def class_path(pom: Path) -> str:
    """Return the jars of a Maven project; download missing ones.

    The user's cache keeps the answer as long as the jars are there: Maven takes seconds for it.

    Raises:
      FraudError: Maven is missing or can't fetch them.
    """
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    kept = cache_directory() / f"class-path-{digest}"
    with suppress(OSError):
        jars = kept.read_text("utf-8")
        if all(Path(jar).exists() for jar in jars.split(os.pathsep)):
            return jars
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "jars"
        maven(pom, "dependency:build-classpath", f"-Dmdep.outputFile={file}")
        jars = file.read_text("utf-8").strip()
    # Without a cache that can be written, Maven is asked again.
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_file(kept, jars.encode(), durable=False)
    return jars


def compiled(sources: Sequence[Path], into: Path, class_path: str) -> Path:
    """Compile source files into a jar, unless the jar exists.

    A jar and not a directory: it is there whole or not at all, and a Java program that has it open
    keeps it when `target` is removed. Java passes over a directory that is gone without a word.

    Args:
      sources: the files; another content has another jar.
      into: the directory of the jars.
      class_path: what the files refer to.

    Raises:
      FraudError: there is no compiler, it refuses a file, or the jar cannot be written.
    """
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    jar = into / f"classes-{digest}.jar"
    try:
        if not jar.exists():
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into) as directory:
                classes = Path(directory) / "classes"
                _compile(sources, classes, class_path)
                packed = Path(directory) / jar.name
                with zipfile.ZipFile(packed, "w") as archive:
                    for file in sorted(classes.rglob("*.class")):
                        archive.write(file, file.relative_to(classes))
                # Another process may have been quicker; it has the same.
                packed.rename(jar)
    except OSError as error:
        raise FraudError(
            f"{jar}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    return jar


def _compile(sources: Sequence[Path], into: Path, class_path: str) -> None:
    command = [program("javac"), "--release=17", "-proc:none", "-nowarn", "-d", str(into)]
    done = subprocess.run(
        [*command, "-cp", class_path, *map(str, sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[0]
        raise FraudError(
            f"javac can't compile what stands before Beam's classes: {reason}", Code.PROGRAM_MISSING
        )


def maven(pom: Path, *goal: str) -> None:
    """Run Maven on a project.

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
    raise FraudError(
        f"{pom}: Maven can't fetch it: {' '.join(errors[:1]) or done.returncode}",
        Code.PROGRAM_MISSING,
    )
