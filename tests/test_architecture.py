"""The rules of the cut: which way imports point, how long files are, what links lead to."""

import ast
import re
import subprocess
import sys
import tarfile
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "beam_fraud"

#: Parts of the package from the bottom up; a part imports from its own layer or from below.
LAYERS = (
    {"errors", "printable", "text_file", "old_paths"},
    {"duration", "velocity", "event_clock", "counter_names", "secret", "extras", "charts"}
    | {"waiting", "activity"},
    {"schema", "event_time", "presets", "schema_toml", "stages", "features", "alert"} | {"live"},
    {
        "urls",
        "own_call",
        "file_systems",
        "commandline",
        "run_progress",
        "kafka",
        "pseudonym",
        "runners",
    },
    {"records", "models", "rules", "sources", "sinks", "alerts", "outputs", "simulate", "shuffle"}
    | {"checkpoint"},
    {"stream_outputs", "object_outputs", "dead_letters"},
    {"object_stream_outputs"},
    {"erasure"},
    {"archive_places", "dataset", "decision", "places", "reasons", "shards"}
    | {"explore", "evaluation"},
    {"transforms"},
    {"pipeline", "stream_pipeline", "launch", "endless_runner", "doctor", "flink_job"},
    {"workers"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}

#: What takes long to import; `beam-fraud --help` waits for none of it.
HEAVY = {"apache_beam", "confluent_kafka", "joblib", "numpy", "pandas", "pyarrow", "rich"}
HEAVY |= {"sklearn", "sqlalchemy", "matplotlib"}

#: Parts that speak of transactions and models alone, and must work without Beam.
WITHOUT_BEAM = set().union(*LAYERS[:3], {"simulate"})

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


@cache
def imports(path: Path, *, at_start: bool) -> frozenset[str]:
    """Dotted names that a module imports; only what runs when it is imported if `at_start`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            children = [] if at_start else node.body + node.orelse
        else:
            children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            submodules = {f"{module}.{alias.name}" for alias in node.names} & NAMES
            found.update(submodules or {module})
        for child in children:
            visit(child)

    visit(ast.parse(path.read_text("utf-8")))
    return frozenset(found)


def part_of(module: str) -> str | None:
    """The part of the package that a module is in, None for the package itself and others."""
    names = module.split(".")
    return names[1] if names[0] == PACKAGE.name and len(names) > 1 else None


def edges() -> set[tuple[str, str, str]]:
    """Every import between two parts: importing module, its part, the part imported."""
    return {
        (name_of(path), part, target)
        for path in MODULES
        if (part := part_of(name_of(path))) in LAYER
        for imported in imports(path, at_start=False)
        if (target := part_of(imported)) in LAYER and target != part
    }


def test_every_part_has_a_layer() -> None:
    parts = {part for path in MODULES if (part := part_of(name_of(path)))}
    assert parts - LAYER.keys() == set(), "name them in LAYERS"


def test_imports_point_down() -> None:
    upward = [f"{name} imports {to}" for name, part, to in edges() if LAYER[part] < LAYER[to]]
    assert sorted(upward) == []


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for _, part, to in edges():
        graph.setdefault(part, set()).add(to)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        around = error.args[1]
        by = [f"{name} imports {to}" for name, part, to in edges() if {part, to} <= set(around)]
        pytest.fail("\n".join([" <- ".join(around), *sorted(by)]), pytrace=False)


def test_the_command_line_imports_nothing_heavy_at_start() -> None:
    paths = {name_of(path): path for path in MODULES}
    reached, left = set[str](), ["beam_fraud.__main__", "beam_fraud.cli"]
    while left:
        module = left.pop()
        if module in reached:
            continue
        reached.add(module)
        imported = imports(paths[module], at_start=True)
        heavy = {name for name in imported if name.split(".")[0] in HEAVY}
        assert heavy == set(), f"{module} imports {heavy} when it is imported"
        left += [name for name in imported if name in paths]


def test_the_parts_below_the_graph_do_without_beam() -> None:
    wrong = [
        name_of(path)
        for path in MODULES
        if part_of(name_of(path)) in WITHOUT_BEAM
        and any(name.split(".")[0] == "apache_beam" for name in imports(path, at_start=False))
    ]
    assert wrong == []


def project_files() -> list[Path]:
    """The project's own text files: what git would keep, links not followed."""
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


def test_no_file_holds_more_than_400_lines() -> None:
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in project_files() if is_code(p)}
    assert {str(path): lines for path, lines in lengths.items() if lines > 400} == {}


def is_code(path: Path) -> bool:
    return path.suffix in {".py", ".toml", ".sh"} or path.name == "Makefile"


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
