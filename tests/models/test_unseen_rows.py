"""Training never sees the rows of its figures, nor labels before they are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.models import kinds
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.threshold import MostF1, operating_points
from tests.hourly import TOML, hourly
from tests.spying import Given, Spy, seen

ROWS, TRAINED = 600, 480
FOLDS = {"folds": 3}
PRACTICE = {"folds": 3, "label_delay": "36h", "drop_known_cards": True}
TUNED = {"tune": 4}
RANDOM = {"split": "stratified"}
WAYS = [
    {},
    {"label_delay": "36h", "drop_known_cards": True},
    FOLDS,
    PRACTICE,
    TUNED,
    {**PRACTICE, **TUNED},
]
RANDOM_WAYS = [RANDOM, {**RANDOM, **FOLDS}, {**RANDOM, **TUNED}, {**RANDOM, **FOLDS, **TUNED}]


@pytest.fixture(autouse=True)
def _spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(kinds.KINDS, "spy", Spy())
    seen.clear()
    yield
    seen.clear()


@pytest.fixture
def options(tmp_path: Path) -> TrainOptions:
    pq.write_table(hourly(ROWS), tmp_path / "data.parquet")
    (tmp_path / "hourly.toml").write_text(TOML)
    return TrainOptions(
        files=(str(tmp_path / "data.parquet"),),
        schema=str(tmp_path / "hourly.toml"),
        model="spy",
        out=str(tmp_path / "bundle"),
        # Row 480: the last fifth is for tests.
        until="2024-01-21T00:00:00",
    )


def named(way: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in way.items()) or "plain"


def candidates() -> list[tuple[Given, Given]]:
    """Return the training and validation rows of each candidate; the last fit is the model's."""
    last = max(at for at, value in enumerate(seen) if value.doing == "fit")
    steps = seen[:last]
    assert [value.doing for value in steps] == ["fit", "predict"] * (len(steps) // 2)
    return list(zip(steps[::2], steps[1::2], strict=True))


@pytest.mark.parametrize("way", WAYS, ids=named)
def test_rows_after_until_are_never_used(options: TrainOptions, way: dict[str, object]) -> None:
    train.run(replace(options, **way))  # type: ignore[arg-type]
    value = {row for value in seen for row in value.rows}
    assert value == set(range(TRAINED))


@pytest.mark.parametrize("way", RANDOM_WAYS, ids=named)
def test_only_the_final_model_sees_held_out_rows(
    options: TrainOptions, way: dict[str, object]
) -> None:
    result = train.run(replace(options, until=None, **way))  # type: ignore[arg-type]
    *_, model = (value for value in seen if value.doing == "fit")
    held_out = set(range(ROWS)) - set(model.rows)
    assert len(held_out) == result["rows_held_out"] == 0.3 * ROWS
    chosen_by = {row for pair in candidates() for value in pair for row in value.rows}
    assert chosen_by == set(model.rows)
    assert set(seen[seen.index(model) + 1].rows) == held_out


@pytest.mark.parametrize("way", WAYS, ids=named)
def test_candidates_are_validated_on_other_rows(
    options: TrainOptions, way: dict[str, object]
) -> None:
    train.run(replace(options, **way))  # type: ignore[arg-type]
    delay = 36 if "label_delay" in way else 0
    known = known_cards() if "drop_known_cards" in way else set()
    for fitted, judged in candidates():
        # Rows are an hour apart: the label of an older one than the delay is known.
        assert max(fitted.rows) < min(judged.rows) - delay
        assert known.isdisjoint(judged.rows)
    if known:
        every = {row for _, judged in candidates() for row in judged.rows}
        assert every == set(range(min(every), TRAINED)) - known


def known_cards() -> set[int]:
    """Return rows of cards with a fraud whose day ended 36 hours before, one by one."""
    rows = hourly(ROWS).to_pylist()
    return {
        row
        for row, transaction in enumerate(rows)
        if any(
            earlier["fraud"]
            and earlier["card"] == transaction["card"]
            and (before // 24 + 1) * 24 + 36 <= row
            for before, earlier in enumerate(rows[:row])
        )
    }


@pytest.mark.parametrize("way", [*WAYS, *RANDOM_WAYS], ids=named)
def test_the_threshold_is_for_the_scores_of_validation_rows(
    options: TrainOptions, way: dict[str, object]
) -> None:
    result = train.run(replace(options, **way))  # type: ignore[arg-type]
    last_choice = candidates()[-int(str(way.get("folds", 1))) :]
    rows = np.array([row for _, judged in last_choice for row in judged.rows])
    scores = np.array([score for _, judged in last_choice for score in judged.scores])
    labels = hourly(ROWS).column("fraud").to_numpy()[rows]
    assert result["threshold"] == MostF1().choose(operating_points(labels, scores, 1.0))
    assert result["rows_valid"] == len(rows)


def test_held_out_rows_change_only_their_figures(options: TrainOptions) -> None:
    way = replace(options, until=None, split="stratified", folds=3, tune=4)
    train.run(way)
    before = open_bundle(way.out).manifest
    *_, model = (given for given in seen if given.doing == "fit")
    held_out = np.setdiff1d(np.arange(ROWS), model.rows)

    table = hourly(ROWS)
    other = pa.array(np.isin(np.arange(ROWS), held_out))
    for column, value in (("telling", -5.0), ("shop", "elsewhere")):
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, pc.if_else(other, value, table.column(column)))
    pq.write_table(table, options.files[0])
    train.run(way)
    after = open_bundle(way.out).manifest
    assert after.metrics != before.metrics
    for name in ("thresholds", "categories"):
        assert getattr(after, name) == getattr(before, name)
    assert after.files["model.joblib"] == before.files["model.joblib"]


def test_rows_after_until_change_nothing(options: TrainOptions) -> None:
    way = replace(options, folds=3, label_delay="36h", drop_known_cards=True, tune=4)
    train.run(way)
    before = open_bundle(way.out).manifest
    later = hourly(ROWS, seed=1).slice(TRAINED)
    pq.write_table(pa.concat_tables([hourly(ROWS).slice(0, TRAINED), later]), options.files[0])
    train.run(way)
    after = open_bundle(way.out).manifest
    for name in ("thresholds", "categories", "metrics"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("model.joblib", "reference.parquet"):
        assert after.files[name] == before.files[name]
