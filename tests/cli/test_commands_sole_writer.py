"""Of two commands with one output, the second is refused before it reads anything."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli.commands import evaluate, explore, export_model, import_model, simulate, train
from beam_fraud.cli.options import (
    EvaluateOptions,
    ExploreOptions,
    ExportModelOptions,
    ImportModelOptions,
    SimulateOptions,
    TrainOptions,
)
from beam_fraud.errors import Code
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place
from tests.failing import fails


@dataclass(frozen=True)
class Options:
    """Options of a command that a test defines."""

    out: str | tuple[str, ...] | None
    do: Any = dict


def command(options: Options) -> dict[str, object]:
    places = (options.out,) if isinstance(options.out, str) else options.out or ()
    with sole_writer("--out", *Place.parse_all(places)):
        return dict(options.do())


def test_a_second_command_at_the_same_place_is_refused(tmp_path: Path) -> None:
    place = str(tmp_path / "deeper" / "model")
    with fails(Code.OUTPUT_IN_USE, r"--out .*/model: "):
        command(Options(place, lambda: command(Options(place))))
    # Neither its failure nor its success leaves anything.
    assert command(Options(place)) == {}
    assert list(tmp_path.iterdir()) == []


def test_other_places_and_urls_are_not_locked(tmp_path: Path) -> None:
    inner = Options((str(tmp_path / "b"), f"{tmp_path}/./b"))
    assert command(Options(str(tmp_path / "a"), lambda: command(inner))) == {}
    url = Options("gs://bucket/a", lambda: command(Options("gs://bucket/a")))
    assert command(url) == {}
    assert command(Options(None)) == {}


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (
            train.run,
            lambda out: TrainOptions(files=("no",), schema="ulb", model="forest", out=out),
        ),
        (evaluate.run, lambda out: EvaluateOptions(files=("no",), models=("no",), out=(out,))),
        (explore.run, lambda out: ExploreOptions(files=("no",), schema="ulb", out=out)),
        (simulate.run, lambda out: SimulateOptions(out=out)),
        (export_model.run, lambda out: ExportModelOptions(model="no", onnx=out)),
        (
            import_model.run,
            lambda out: ImportModelOptions(
                file="no", schema="ulb", trust=True, out=out, name=None, threshold=0.5, decline=None
            ),
        ),
    ],
)
def test_commands_that_write_one_result_lock_it(tmp_path: Path, run: Any, options: Any) -> None:
    out = str(tmp_path / "result.html")
    with fails(Code.OUTPUT_IN_USE):
        command(Options(out, lambda: run(options(out))))


def test_a_killed_command_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    code = (
        "from tests.cli.test_commands_sole_writer import *\n"
        f"import os; command(Options({str(out)!r}, lambda: os.kill(os.getpid(), signal.SIGKILL)))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".t.csv.lock"]
    assert command(Options(str(out))) == {}
    assert list(tmp_path.iterdir()) == []
