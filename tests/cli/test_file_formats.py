"""Every command reads every format of files to the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import evaluate, explore, features, replay, score, train
from beam_fraud.cli.commands.dead_letters import run_export
from beam_fraud.cli.options import (
    EvaluateOptions,
    ExploreOptions,
    ExportDeadLettersOptions,
    FeaturesOptions,
    ReplayOptions,
    ScoreOptions,
    TrainOptions,
)
from beam_fraud.sources.file_format import COLUMNAR
from tests.object_store import KeptObjects
from tests.reading import write_columns

SCHEMA = """
name = "shop"
[roles]
transaction_id = "id"
event_time = "at"
account_id = "card.number"
merchant_id = "shop"
amount = "amount"
label = "fraud"
[[feature]]
column = "risk"
missing = "allow"
[[velocity]]
key = "account_id"
windows = ["1d"]
aggregates = ["count", "mean"]
"""
COUNT = 400
OTHERS = [form for form in COLUMNAR if form != "parquet"]


def table(first: int, count: int = COUNT) -> pa.Table:
    """A transaction an hour; row 7 has no account, and row 9 repeats the id of row 8."""
    rows = [
        {
            "id": f"t{n if n != first + 9 else n - 1}",
            "at": 1_700_000_000_000 + n * 3_600_000,
            "card": None if n == first + 7 else {"number": f"a{n % 17}"},
            "shop": f"m{n % 5}",
            "amount": n % 13 * 2.5,
            "risk": None if n % 3 else n / 7,
            "fraud": int(n % 13 == 12),
        }
        for n in range(first, first + count)
    ]
    described = pa.schema(
        {
            "id": pa.string(),
            "at": pa.int64(),
            "card": pa.struct({"number": pa.string()}),
            "shop": pa.string(),
            "amount": pa.float64(),
            "risk": pa.float64(),
            "fraud": pa.int64(),
        }
    )
    return pa.Table.from_pylist(rows, described)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Earlier and later rows in every format, and a bundle trained on each."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "shop.toml").write_text(SCHEMA)
    for form in COLUMNAR:
        write_columns(folder / f"before.{form}", table(0), 90)
        write_columns(folder / f"day.{form}", table(COUNT), 90)
        train.run(
            TrainOptions(
                files=(str(folder / f"before.{form}"),),
                schema=str(folder / "shop.toml"),
                model="forest",
                settings=("trees=5",),
                out=str(folder / f"model-{form}"),
            )
        )
    return folder


def scored(folder: Path, form: str, *files: str, name: str = "out", **options: Any) -> Any:
    given = ScoreOptions(
        files=files or (str(folder / f"day.{form}"),),
        model=str(folder / f"model-{form}"),
        history=(str(folder / f"before.{form}"),),
        out=str(folder / f"{name}-{form}"),
        **options,
    )
    return score.run(given)


def rows(place: Path) -> list[dict[str, Any]]:
    """The scores; the name of a model tells on which file it was trained."""
    return pq.read_table(place).drop_columns(["model_id"]).sort_by("transaction_id").to_pylist()


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[dict[str, Any]]:
    """The scores of Parquet."""
    scored(folder, "parquet")
    return rows(folder / "out-parquet" / "scores")


@pytest.mark.parametrize("form", OTHERS)
def test_score_of_every_format(folder: Path, expected: list[dict[str, Any]], form: str) -> None:
    summary = scored(folder, form)
    assert rows(folder / f"out-{form}" / "scores") == expected
    counted = {name: summary[f"rows_{name}"] for name in ("in", "scored", "dead", "duplicate")}
    assert counted == {"in": COUNT, "scored": COUNT - 2, "dead": 1, "duplicate": 1}
    [letter] = pq.read_table(folder / f"out-{form}" / "dead_letters").to_pylist()
    assert (letter["source"], letter["position"]) == (f"day.{form}", 7)
    # Repaired and replayed, it keeps its place.
    repaired = folder / f"repaired-{form}.jsonl"
    run_export(ExportDeadLettersOptions(out=str(folder / f"out-{form}"), to=str(repaired)))
    missing, there = '\\"card.number\\":null', '\\"card.number\\":\\"a1\\"'
    assert missing in repaired.read_text()
    repaired.write_text(repaired.read_text().replace(missing, there))
    again = ReplayOptions(
        out=str(folder / f"out-{form}"),
        model=str(folder / f"model-{form}"),
        results=str(folder / f"again-{form}"),
        repaired=str(repaired),
        beam_args=(),
    )
    assert replay.run(again)["rows_scored"] == 1
    [row] = rows(folder / f"again-{form}" / "scores")
    assert (row["transaction_id"], row["account_id"]) == (f"t{COUNT + 7}", "a1")


# `test_every_runner.py` has workers in every run, the tests of sources the parts of each format.
@pytest.mark.soak
@pytest.mark.parametrize("form", OTHERS)
def test_workers_share_a_file_of_every_format(
    folder: Path, expected: list[dict[str, Any]], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.cli.commands.batch._MIN_SEGMENT_BYTES", 1)
    summary = scored(folder, form, name="shared", workers=2)
    assert rows(folder / f"shared-{form}" / "scores") == expected
    assert summary["rows_in"] == COUNT


@pytest.mark.parametrize("form", OTHERS)
def test_files_behind_a_url(
    folder: Path, expected: list[dict[str, Any]], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = folder / f"objects-{form}"
    objects.mkdir()
    monkeypatch.setattr(KeptObjects, "root", objects, raising=False)
    store = KeptObjects(None)
    data = (folder / f"day.{form}").read_bytes()
    with store.create(f"kept://bucket/days/day.{form}") as file:
        file.write(data)
    scored(folder, form, "kept://bucket/days", name="remote")
    assert rows(folder / f"remote-{form}" / "scores") == expected


@pytest.mark.parametrize("form", ["avro"])
def test_other_commands_read_every_format(folder: Path, form: str) -> None:
    schema = str(folder / "shop.toml")
    results = []
    for one in ("parquet", form):
        files = (str(folder / f"day.{one}"),)
        page = str(folder / f"{one}.html")
        explored = explore.run(ExploreOptions(files=files, schema=schema, out=page))
        out = str(folder / f"features-{one}")
        features.run(FeaturesOptions(files=files, schema=schema, out=out))
        figures = evaluate.run(
            EvaluateOptions(files=files, models=(str(folder / f"model-{one}"),), out=())
        )
        changing = ("out", "files", "seconds")
        results.append(
            (
                {name: explored[name] for name in explored if name not in changing},
                pq.read_table(Path(out) / "features").sort_by("transaction_id").to_pylist(),
                figures["rows_in"],
            )
        )
    assert repr(results[0]) == repr(results[1])
