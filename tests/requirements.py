"""Programs, parts of programs and extras that some tests need.

What is missing skips a test with the reason on a user's machine and fails it in CI (`CI=true`).
`python -m tests.requirements jars` and `... prism` fetch what tests would fetch themselves: CI does
so while it installs. It runs in a Python without any package.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType

from beam_fraud.errors import Code, FraudError
from deploy.flink.job_server_jar import job_server_jar, patched_class_path
from deploy.java import class_path

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
#: Beam's version that `make` installs.
_BEAM = re.findall("(?m)^apache-beam==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"))[0]
#: The environment that pytest was started in. Tests change theirs; downloads and the servers that
#: tests share get this one.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(dict(os.environ))


@contextmanager
def started_environment() -> Iterator[None]:
    """Restore the environment that pytest was started in, for a while."""
    changed = dict(os.environ)
    _set_environment(ENVIRONMENT)
    try:
        yield
    finally:
        _set_environment(changed)


def _set_environment(wanted: Mapping[str, str]) -> None:
    # Without a moment in which PATH or HOME is absent: other threads may look.
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def need(program: str) -> Path:
    """Return the path of a program."""
    result = shutil.which(program)
    if result is None:
        missing(f"{program} is not on PATH")
    return Path(str(result))


def need_kafka() -> None:
    """Download a Kafka broker's jars, once on a machine."""
    need("java")
    need("mvn")
    _need_fetched("mvn", class_path, DEPLOY / "kafka/pom.xml")


def need_flink() -> None:
    """Download the jars of a Flink cluster and its job server, once on a machine."""
    need("java")
    need("javac")
    need("mvn")
    _need_fetched("mvn", patched_class_path, DEPLOY / "flink/cluster.xml")


def need_job_server() -> None:
    """Download the jars of a job server with a Flink inside, once on a machine."""
    need("java")
    need("javac")
    need("mvn")
    _need_fetched("mvn", patched_class_path, DEPLOY / "flink/pom.xml")


def need_prism() -> Path:
    """Build Beam's Prism runner from its Go module in some minutes, once on a machine."""
    binary = _cache_directory() / f"prism-{_BEAM}" / "prism"
    if not binary.exists():
        _need_fetched("go", _build_prism, binary, need("go"))
    return binary


def need_openid_provider() -> Path:
    """Install a provider of OpenID Connect from npm, once on a machine; return its directory."""
    need("node")
    npm = need("npm")
    source = ROOT / "tests/review/openid"
    files = tuple(source / n for n in ("package.json", "package-lock.json", "provider.mjs"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    directory = _cache_directory() / f"openid-{digest}"
    if not directory.exists():
        _need_fetched("npm", _install_provider, directory, files, npm)
    return directory


def _install_provider(directory: Path, files: Sequence[Path], npm: Path) -> None:
    if directory.exists():
        return
    # Beside its place and moved there whole, as above.
    with tempfile.TemporaryDirectory(dir=directory.parent) as building:
        place = Path(building) / "provider"
        place.mkdir()
        for file in files:
            shutil.copy(file, place)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise FraudError(f"npm ci: {last}", Code.PROGRAM_MISSING)
        place.rename(directory)


def _need_fetched(by: str, fetch: Callable[..., object], *arguments: object) -> None:
    if (reason := _fetch_failure(by, fetch, *arguments)) is not None:
        missing(reason)


@cache
def _fetch_failure(by: str, fetch: Callable[..., object], *arguments: object) -> str | None:
    """Return why a download failed; try once, because each attempt may take minutes."""
    caches = _cache_directory()
    caches.mkdir(parents=True, exist_ok=True)
    # One process of a kind at a time: Maven's repository is not made for two that write.
    with started_environment(), (caches / f"{by}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fetch(*arguments)
        except FraudError as error:
            return str(error)
    return None


def _build_prism(binary: Path, go: Path) -> None:
    if binary.exists():
        return
    print(f"Go builds Beam's Prism {_BEAM}, once", file=sys.stderr)
    module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{_BEAM}"
    binary.parent.mkdir(exist_ok=True)
    # Beside its place and moved there whole: another run may look at the same time.
    with tempfile.TemporaryDirectory(dir=binary.parent) as building:
        done = subprocess.run(
            [go, "install", module],
            env={**os.environ, "GOBIN": building},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise FraudError(f"go install {module}: {last}", Code.PROGRAM_MISSING)
        (Path(building) / "prism").rename(binary)


def _cache_directory() -> Path:
    """Return the directory for built programs: outside the clone, so that new clones share it."""
    caches = ENVIRONMENT.get("XDG_CACHE_HOME") or Path(ENVIRONMENT["HOME"]) / ".cache"
    return Path(caches) / "beam-fraud"


def missing(what: str) -> None:
    """Skip the test, or fail it in CI; end a process that is no test."""
    if "pytest" not in sys.modules:
        sys.exit(what)
    import pytest

    says = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    says(what)


@contextmanager
def postgres_home() -> Iterator[Path]:
    """A directory for a PostgreSQL server, which may run as another user than pytest."""
    from deploy.postgres.server import program

    try:
        program("initdb")
    except FraudError as error:
        missing(str(error))
    with tempfile.TemporaryDirectory(prefix="beam-fraud-postgres-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "server"


def need_module(module: str, extra: str) -> None:
    """Require an extra: skip the test without it, or fail it in CI."""
    try:
        result = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        result = None
    if result is None:
        missing(f"pip install 'beam-fraud[{extra}]'")


def main(kind: str) -> None:
    """Fetch the "jars" of Kafka and Flink, or Beam's "prism"."""
    if kind == "prism":
        need_prism()
    else:
        need_kafka()
        need_flink()
        need_job_server()
        _need_fetched("mvn", job_server_jar)


if __name__ == "__main__":
    main(*sys.argv[1:])
