"""Rules of the architecture that import-linter does not check."""

import ast
import re
import subprocess
import sys
import tarfile
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "beam_fraud"

#: What takes long to import; `beam-fraud --help` waits for none of it.
HEAVY = {"apache_beam", "confluent_kafka", "joblib", "numpy", "pandas", "pyarrow", "rich"}
HEAVY |= {"sklearn", "sqlalchemy", "matplotlib", "socket", "tempfile", "importlib.resources"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports(path: Path) -> set[str]:
    """Return the package's modules that a module imports at any time."""
    result: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            result.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            submodules = {f"{module}.{alias.name}" for alias in node.names} & NAMES
            result.update(submodules or {module})
    return result & NAMES


def test_files_do_not_import_each_other_in_a_circle() -> None:
    graph = {name_of(path): imports(path) - {name_of(path)} for path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]), pytrace=False)


#: Modules of Beam that are no part of its API.
INTERNAL = (
    "apache_beam.internal",
    "apache_beam.io.gcp.internal",
    "apache_beam.runners.dataflow.internal",
    "apache_beam.runners.direct",
    "apache_beam.runners.portability",
    "apache_beam.runners.worker",
)


def beam_internals(path: Path) -> set[str]:
    """Return the internal modules and private names of Beam that a module uses."""
    tree = ast.parse(path.read_text("utf-8"))
    used, of_beam = set(), {"beam"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used.update(alias.name for alias in node.names if alias.name.startswith(INTERNAL))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("apache_beam"):
            names = {alias.name for alias in node.names}
            of_beam |= {alias.asname or alias.name for alias in node.names}
            dotted = {f"{node.module}.{name}" for name in names}
            used |= {name for name in dotted if name.startswith(INTERNAL)}
            used |= {name for name in names if name.startswith("_")}
    private = {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)
    }
    # These are what functions here call an object of Beam.
    of_beam |= {"options", "pipeline", "result"}
    roots = {ast.unparse(node): re.split(r"\W", ast.unparse(node))[0] for node in private}
    return used | {name for name, root in roots.items() if root in of_beam}


def test_a_newcomer_finds_at_most_twenty_rooms() -> None:
    rooms = {name_of(path).split(".")[1] for path in MODULES if path.parent != PACKAGE}
    assert len(rooms) <= 20


def test_one_module_uses_the_internals_of_beam() -> None:
    users = {name_of(path): beam_internals(path) for path in MODULES}
    assert beam_internals(PACKAGE / "beam_internals.py") > {"_PROVIDER", "result._runner"}
    del users["beam_fraud.beam_internals"]
    assert {name: used for name, used in users.items() if used} == {}


def test_the_internals_of_beam_were_read_in_the_installed_version() -> None:
    from beam_fraud.beam_internals import READ_AGAINST

    if (installed := version("apache-beam")) != READ_AGAINST:
        pytest.fail(
            f"apache-beam {installed} is installed, but beam_internals.py uses what was "
            f"read in {READ_AGAINST}: read in the source of {installed} what its docstring lists, "
            "then set READ_AGAINST",
            pytrace=False,
        )


def calls(path: Path) -> set[str]:
    """Return the storage primitives that a module calls, by name."""
    text = path.read_text("utf-8")
    used = {word for word in ("fsync", "flock", ".unfinished") if word in text}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
        # A path's takes one argument, a string's two.
        of_path = node.func.attr == "rename" or (len(node.args) == 1 and not node.keywords)
        if node.func.attr in ("rename", "renames", "replace") and (of_os or of_path):
            used.add("rename")
    return used


def test_renames_locks_and_hidden_files_are_each_made_by_one_module() -> None:
    users: dict[str, list[str]] = {}
    for path in MODULES:
        for word in calls(path):
            users.setdefault(word, []).append(name_of(path))
    assert users == {
        "rename": ["beam_fraud.storage.atomic"],
        "fsync": ["beam_fraud.storage.atomic"],
        ".unfinished": ["beam_fraud.storage.atomic"],
        "flock": ["beam_fraud.storage.lock"],
    }


