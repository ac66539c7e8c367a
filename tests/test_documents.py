"""The documents agree with each other and with the project: links, anchors, paths, commands."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "beam_fraud"

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
#: `room/file.py`, `room/` or `room/file.py: name`, as documents name parts of the project.
_PATH = re.compile(r"`([\w./-]+/[\w./-]*)(?:: (\w+))?`")


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*/*.md")])
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@cache
def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    return _FENCE.sub("", page.read_text("utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    result: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        repeats = sum(1 for known in result if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", known))
        result.add(f"{anchor}-{repeats}" if anchor in result else anchor)
    return frozenset(result)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_has_a_target(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_CODE.sub("", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_table_of_contents_lists_every_page() -> None:
    contents = ROOT / "docs" / "README.md"
    listed = {
        (contents.parent / link.partition("#")[0]).resolve()
        for link in _LINK.findall(prose(contents))
    }
    expected = {
        page
        for page in pages()
        if page.relative_to(ROOT).parts[0] not in {"tests", "beam_fraud"} and page != contents
    }
    assert {name_of(page) for page in expected - listed} == set()


def names_in(module: Path) -> set[str]:
    """Return the names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_and_name_exists(page: str) -> None:
    missing = []
    named = _PATH.findall((ROOT / page).read_text("utf-8"))
    assert named
    for path, name in named:
        if path.startswith(("OUT/", "DIR/", "/", "~")) or "<" in path:
            continue
        places = [room / file for room in (PACKAGE, ROOT) for file in (path, f"{path}.py")]
        result = next((place for place in places if place.exists()), None)
        if result is None or (name and name not in names_in(result)):
            missing.append(f"{path}: {name}" if name else path)
    assert missing == []


def test_the_table_of_rooms_is_the_contract_of_imports() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = [set(re.split(r" [|:] ", layer)) for layer in layers]
    rows = re.findall(r"^\| (\d+) \| `(\w+)(?:/|\.py)` \|", prose(ROOT / "ARCHITECTURE.md"), re.M)
    shown: dict[int, set[str]] = {}
    for layer, room in rows:
        shown.setdefault(int(layer), set()).add(room)
    assert [shown[layer] for layer in sorted(shown, reverse=True)] == expected


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_exists(page: Path) -> None:
    import beam_fraud.cli  # noqa: F401  adds the commands to the app
    from beam_fraud.cli.app import app

    command = get_command(app)
    words = re.findall(r"(?:^|[`$(])\s*beam-fraud ([a-z][a-z-]*)", page.read_text("utf-8"), re.M)
    assert set(words) - set(command.commands) == set()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_calls_whose_windows_need_earlier_rows_give_them(page: Path) -> None:
    blocks = "\n".join(_FENCE.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    command = r"^\s*beam-fraud (?:score|evaluate|stream|features|rules check)\b .*$"
    # A stream that goes on has them in its state, and rows before --from fill windows alone.
    given = ("--history", "--savepoint_path", "--update", "--from", " ... ")
    calls = re.findall(command, blocks, re.M)
    assert [call for call in calls if not any(option in call for option in given)] == []
