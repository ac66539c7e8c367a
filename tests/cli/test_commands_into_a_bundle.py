"""The directory of a model bundle is refused as the output of anything else, and is unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_fraud.cli.commands import (
    demo,
    evaluate,
    explore,
    features,
    lists,
    registry,
    replay,
    retrain,
    score,
    serve,
    simulate,
)
from beam_fraud.cli.options import (
    DemoOptions,
    EvaluateOptions,
    ExploreOptions,
    FeaturesOptions,
    ListAddOptions,
    RegistryAddOptions,
    ReplayOptions,
    RetrainOptions,
    ScoreOptions,
    ServeOptions,
    SimulateOptions,
)
from beam_fraud.errors import Code
from beam_fraud.storage.rescore_outputs import RescoreDirectory
from beam_fraud.storage.store import ObjectStore, check_output
from beam_fraud.storage.stream_outputs import ServerOutputs, StreamOutputs
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.object_store import KeptObjects


@pytest.fixture
def day(tmp_path: Path) -> str:
    file = tmp_path / "day.csv"
    file.write_text("id,t,a\nx1,2024-01-01T00:00:00Z,1\n")
    return str(file)


Call = Callable[[str, str], object]
CALLS: dict[str, tuple[str, Call]] = {
    "demo": ("--out", lambda day, out: demo.run(DemoOptions(out=out))),
    "simulate": (
        "--out",
        lambda day, out: simulate.run(SimulateOptions(out=out, partition="day", days=2)),
    ),
    "features": (
        "--out",
        lambda day, out: features.run(
            FeaturesOptions(files=(_simulated(day),), schema="handbook", out=out)
        ),
    ),
    "score": (
        "--out",
        lambda day, out: score.run(
            ScoreOptions(files=(day,), model=bundle(Path(day).parent / "scorer"), out=out)
        ),
    ),
    "stream": ("--out", lambda day, out: StreamOutputs(Path(out)).check(here=True)),
    "rescore": ("--out", lambda day, out: RescoreDirectory(Path(out), "r1").check()),
    "serve": (
        "--state",
        lambda day, out: ServerOutputs(Path(out), option="--state").check(here=True),
    ),
    "serve --workers": (
        "--state",
        lambda day, out: serve.run(
            ServeOptions(
                model=bundle(Path(day).parent / "scorer"),
                state=out,
                sink=f"sqlite:///{day}.db",
                workers=2,
            )
        ),
    ),
    "retrain": (
        "--out",
        lambda day, out: retrain.run(
            RetrainOptions(files=(day,), registry=f"{out}/none", labels=day, out=out)
        ),
    ),
    "dead-letters replay": (
        "--out",
        lambda day, out: replay.run(
            ReplayOptions(out=_of_run(day), model=bundle(Path(day).parent / "scorer"), results=out)
        ),
    ),
    "evaluate": (
        "--png",
        lambda day, out: evaluate.run(EvaluateOptions(files=(day,), models=(out,), png=out)),
    ),
    "explore": (
        "--png",
        lambda day, out: explore.run(
            ExploreOptions(files=(day,), schema="handbook", out=f"{day}.html", png=out)
        ),
    ),
    "registry add": (
        "--registry",
        lambda day, out: registry.run_add(
            RegistryAddOptions(what=bundle(Path(day).parent / "scorer"), registry=out)
        ),
    ),
    "lists add": (
        "--lists",
        lambda day, out: lists.run_add(ListAddOptions(lists=out, name="bad", values=("x",))),
    ),
}


def _simulated(day: str) -> str:
    out = f"{day}.parquet"
    simulate.run(SimulateOptions(out=out, days=2, accounts=5, merchants=5))
    return out


def _of_run(day: str) -> str:
    """Make the outputs of a run, with no dead letters; return their directory."""
    out = str(Path(day).parent / "scored")
    score.run(ScoreOptions(files=(day,), model=bundle(Path(day).parent / "scorer"), out=out))
    return out


@pytest.mark.parametrize("command", CALLS)
def test_a_bundle_takes_no_other_outputs(command: str, day: str, tmp_path: Path) -> None:
    option, call = CALLS[command]
    model = Path(bundle(tmp_path / "model"))
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with fails(Code.OUTPUT_OCCUPIED, f"^{option} .*model: is a model bundle .*give another"):
        call(day, str(model))
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_bundle_at_a_url_takes_no_other_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeptObjects, "root", tmp_path, raising=False)
    store = ObjectStore("kept://bucket/model")
    check_output(store, "--out kept://bucket/model")
    for name in ("model.joblib", "manifest.json"):
        store.write(name, b"")
    with fails(Code.OUTPUT_OCCUPIED, "--out kept://bucket/model: is a model bundle"):
        check_output(store, "--out kept://bucket/model")


def test_a_manifest_of_another_program_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    StreamOutputs(tmp_path).check(here=True)
