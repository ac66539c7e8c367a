"""Tests without a program that they need, and its download."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.java import class_path
from tests import requirements
from tests.requirements import ENVIRONMENT, need, need_kafka, need_prism, started_environment


def test_a_program_is_found_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    assert need(python.name) == python


IN_CI = pytest.mark.parametrize(
    ("ci", "raised"), [(None, pytest.skip.Exception), ("true", pytest.fail.Exception)]
)


@IN_CI
def test_a_missing_program_skips_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, raised: type[BaseException]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(raised, match="no-such-program is not on PATH"):
        need("no-such-program")


def test_downloads_get_the_environment_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("HOME")
    with started_environment():
        started = dict(os.environ)
    assert {**started, "PYTEST_CURRENT_TEST": ""} == {**ENVIRONMENT, "PYTEST_CURRENT_TEST": ""}
    assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:1"
    assert "HOME" not in os.environ


@IN_CI
@pytest.mark.parametrize("needs", [need_kafka, need_prism])
def test_a_failed_download_skips_here_with_the_reason_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ci: str | None,
    raised: type[BaseException],
    needs: Callable[[], object],
) -> None:
    for name in ("go", "mvn", "java"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho '[ERROR] no network'\necho 'no network' >&2\nexit 1\n")
        program.chmod(0o755)
    changed = {"PATH": f"{tmp_path}:/bin:/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(requirements, "ENVIRONMENT", {**ENVIRONMENT, **changed})
    monkeypatch.setenv("PATH", changed["PATH"])
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    class_path.cache_clear()
    requirements._fetch_failure.cache_clear()
    try:
        with pytest.raises(raised, match="no network"):
            needs()
    finally:
        requirements._fetch_failure.cache_clear()


ROOT = Path(__file__).resolve().parent.parent


def pytest_on(directory: Path, code: str) -> str:
    """Run tests under this project's `conftest.py` in a process of their own; return the output."""
    (directory / "test_it.py").write_text(f"import os\nimport pytest\n{code}")
    (directory / "pytest.ini").write_text("[pytest]\n")
    call = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*call, "-c", "pytest.ini", "test_it.py"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_a_fixture_of_many_tests_gets_the_environment_of_the_start(tmp_path: Path) -> None:
    said = pytest_on(
        tmp_path,
        """
@pytest.fixture(scope="session")
def built():
    return os.environ.get("ONLY_HERE")

def test_first(monkeypatch, request):
    monkeypatch.setenv("ONLY_HERE", "1")
    assert request.getfixturevalue("built") is None
    assert os.environ["ONLY_HERE"] == "1"
""",
    )
    assert "1 passed" in said, said


@pytest.mark.parametrize("change", ["os.environ['LEFT'] = '1'", "del os.environ['LEFT']"])
def test_a_file_that_leaves_a_variable_changed_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("LEFT", "0")
    said = pytest_on(tmp_path, f"def test_first():\n    {change}\n")
    assert "test_it.py leaves variables changed: LEFT" in said, said
    assert "1 passed, 1 error" in said


#: What CI installs, builds meanwhile and checks, each in a process of its own.
INSTALLED, BUILT, CHECKED = {"installed"}, {"jars", "prism"}, {"test", "lint types"}


def ci_run(directory: Path, failing: str = "") -> tuple[int, list[list[str]]]:
    """Run CI with programs that do nothing; return its exit code and the calls of `make`."""
    programs = {
        ".ci/install": "",
        "bin/go": 'echo "$HOME/$2"',
        # Makes an environment whose Python does nothing.
        "bin/python3": '[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }',
        "bin/make": f"""echo "$*: $(ls -A "$HOME" | wc -l) $HOME $GOCACHE $CI" >>{directory}/calls
# Tests send Ctrl-C, which processes of a shell's background ignore.
if [ "$*" = test ] && [ -r /proc/self/status ]; then
  ignored=$(awk '/^SigIgn/ {{print $2}}' /proc/self/status)
  [ $((0x$ignored & 2)) -eq 0 ] || exit 1
fi
[ "$*" != "{failing}" ]""",
    }
    for name, body in programs.items():
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    shutil.copy(ROOT / ".ci/run", directory / ".ci/run")
    (directory / "home").mkdir()
    (directory / "home/of_luck").touch()
    changed = {"HOME": f"{directory}/home", "PATH": f"{directory}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        [directory / ".ci/run"],
        env={**os.environ, **changed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(failing) == ("failed: " in done.stderr)
    lines = (directory / "calls").read_text().splitlines()
    return done.returncode, [line.rsplit(maxsplit=4) for line in lines]


def test_ci_runs_in_an_empty_home_with_the_caches_of_downloads(tmp_path: Path) -> None:
    code, calls = ci_run(tmp_path)
    assert code == 0
    targets = [target.rstrip(":") for target, *_ in calls]
    assert set(targets) == INSTALLED | BUILT | CHECKED
    assert len(targets) == 5
    assert targets.index("installed") < min(map(targets.index, CHECKED))
    for _, entries, home, cache, ci in calls:
        assert (entries, cache, ci) == ("0", f"{tmp_path}/home/GOCACHE", "true")
        assert home != f"{tmp_path}/home"
        assert not Path(home).exists(), "it is left behind"


@pytest.mark.parametrize("failing", [*sorted(CHECKED), "jars", "prism", "installed"])
def test_ci_fails_if_one_of_its_parts_fails(tmp_path: Path, failing: str) -> None:
    code, calls = ci_run(tmp_path, failing)
    assert code != 0
    targets = {target.rstrip(":") for target, *_ in calls}
    # Nothing is checked without the package, and a failure beside the checks ends none of them.
    assert targets - BUILT == INSTALLED | (set() if failing in INSTALLED else CHECKED)
