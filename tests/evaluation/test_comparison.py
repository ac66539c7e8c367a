"""Figures of a comparison are those that pandas and scikit-learn compute from the scored rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from beam_fraud.decisions.rules.figure_condition import FigureCondition
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.comparison.comparison import ComparisonSettings, compare
from beam_fraud.evaluation.comparison.figures import Comparison, figure_names, parse_prices
from beam_fraud.evaluation.comparison.report import outputs_of
from beam_fraud.evaluation.comparison.scored_rows import Partition, Side
from beam_fraud.evaluation.comparison.swap import SwapCell
from beam_fraud.models.label_delay import estimate_delays
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.stages import REASON
from beam_fraud.storage.urls import Place
from tests.earlier import earlier
from tests.failing import fails
from tests.pages import too_wide
from tests.requirements import need

NEW = Side("new", "forest@111111111111", "forest@111111111111", "", 0.6)
OLD = Side("old", "logistic@222222222222", "logistic@222222222222", "abc123abc123", 0.5)
THIRD = Side("old2", "forest@111111111111 with rules.toml", NEW.model_id, "abc123abc123", 0.6)
PRICES = parse_prices("60%:5")
SETTINGS = ComparisonSettings(PRICES, segments=("channel",), resamples=60)


@dataclass(frozen=True)
class Scored:
    """A small archive, as files and as one frame."""

    partitions: tuple[Partition, ...]
    frame: pd.DataFrame


def answers(frame: pd.DataFrame, side: Side, random: np.random.Generator) -> pa.Table:
    """Scores, decisions and rules of a side."""
    n = len(frame)
    strength = 1.4 if side.model_id == NEW.model_id else 1.0
    raw = random.normal(-1.5 + strength * frame["fraud"].to_numpy(), 0.8)
    # Coarse scores: ties between frauds and genuine rows.
    score = np.round(1 / (1 + np.exp(-raw)), 2)
    large = frame["amount"].to_numpy() > 150
    known = random.random(n) < 0.01
    rules = [
        ["large"] * bool(a and side.rule_set) + ["trusted"] * bool(b and side.rule_set)
        for a, b in zip(large, known, strict=True)
    ]
    tried = (frame["amount"].to_numpy() > 120) & (side.key == THIRD.key)
    flagged = score >= side.threshold
    if side.rule_set:
        flagged = (flagged | large) & ~known
    reason = {"feature": "amount", "value": 1.0, "contribution": 0.5, "text": "a <b>large</b> one"}
    reasons = [[{**reason, "approximate": False}] if f else None for f in flagged]
    return pa.table(
        {
            "transaction_id": pa.array(frame["transaction_id"].tolist(), pa.string()),
            "event_time": pa.array(frame["event_time"]).cast(pa.timestamp("us", "UTC")),
            "account_id": pa.array(frame["account_id"].tolist(), pa.string()),
            "merchant_id": pa.nulls(n, pa.string()),
            "amount": pa.array(frame["amount"]),
            "score": score,
            "flagged": flagged,
            "decision": np.where(flagged, np.where(score > 0.9, "decline", "review"), "approve"),
            "rules": pa.array(rules, pa.list_(pa.string())),
            "reasons": pa.array(reasons, pa.list_(REASON)),
            "shadow_rules": pa.array([["tried"] * bool(t) for t in tried], pa.list_(pa.string())),
            "model_id": [side.model_id] * n,
            "rule_set": [side.rule_set] * n,
            "shadow": [side.key != "new"] * n,
            "label": pa.array(frame["label"], pa.int8(), from_pandas=True),
            "labelled_at": pa.array(frame["labelled_at"]).cast(pa.timestamp("us", "UTC")),
            "channel": pa.array(frame["channel"].tolist(), pa.string(), from_pandas=True),
        }
    )


def archive(directory: Path, *, rows: int = 12_000, days: int = 50, seed: int = 5) -> Scored:
    """An archive of weeks: sides in the same order in some files, in another in others."""
    random = np.random.default_rng(seed)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    seconds = np.sort(random.integers(0, days * 86_400, rows))
    fraud = random.random(rows) < 0.03
    delay = pd.to_timedelta(np.exp(random.normal(np.log(6.0), 0.7, rows)), "D").floor("us")
    event_time = (start + pd.to_timedelta(seconds, "s")).as_unit("us")
    at = pd.Series(event_time + delay)
    seen = fraud & (at <= start + pd.Timedelta(days, "D"))
    frame = pd.DataFrame(
        {
            "transaction_id": [f"t{i:06}" for i in range(rows)],
            "event_time": event_time,
            "account_id": [f"a{i}" for i in random.integers(0, 700, rows)],
            "amount": np.round(random.gamma(2, 30, rows) * np.where(fraud, 2, 1), 2),
            "fraud": fraud.astype(float),
            "label": np.where(random.random(rows) < 0.05, np.nan, seen.astype(float)),
            "labelled_at": at.where(seen).dt.as_unit("us"),
            "channel": random.choice(["web", "pos", None], rows, p=[0.5, 0.4, 0.1]),
        }
    )
    tables = [answers(frame, side, random) for side in (NEW, OLD, THIRD)]
    partitions = []
    week = (seconds // (7 * 86_400)).astype(int)
    for number in range(week.max() + 1):
        own = pa.array(np.flatnonzero(week == number))
        parts = [table.take(own) for table in tables]
        if number % 3 == 0:
            parts = [earlier(part) for part in parts]
        if number % 3 == 1:
            # Another order and other files, as partitions have that were scored at other times.
            parts[1] = parts[1].take(pa.array(random.permutation(len(own))))
        place = directory / f"week={number}"
        place.mkdir(parents=True)
        files = [place / f"{i}.parquet" for i, _ in enumerate(parts)]
        for file, part in zip(files, parts, strict=True):
            pq.write_table(part, file, row_group_size=700, coerce_timestamps="us")
        if number % 3 == 2:
            joined = pa.concat_tables(parts)
            pq.write_table(joined, files[0], row_group_size=500)
            files = files[:1]
        partitions.append(Partition(place.name, tuple(map(Place.at, files))))
    wide = frame.assign(tried=(frame["amount"] > 120) & (week % 3 != 0))
    for side, table in zip((NEW, OLD, THIRD), tables, strict=True):
        own = table.select(["score", "flagged", "decision", "rules"]).to_pandas()
        wide = wide.join(own.add_prefix(f"{side.key}_"))
    return Scored(tuple(partitions), wide)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module", params=[None, 14])
def measured(
    request: pytest.FixtureRequest, scored: Scored, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, pd.DataFrame, Path]:
    """A comparison, and the rows with the labels that count."""
    waited: int | None = request.param
    changed = tmp_path_factory.mktemp("changed") / "changed.parquet"
    settings = replace(SETTINGS, maturity=None if waited is None else waited * DAY)
    found = compare(scored.partitions, NEW, [OLD, THIRD], settings, changed)
    frame = scored.frame.copy()
    as_of = max(frame["event_time"].max(), frame["labelled_at"].max())
    frame["mature"] = frame["event_time"] <= as_of - pd.Timedelta(waited or 0, "D")
    frame["counted"] = frame["label"].where(frame["mature"])
    return found, frame, changed


def test_figures_of_each_side_equal_those_of_scikit_learn(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, _ = measured
    labelled = frame[frame["counted"].notna()]
    truth = labelled["counted"].astype(int)
    assert (found.rows, found.labelled, found.frauds) == (len(frame), len(truth), truth.sum())
    assert found.fraud_amount == pytest.approx(labelled["amount"][truth == 1].sum(), rel=1e-12)
    days = frame["event_time"].dt.date.nunique()
    for side in found.sides:
        flags = labelled[f"{side.key}_flagged"]
        outcome = side.outcome
        assert outcome.precision == precision_score(truth, flags)
        assert outcome.recall == recall_score(truth, flags)
        expected = average_precision_score(truth, labelled[f"{side.key}_score"])
        assert outcome.average_precision == pytest.approx(expected, rel=1e-12)
        caught, missed = (truth == 1) & flags, (truth == 1) & ~flags
        assert (outcome.caught, outcome.missed) == (caught.sum(), missed.sum())
        assert outcome.amount_saved == pytest.approx(labelled["amount"][caught].sum(), rel=1e-12)
        alarms = (flags & (truth == 0)).sum()
        cost = 0.6 * labelled["amount"][missed].sum() + 5 * alarms
        assert outcome.net_cost == pytest.approx(cost, rel=1e-12)
        assert outcome.unlabelled == (frame[f"{side.key}_flagged"] & frame["mature"]).sum() - (
            caught.sum() + alarms
        )
        assert side.flags_per_day == frame[f"{side.key}_flagged"].sum() / days
        counts = np.histogram(labelled[f"{side.key}_score"][truth == 1], np.linspace(0, 1, 51))[0]
        assert side.score_frauds.tolist() == counts.tolist()
        low, high = side.intervals["recall"].low, side.intervals["recall"].high  # type: ignore[union-attr]
        assert low < outcome.recall < high
        ranked = side.intervals["average_precision"]
        assert ranked is not None
        assert ranked.low < expected < ranked.high


def test_swap_set_and_days_equal_those_of_pandas(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, _ = measured

    def cell(rows: pd.Series[Any]) -> SwapCell:
        own = frame[rows]
        frauds = own[own["counted"] == 1]
        genuine = int((own["counted"] == 0).sum())
        amounts = own["amount"].sum(), frauds["amount"].sum()
        return SwapCell(
            len(own), pytest.approx(amounts[0]), len(frauds), pytest.approx(amounts[1]), genuine
        )

    for change in found.changes:
        new, old = frame["new_flagged"], frame[f"{change.against}_flagged"]
        assert change.swap.both == cell(new & old)
        assert change.swap.only_first == cell(new & ~old)
        assert change.swap.only_second == cell(old & ~new)
        assert change.swap_share == pytest.approx((new != old).sum() / (new | old).sum())
        recall = next(d for d in change.differences if d.figure == "recall")
        fraud = frame["counted"] == 1
        assert recall.value == pytest.approx((new[fraud].sum() - old[fraud].sum()) / fraud.sum())
        assert recall.interval.low <= recall.value <= recall.interval.high
    by_day = frame.groupby(frame["event_time"].dt.date.astype(str))
    assert [d.date for d in found.days] == list(by_day.groups)
    for place, side in enumerate(found.sides):
        flagged = by_day[f"{side.key}_flagged"].sum().tolist()
        assert [day.flagged[place] for day in found.days] == flagged
    assert [day.rows for day in found.days] == by_day.size().tolist()


def test_segments_add_up_and_equal_those_of_scikit_learn(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, _ = measured
    mature = frame[frame["mature"]]
    tables = {table.name: table.segments for table in found.segments}
    for segments in tables.values():
        assert sum(segment.rows for segment in segments) == len(mature)
        assert sum(segment.frauds for segment in segments) == found.frauds
    groups = {
        "channel": mature["channel"].fillna("(none)"),
        "month": mature["event_time"].dt.strftime("%Y-%m"),
    }
    for name, values in groups.items():
        assert {segment.name for segment in tables[name]} == set(values)
        for segment in tables[name]:
            own = mature[values == segment.name]
            assert segment.rows == len(own)
            own = own[own["counted"].notna()]
            truth = own["counted"].astype(int)
            for side, outcome in zip(found.sides, segment.sides, strict=True):
                assert outcome.recall == recall_score(truth, own[f"{side.key}_flagged"])
                ap = average_precision_score(truth, own[f"{side.key}_score"])
                assert outcome.average_precision == pytest.approx(ap, rel=1e-12)


def test_a_rule_in_shadow_shows_what_it_would_flag(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, _ = measured
    (tried,) = [rule for side in found.sides for rule in side.rules if rule.shadow]
    assert tried.name == "tried"
    assert tried.fired.rows == frame["tried"].sum() > 0
    unflagged = frame["tried"] & ~frame["old2_flagged"]
    assert tried.alone.rows == unflagged.sum() > 0
    assert tried.let_pass.rows == 0


def test_rules_and_what_each_alone_adds(measured: tuple[Comparison, pd.DataFrame, Path]) -> None:
    found, frame, _ = measured
    assert not found.new.rules
    for side, spec in zip(found.sides[1:], (OLD, THIRD), strict=True):
        rules = {rule.name: rule for rule in side.rules}
        tried = ["tried"] * (side.key == THIRD.key)
        assert list(rules) == ["large", *tried, "trusted"]
        names, score = frame[f"{side.key}_rules"].map(tuple), frame[f"{side.key}_score"]
        by_model, flagged = score >= spec.threshold, frame[f"{side.key}_flagged"]
        large = names.map(lambda fired: "large" in fired)
        assert rules["large"].fired.rows == large.sum()
        assert rules["large"].fired.frauds == (large & (frame["counted"] == 1)).sum()
        alone = (names == ("large",)) & ~by_model & flagged
        assert rules["large"].alone.rows == alone.sum() > 0
        saved = frame["amount"][alone & (frame["counted"] == 1)].sum()
        assert rules["large"].alone.fraud_amount == pytest.approx(saved)
        passed = (names == ("trusted",)) & by_model & ~flagged
        assert rules["trusted"].let_pass.rows == passed.sum() > 0
        genuine = (alone & (frame["counted"] == 0)).sum()
        assert rules["large"].net_gain == pytest.approx(0.6 * saved - 5 * genuine)
        lost = frame["amount"][passed & (frame["counted"] == 1)].sum()
        spared = (passed & (frame["counted"] == 0)).sum()
        assert rules["trusted"].net_gain == pytest.approx(5 * spared - 0.6 * lost)


def test_accounts_and_capacity_equal_a_walk_through_the_rows(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, _ = measured
    mature = frame[frame["mature"]]
    days = mature["event_time"].dt.date.nunique()
    for side in found.sides:
        first_is_fraud = stopped = at_first = 0
        amount = 0.0
        for _, own in mature.groupby("account_id"):
            fraud = (own["counted"] == 1).to_numpy()
            flags = own[f"{side.key}_flagged"].to_numpy()
            if flags.any():
                first = int(np.argmax(flags))
                first_is_fraud += bool(fraud[first])
                stopped += int(fraud[first:].sum())
                amount += own["amount"].to_numpy()[first:][fraud[first:]].sum()
            at_first += bool(fraud.any() and flags[np.argmax(fraud)])
        accounts = side.accounts
        assert accounts is not None
        assert accounts.first_alert_is_fraud == first_is_fraud
        assert accounts.caught_at_first_fraud == at_first
        assert accounts.frauds_stopped == stopped
        assert accounts.amount_stopped == pytest.approx(amount)
        flagged = mature[mature[f"{side.key}_flagged"]]
        alerts = flagged.groupby(["account_id", flagged["event_time"].dt.date]).ngroups
        assert accounts.alerts_per_day == pytest.approx(alerts / days)
        scores = mature[f"{side.key}_score"]
        for alerts_per_day, caught in zip(
            side.capacity.alerts_per_day, side.capacity.caught, strict=True
        ):
            least = np.sort(scores)[::-1][round(alerts_per_day * days) - 1]
            assert (scores >= least).sum() == round(alerts_per_day * days)
            assert caught == ((scores >= least) & (mature["counted"] == 1)).sum()


def test_changed_rows_are_all_in_the_file(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, frame, path = measured
    rows = pq.read_table(path).to_pandas()
    differ = (frame["new_decision"] != frame["old_decision"]) | (
        frame["new_decision"] != frame["old2_decision"]
    )
    expected = frame[differ]
    assert found.changed_rows == len(rows) == len(expected)
    rows = rows.set_index("transaction_id").loc[expected["transaction_id"]]
    for column in ("new_score", "old_score", "old2_decision", "amount", "channel"):
        assert rows[column].fillna("").tolist() == expected[column].fillna("").tolist()
    assert rows["label"].isna().tolist() == expected["label"].isna().tolist()
    sampled = {row.transaction_id for row in found.sample}
    flags = frame.set_index("transaction_id").loc[list(sampled)]
    assert len(sampled) == 24
    assert (flags["new_flagged"] != flags["old_flagged"]).all()
    assert any(row.reasons[0] for row in found.sample)


def test_tables_of_three_sides_fit_a_page(scored: Scored, tmp_path: Path) -> None:
    chromium = need("chromium")
    found = compare(scored.partitions, NEW, [OLD, THIRD], replace(SETTINGS, resamples=20))
    page = tmp_path / "comparison.html"
    page.write_bytes(outputs_of(found)["comparison.html"])
    assert too_wide(page, chromium, tmp_path) == []


def test_sentence_counts_flags_frauds_and_money(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found, _frame, _ = measured
    new, old = found.sides[:2]
    fewer = abs(new.flagged - old.flagged) / found.days_count * 365.25 / 12
    assert f"{round(fewer):,} {'more' if new.flagged > old.flagged else 'fewer'}" in found.sentence
    assert f"{abs(new.outcome.caught - old.outcome.caught):,}" in found.sentence
    waited = found.maturity.waited_days
    assert ("14 days old" in found.sentence) is (waited is not None)
    first, _, rest = outputs_of(found)["comparison.md"].decode().partition("\n")
    assert first.startswith("# ")
    assert rest


def test_conditions_name_figures_of_all_sides(
    measured: tuple[Comparison, pd.DataFrame, Path],
) -> None:
    found = measured[0]
    figures = found.figures()
    assert set(figures) == set(figure_names((NEW, OLD, THIRD)))
    assert figures["recall"] == figures["new.recall"] == found.new.outcome.recall
    assert figures["old2.ap"] == found.sides[2].outcome.average_precision
    assert figures["swap_share"] == figures["old.swap_share"] == found.changes[0].swap_share

    def holds(text: str) -> bool:
        return FigureCondition.read("--fail-if", text, figures).holds(figures)

    assert holds("recall < old.recall and flags_per_day < 0.5 * old.flags_per_day")
    assert not holds("precision < 0.9 * old.precision or ap < old2.ap - 0.2")
    assert holds("swap_share > 0.5")
    # The names of models are names of sides, where they mean one.
    assert figures["logistic.ap"] == figures["old.ap"]
    assert "forest.ap" not in figures
    assert not holds("unknown_share is None")


def test_a_condition_is_refused_before_it_passes_what_nobody_measured() -> None:
    names = figure_names((NEW, OLD))
    with fails(Code.RULE_CONDITION, "recal", UsageError):
        FigureCondition.read("--fail-if", "recal < 0.9", names)
    for text in ("recall", "recall < old", "open('x')", "recall.__class__ == 1", "recall < 'x'"):
        with fails(Code.RULE_CONDITION, "--fail-if", UsageError):
            FigureCondition.read("--fail-if", text, names)
    unknown = dict.fromkeys(names)
    with fails(Code.FIGURE_UNDEFINED, "old.recall"):
        FigureCondition.read("--fail-if", "1 > 0.9 * old.recall", names).holds(unknown)
    assert FigureCondition.read("--fail-if", "ap is None", names).holds(unknown)


def test_prices_are_a_number_an_amount_or_a_share() -> None:
    assert parse_prices("100:1").cost(2.0, 50.0, 7.0) == 207
    assert parse_prices("amount:2").cost(2.0, 50.0, 7.0) == 64
    assert parse_prices("60%:5").cost(2.0, 50.0, 7.0) == 65
    for text in ("100", "0:1", "x%:1", "1:nan", "-5%:1", "1:1:1"):
        with fails(Code.OPTION_VALUE, text, UsageError):
            parse_prices(text)


def test_a_file_of_labels_replaces_those_of_the_archive(scored: Scored, tmp_path: Path) -> None:
    frame = scored.frame
    flips = frame["transaction_id"].iloc[::7]
    # The later of two labels counts, wherever it stands.
    lines = [f"{one},1,2026-03-01T00:00:00Z" for one in flips]
    lines += [f"{one},0,2026-02-25T00:00:00Z" for one in flips]
    path = tmp_path / "labels.csv"
    path.write_text("transaction_id,label,labelled_at\n" + "\n".join(lines) + "\nother,0,\n")
    settings = replace(SETTINGS, labels=path, maturity=9 * DAY)
    found = compare(scored.partitions, NEW, [], settings)
    labels = frame["label"].where(~frame["transaction_id"].isin(flips), 1.0)
    # The newest label moves the moment up to which labels are known.
    counted = labels.where(frame["event_time"] <= pd.Timestamp("2026-02-20", tz="UTC"))
    assert found.frauds == (counted == 1).sum() > flips.count() - 10
    own = counted.notna()
    assert found.new.outcome.recall == recall_score(counted[own], frame["new_flagged"][own])
    path.write_text("transaction_id,label\nt1,0\nt2,2\n")
    with fails(Code.ROWS_INVALID, "row 1: label '2'"):
        compare(scored.partitions, NEW, [], settings)
    path.write_text("id,label\nt1,0\n")
    with fails(Code.COLUMN_MISSING, "transaction_id"):
        compare(scored.partitions, NEW, [], settings)


def test_a_damaged_partition_is_named_and_the_earlier_file_of_changes_stays(
    scored: Scored, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(Path(scored.partitions[0].files[0].name).read_bytes()[:-2000])
    changed = tmp_path / "changed.parquet"
    compare(scored.partitions[:1], NEW, [OLD], SETTINGS, changed)
    before = changed.read_bytes()
    with fails(Code.INPUT_DAMAGED, "bad.parquet"):
        compare(
            [*scored.partitions, Partition("bad", (Place.at(bad),))], NEW, [OLD], SETTINGS, changed
        )
    assert changed.read_bytes() == before


def rewritten(scored: Scored, directory: Path, **columns: Any) -> tuple[Partition, ...]:
    """The first partition with other columns: a value, or None for nulls of its type."""
    files = []
    for number, file in enumerate(scored.partitions[0].files):
        table = pq.read_table(file.name)
        for name, value in columns.items():
            type = table.schema.field(name).type
            place = table.schema.get_field_index(name)
            values = pa.array([value] * table.num_rows, type)
            table = table.set_column(place, name, values)
        files.append(directory / f"{number}.parquet")
        pq.write_table(table, files[-1])
    return (Partition("one", tuple(map(Place.at, files))),)


@pytest.mark.parametrize(
    ("columns", "against", "undefined"),
    [
        ({"label": None, "labelled_at": None}, [OLD], {"recall", "precision", "ap", "net_cost"}),
        ({"label": 0, "labelled_at": None}, [OLD], {"recall", "ap"}),
        ({"label": 1}, [OLD], {"ap"}),
        ({"flagged": False, "decision": "approve"}, [OLD, THIRD], {"precision", "swap_share"}),
        ({"account_id": None, "rules": None, "reasons": None}, [OLD], set()),
        ({}, [], {"swap_share"}),
    ],
)
def test_what_is_missing_is_undefined_and_the_page_is_there(
    scored: Scored,
    tmp_path: Path,
    columns: dict[str, Any],
    against: Sequence[Side],
    undefined: set[str],
) -> None:
    partitions = rewritten(scored, tmp_path, **columns)
    found = compare(partitions, NEW, against, SETTINGS, tmp_path / "changed.parquet")
    figures = found.figures()
    shown = ("recall", "precision", "ap", "net_cost", "swap_share")
    there = {name for name in shown if name in figures and figures[name] is None}
    assert there == undefined
    files = outputs_of(found)
    assert b"nan" not in files["comparison.html"].replace(b"nano", b"").lower()
    assert found.sentence
    if columns.get("label", 1) is None:
        assert any("No row has a label" in text for text in found.warnings)
    if "account_id" in columns:
        assert found.new.accounts is None


def test_no_rows_at_all(tmp_path: Path) -> None:
    for partitions in ((), (Partition("empty", ()),)):
        found = compare(partitions, NEW, [OLD], SETTINGS, tmp_path / "changed.parquet")
        assert found.rows == 0
        assert found.warnings
        assert outputs_of(found)["comparison.json"]
        assert pq.read_table(tmp_path / "changed.parquet").num_rows == 0


def test_rows_of_some_sides_only_are_left_out_and_counted(scored: Scored, tmp_path: Path) -> None:
    first, second, third = (Path(file.name) for file in scored.partitions[0].files)
    pq.write_table(pq.read_table(second).slice(100), tmp_path / "second.parquet")
    partition = Partition("one", tuple(map(Place.at, (first, tmp_path / "second.parquet", third))))
    found = compare([partition], NEW, [OLD], SETTINGS)
    assert (found.rows, found.left_out) == (pq.read_table(first).num_rows - 100, 100)
    assert any("left out" in text for text in found.warnings)


def test_hostile_names_are_text_in_every_file(scored: Scored, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|`x`$y$\u202e[a](b)"
    partitions = rewritten(scored, tmp_path, account_id=evil, channel=evil, transaction_id=evil)
    new, old = replace(NEW, name=evil), replace(OLD, name=f"old {evil}")
    found = compare(partitions, new, [old], replace(SETTINGS, resamples=20))
    assert found.sample
    files = {name: data.decode() for name, data in outputs_of(found).items()}
    assert "<script" not in files["comparison.html"]
    assert "<b>large" not in files["comparison.html"]
    for line in files["comparison.md"].splitlines():
        assert re.search(r"(?<!\\)(<script|\[a\])", line) is None


def test_the_delay_of_labels_is_estimated_without_the_bias_of_recent_frauds() -> None:
    random = np.random.default_rng(4)
    ages = random.integers(0, 40 * DAY, 20_000)
    delays = (np.exp(random.normal(np.log(7.0), 0.8, len(ages))) * DAY).astype(np.int64)
    seen = delays <= ages
    naive = np.median(delays[seen]) / DAY
    estimate = estimate_delays(delays[seen], ages[seen])
    assert estimate is not None
    assert naive < 6.3 < 6.6 < estimate.quantile(0.5) / DAY < 7.2
    # The share of frauds that are unknown yet, by the rows' ages alone.
    known = estimate.known(ages).mean()
    assert known == pytest.approx(seen.mean(), abs=0.02)
    assert estimate_delays(delays[:5], ages[:5]) is None