def test_databases_are_opened_in_storage() -> None:
    opening = re.compile(r"\b(create_engine|sqlite3\.connect|psycopg\.connect)\(")
    users = [name_of(path) for path in MODULES if opening.search(path.read_text("utf-8"))]
    assert users == [
        "beam_fraud.storage.database.engines",
        "beam_fraud.storage.database.sqlite_file",
    ]


def test_no_code_checks_the_class_of_a_sink_a_channel_or_a_source() -> None:
    asking = re.compile(r"isinstance\([^)]*(Sink|Channel|Source|Writer|Runner)\b")
    users = [name_of(path) for path in MODULES if asking.search(path.read_text("utf-8"))]
    assert users == []


def test_a_text_is_parsed_as_a_path_or_a_url_by_one_class() -> None:
    # `Place.parse`: callers ask for `local`, and none looks for a scheme again.
    parsing = re.compile(r'is_url|"://" not in|_URL\.match')
    users = [name_of(path) for path in MODULES if parsing.search(path.read_text("utf-8"))]
    assert users == ["beam_fraud.storage.urls"]


#: Where a text becomes a place: commands, data frames, and what else the public API or Beam names.
DOORS = {
    "beam_fraud.models.bundle",
    "beam_fraud.runners.submission",
    "beam_fraud.storage.urls",
    "beam_fraud.transforms.features",
    "beam_fraud.transforms.score",
}


def test_a_text_becomes_a_place_at_a_door() -> None:
    # What follows takes the place: a text is parsed once.
    parsing = re.compile(r"\bPlace\.(parse|parse_all|of)\b")
    users = {name_of(path) for path in MODULES if parsing.search(path.read_text("utf-8"))}
    doors = ("beam_fraud.cli.", "beam_fraud.pipeline.frames.")
    assert all(name.startswith(doors) for name in users - DOORS)
    assert users >= DOORS


def test_help_imports_nothing_heavy() -> None:
    loaded = "import sys; from beam_fraud.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


@pytest.mark.parametrize("command", ["monitor", "rescore", "review"])
def test_a_command_that_runs_no_pipeline_starts_without_beam(command: str) -> None:
    """The import of Beam takes more than a second."""
    loaded = f"import sys, beam_fraud.cli.commands.{command}; print('apache_beam' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True)
    assert done.stdout.split() == [b"False"]


def project_files() -> list[Path]:
    """Return the project's text files: those that git would add, without links."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git repository")
    files = (ROOT / name for name in listed.stdout.splitlines())
    return [path for path in files if path.is_file() and not path.is_symlink()]


def test_only_tests_and_benchmarks_look_beside_the_project() -> None:
    beside = re.compile(r"\.\./shared|parents?\b.*\bshared\b")
    wrong = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if path.relative_to(ROOT).parts[0] not in {"tests", "benchmarks"}
        and beside.search(path.read_text("utf-8", errors="replace"))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["transforms", "models"])
def test_the_links_lead_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == PACKAGE / name


def test_the_packed_project_holds_the_package_once(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    pack = ["egg_info", "--egg-base", str(tmp_path), "sdist", "--dist-dir", str(tmp_path)]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *pack], cwd=ROOT, check=True, capture_output=True
    )
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {str(path.relative_to(ROOT)) for path in MODULES}
    assert modules <= names
    assert {"beam_fraud/py.typed", "LICENSE"} <= names
    templates = {str(path.relative_to(ROOT)) for path in (PACKAGE / "alerts/templates").iterdir()}
    assert templates
    assert templates <= names
    assert [name for name in names if name.startswith(("transforms", "models"))] == []


def test_names_are_compared_and_first_lines_taken_by_one_module() -> None:
    alone = re.compile(r"get_close_matches|splitlines\(\)(?: or \[.*?\])?\)?\[0\]")
    users = [name_of(path) for path in MODULES if alone.search(path.read_text("utf-8"))]
    assert users == ["beam_fraud.wording"]
