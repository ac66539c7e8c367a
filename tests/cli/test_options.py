"""An option is one field, from which parameter, help and default are derived."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.main import get_command

from beam_fraud.cli.app import COMMANDS
from beam_fraud.cli.options import LoggingOptions, ResendAlertsOptions, StreamOptions
from beam_fraud.cli.options.declaration import Option, declared
from beam_fraud.cli.terminal.command import command
from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import microseconds
from deploy import options as made
from tests.failing import fails


@dataclass(frozen=True, kw_only=True)
class Group:
    """Options that commands share."""

    places: Annotated[tuple[str, ...], Option("--at", metavar="P", help="Places; repeatable.")] = (
        "here",
    )
    level: Annotated[Literal["low", "high"], Option("--level", help="How much.")] = "low"


@dataclass(frozen=True, kw_only=True)
class Options(Group):
    """Do it."""

    names: Annotated[tuple[str, ...], Option("NAME", help="Names.")]
    rows: Annotated[int, Option("--rows", metavar="N", min=1, max=9, help="Rows.")]
    share: Annotated[float | None, Option("--share", metavar="X", help="A share.")] = None
    dry: Annotated[bool, Option("--dry", help="Change nothing.")] = False
    #: For callers from Python alone.
    patience: float = 10.0


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that calls a command and returns its options."""
    module = ModuleType("tests.a_command")
    module.run = lambda options: {"options": options}  # type: ignore[attr-defined]
    module.render = lambda result: result["options"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    app = typer.Typer(rich_markup_mode=None)
    command(app, "do", Options, module.__name__)
    app.callback()(lambda: None)

    def made_of(*args: str) -> Any:
        run = get_command(app)(["do", *args], standalone_mode=False)
        return run()[0] if callable(run) else run

    return made_of


def test_a_field_is_parsed_to_its_type_and_absent_has_its_default(
    call: Callable[..., Any],
) -> None:
    assert call("a", "--rows", "3") == Options(names=("a",), rows=3)
    args = ["a", "b", "--rows=3", "--at", "x", "--at", "y", "--level", "high", "--share", "0.5"]
    assert call(*args, "--dry") == Options(
        names=("a", "b"), rows=3, places=("x", "y"), level="high", share=0.5, dry=True
    )


def test_a_command_is_imported_without_collections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import gc\ncollects = gc.isenabled()\ndef call(options, *, as_json):\n    raise options"
    (tmp_path / "a_late_command.py").write_text(f"{text}\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    app = typer.Typer(rich_markup_mode=None)
    command(app, "do", Options, "a_late_command")
    run = get_command(app)(["a", "--rows", "3"], standalone_mode=False)
    before = gc.get_freeze_count()
    try:
        with pytest.raises(TypeError):
            run()
        assert not sys.modules["a_late_command"].collects  # type: ignore[attr-defined]
        # They are collected again from here on, without what was there before.
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
        sys.modules.pop("a_late_command", None)


def test_help_is_the_docstring_and_the_help_of_fields(
    call: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    call("--help")
    message = " ".join(capsys.readouterr().out.split())
    assert "Do it." in message
    for words in ("NAME <list[str]> Names. [required]", "--rows N Rows. [1<=x<=9; required]"):
        assert words in message
    assert "--at P Places; repeatable. --level <low|high> How much. [default: low]" in message
    assert "patience" not in message


@pytest.mark.parametrize("args", [["", "--rows=1"], ["a", "--rows=1", "--at", ""]])
def test_an_empty_value_is_refused(call: Callable[..., Any], args: list[str]) -> None:
    with fails(Code.OPTION_VALUE, r"^(NAME|--at): ", kind=UsageError):
        call(*args)


def test_a_call_from_python_may_set_fields_without_an_option() -> None:
    names = {one.field for one in declared(ResendAlertsOptions)}
    assert "patience" not in names
    assert ResendAlertsOptions(alerts=("console:",), patience=0.0).patience == 0.0


@pytest.mark.parametrize("words", COMMANDS)
def test_no_option_is_declared_twice(words: str) -> None:
    names = [one.option.name for one in declared(COMMANDS[words][0])]
    names += [one.option.name for one in declared(LoggingOptions)]
    assert len(names) == len(set(names))


def test_generated_files_agree_with_the_options() -> None:
    assert made.METADATA.read_text("utf-8") == made.metadata(), "run `make options`"
    assert made.PAGE.read_text("utf-8") == made.page(), "run `make options`"


def test_a_new_option_reaches_the_page_and_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Longer(COMMANDS["stream"][0]):  # type: ignore[misc]
        """Stream."""

        pace: Annotated[int | None, Option("--pace", metavar="N", min=1, help="The pace.")] = None

    monkeypatch.setitem(COMMANDS, "stream", (Longer, "stream"))
    assert "| `--pace N` |  | The pace. |" in made.page()
    assert '"helpText": "Of stream: The pace."' in made.metadata()


def test_no_row_that_a_stream_accepts_by_default_makes_others_late_by_default() -> None:
    options = StreamOptions(model="m", out="o")
    assert 0 < microseconds(options.max_ahead) <= microseconds(options.lateness)
