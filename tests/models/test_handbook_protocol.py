"""The protocol's rows and its figure, on days that a reader can count."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from beam_fraud.cli.commands import evaluate, train
from beam_fraud.cli.options import EvaluateOptions, TrainOptions
from beam_fraud.models.handbook import Period, card_precision, period_after, rows_to_test
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.presets import HANDBOOK as HANDBOOK_SCHEMA
from benchmarks.results.handbook import bundle_figures, load_week
from benchmarks.results.recipe import BundleRecipe

HANDBOOK = Path(__file__).parents[3] / "shared" / "data" / "handbook_transactions.parquet"
needs_handbook = pytest.mark.skipif(not HANDBOOK.exists(), reason="the handbook's data is not here")


def test_the_week_starts_a_week_after_the_last_day_of_training() -> None:
    assert period_after(3 * DAY, 9 * DAY + 5) == Period(3 * DAY, 17 * DAY, 24 * DAY)


def test_cards_are_known_seven_whole_days_after_a_fraud() -> None:
    period = Period(trained_from=10 * DAY, start=20 * DAY, stop=27 * DAY)
    frauds = {0: 9 * DAY, 1: 10 * DAY, 2: 14 * DAY + DAY // 2, 3: 21 * DAY}
    times = [*frauds.values()] + [day * DAY + 1 for day in range(19, 28) for _ in range(5)]
    cards = [*frauds] + [card for _ in range(19, 28) for card in range(5)]
    labels = [1] * len(frauds) + [0] * 45
    tested = rows_to_test(np.array(times), np.array(cards), np.array(labels, dtype=np.int8), period)
    days: dict[int, list[int]] = {}
    for time, card in zip(np.array(times)[tested], np.array(cards)[tested], strict=True):
        days.setdefault(int(card), []).append(int(time // DAY))
    week = list(range(20, 27))
    assert {card: sorted(result) for card, result in days.items()} == {
        0: week,  # before training: not known
        2: [20, 21],  # known on day 22, eight days later by number
        3: sorted([21, *week]),
        4: week,
    }


def test_a_detected_card_is_not_checked_again() -> None:
    # Two cards a day are looked at. Day 0: cards 0 (fraud) and 1. Day 1: card 0 is gone.
    times = np.array([0, 1, 2, 3, DAY, DAY + 1, DAY + 2])
    cards = np.array([0, 1, 2, 0, 0, 2, 1])
    scores = np.array([0.2, 0.8, 0.1, 0.9, 1.0, 0.7, 0.6])
    labels = np.array([1, 0, 1, 0, 1, 1, 0], dtype=np.int8)
    assert card_precision(times, cards, labels, scores, most=2) == (1 / 2 + 1 / 2) / 2


def test_no_transactions_have_no_precision() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert card_precision(none, none, none.astype(np.int8), none.astype(float)) is None


@needs_handbook
@pytest.mark.soak
def test_a_forest_reaches_the_handbooks_figures(tmp_path: Path) -> None:
    options = TrainOptions(
        files=(str(HANDBOOK),),
        schema="handbook",
        model="forest",
        out=str(tmp_path / "forest"),
        since="2018-07-25",
        until="2018-08-01",
    )
    train.run(options)
    result: dict[str, Any] = evaluate.run(
        EvaluateOptions(files=options.files, models=(options.out,), protocol="handbook")
    )
    assert (result["rows"], result["frauds"]) == (58_264, 385)
    assert result["roc_auc"] > 0.85
    assert result["average_precision"] > 0.64
    assert result["card_precision_at_100"] > 0.275


@needs_handbook
@pytest.mark.soak
def test_five_forests_reach_the_handbooks_figures() -> None:
    week = load_week(str(HANDBOOK), HANDBOOK_SCHEMA)
    assert (len(week.training), len(week.tested)) == (67_240, 58_264)
    recipe = BundleRecipe("forest", "forest", schema="handbook")
    results = [bundle_figures(week, recipe, seed) for seed in range(5)]
    assert fmean(result["roc_auc"] for result in results) >= 0.860
    assert fmean(result["average_precision"] for result in results) >= 0.65
    assert fmean(result["card_precision"] for result in results) >= 0.28
