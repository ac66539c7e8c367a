"""The class path puts the replaced Java classes first, even if files change meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from deploy.java import class_path, compiled, program
from tests.requirements import need

#: A program that needs the class only when a line comes, as a cluster does with its first job.
PROGRAM = """
public class Program {
  public static void main(String[] arguments) throws Exception {
    System.out.println("started");
    System.in.read();
    System.out.println(Whose.NAME.toString());
  }
}
"""
WHOSE = 'public class Whose {{ static final Object NAME = "{name}"; }}\n'


@pytest.fixture
def beams(tmp_path: Path) -> Path:
    """A jar with the program and a class `Whose`."""
    need("java")
    need("javac")
    (tmp_path / "beam").mkdir()
    for name, text in (("Program", PROGRAM), ("Whose", WHOSE.format(name="Beam's"))):
        (tmp_path / "beam" / f"{name}.java").write_text(text)
    return compiled(sorted((tmp_path / "beam").glob("*.java")), tmp_path / "beam", "")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "Whose.java").write_text(WHOSE.format(name="ours"))
    return tmp_path / "Whose.java"


def test_a_program_that_runs_keeps_our_classes_when_target_is_removed(
    beams: Path, source: Path, tmp_path: Path
) -> None:
    ours = compiled([source], tmp_path / "target", str(beams))
    path = f"{ours}{os.pathsep}{beams}"
    with subprocess.Popen(
        [program("java"), "-cp", path, "Program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        subprocess.run(["rm", "-r", str(tmp_path / "target")], check=True)
        message, _ = running.communicate("\n", timeout=30)
    assert message == "ours\n"
    # The next program has them made again.
    assert compiled([source], tmp_path / "target", str(beams)) == ours
    assert ours.exists()


def test_classes_that_cannot_be_compiled_are_one_line(
    beams: Path, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FraudError, match=r"classes-\w+\.jar: cannot be written"):
        compiled([source], tmp_path / "file", str(beams))
    source.write_text("public class Whose {")
    with pytest.raises(FraudError, match=r"^javac can't compile .*Whose\.java:1"):
        compiled([source], tmp_path / "target", str(beams))


def test_maven_lists_the_jars_of_a_project_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvn, calls, pom = tmp_path / "mvn", tmp_path / "calls", tmp_path / "pom.xml"
    jars = [tmp_path / name for name in ("first.jar", "second.jar")]
    # It takes the place of a Maven that would download: the last argument names its output.
    mvn.write_text(
        f"""#!/bin/bash
echo call >> {calls}
touch {jars[0]} {jars[1]}
last="${{@: -1}}"
echo {jars[0]}:{jars[1]} > "${{last#*=}}"
"""
    )
    mvn.chmod(0o755)
    pom.write_text("<project/>")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def listed() -> int:
        """Return the number of Maven's runs, after a process like any other has asked."""
        class_path.cache_clear()
        assert class_path(pom) == f"{jars[0]}:{jars[1]}"
        return len(calls.read_text().splitlines())

    try:
        assert [listed(), listed()] == [1, 1]
        # Without a jar it is downloaded again, and a changed project is another one.
        jars[1].unlink()
        assert [listed(), listed()] == [2, 2]
        pom.write_text("<project></project>")
        assert listed() == 3
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").touch()
        assert [listed(), listed()] == [4, 5]
    finally:
        class_path.cache_clear()
