"""The findings of `explore` agree with the transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from beam_fraud.evaluation.explore.counts import ABSENT, OTHERS
from beam_fraud.evaluation.explore.exploration import Exploration, explore
from beam_fraud.evaluation.explore.features import separation
from beam_fraud.evaluation.explore.rows import wilson
from beam_fraud.features.dataset import load_dataset
from beam_fraud.schema.notation import TimeNotation
from beam_fraud.schema.presets import ULB
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DAY = 86_400


def bank(*features: FeatureColumn, **more: Any) -> Schema:
    roles = {"event_time": "t", "amount": "a", "label": "y"} | more.pop("roles", {})
    more.setdefault("time", TimeNotation(unit="s"))
    return Schema("bank", roles, features, calendar=False, **more)


def found(tmp_path: Path, schema: Schema, **columns: Sequence[Any]) -> Exploration:
    rows = len(next(iter(columns.values())))
    value = {"t": [DAY * i // 10 for i in range(rows)], "a": [1.0 + i for i in range(rows)]}
    value["y"] = [i % 2 for i in range(rows)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(value | columns), path)
    return explore(load_dataset([Place.of(path)], schema, labels="known"), schema)


class TestSeparation:
    @given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
    @settings(max_examples=60, deadline=None)
    def test_figures_are_those_of_scikit_learn_and_scipy(
        self, rows: list[tuple[int, bool]]
    ) -> None:
        values = np.array([value for value, _ in rows], dtype=np.float64)
        fraud = np.array([fraud for _, fraud in rows])
        message = separation("x", np.sort(values), np.sort(values[fraud]))
        if fraud.all() or not fraud.any():
            assert message is None
            return
        assert message is not None
        sign = 1 if message.frauds_are == "high" else -1
        assert message.roc_auc >= 0.5
        assert message.roc_auc == pytest.approx(roc_auc_score(fraud, sign * values))
        assert message.average_precision == pytest.approx(
            average_precision_score(fraud, sign * values)
        )
        assert message.ks == pytest.approx(ks_2samp(values[fraud], values[~fraud]).statistic)

    def test_categories_of_one_row_each_predict_nothing(self, tmp_path: Path) -> None:
        schema = bank(FeatureColumn("c", "categorical"), FeatureColumn("d", "categorical"))
        labels = [int(i % 10 == 0) for i in range(400)]
        message = {
            s.feature: s
            for s in found(
                tmp_path,
                schema,
                y=labels,
                c=[f"own {i}" for i in range(400)],
                d=["bad" if y else "good" for y in labels],
            ).separations
        }
        assert message["c"].roc_auc == pytest.approx(0.5)
        assert message["d"].roc_auc == pytest.approx(1.0)
        assert message["d"].frauds_are == "categories"


class TestRates:
    def test_the_interval_is_that_of_a_textbook(self) -> None:
        low, high = wilson([1, 0, 10], [10, 20, 10])
        assert low == pytest.approx([0.01788, 0.0, 0.72246], abs=1e-4)
        assert high == pytest.approx([0.40415, 0.16113, 1.0], abs=1e-4)

    def test_days_are_those_of_the_time_zone(self, tmp_path: Path) -> None:
        # 22:30 on a Sunday in UTC is Monday in Brussels in summer.
        late = 1_722_810_600
        message = found(tmp_path, bank(timezone="Europe/Brussels"), t=[late, late], y=[1, 0])
        [day] = message.over_time.calendar
        assert (day.group, day.rows, day.frauds, day.rate) == ("2024-08-05", 2, 1, 0.5)
        assert message.over_time.hours[0].rows == message.over_time.weekdays[0].rows == 2

    def test_many_days_are_grouped_by_month(self, tmp_path: Path) -> None:
        message = found(tmp_path, bank(), t=[DAY * i for i in range(800)]).over_time
        assert message.period == "month"
        assert [rate.rows for rate in message.calendar][:2] == [31, 28]
        assert sum(rate.rows for rate in message.calendar) == 800

    @pytest.mark.parametrize(
        "amounts", [[5.0] * 9, [0.0] * 8 + [1e6], [0.01 * i for i in range(9)]]
    )
    def test_every_row_is_in_one_band_of_amounts(
        self, tmp_path: Path, amounts: list[float]
    ) -> None:
        bands = found(tmp_path, bank(), a=amounts).amounts
        assert sum(band.rows for band in bands) == 9
        assert all(band.rows for band in bands)

    def test_rows_without_label_are_in_no_rate(self, tmp_path: Path) -> None:
        message = found(tmp_path, bank(), y=[1, 0, None, None]).balance
        assert (message.frauds, message.genuine, message.unlabelled) == (1, 1, 2)
        assert message.rate.rate == 0.5


class TestDuplicates:
    def test_equal_rows_are_counted_from_the_second_on(self, tmp_path: Path) -> None:
        schema = bank(FeatureColumn("x", missing="allow"), FeatureColumn("c", "categorical"))
        message = found(
            tmp_path,
            schema,
            t=[1, 1, 1, 1, 2, 1],
            a=[0.0, -0.0, 0.0, 0.0, 0.0, 0.0],
            x=[None, None, None, 1.0, None, float("nan")],
            c=["k", "k", "k", "k", "k", "k"],
            y=[1, 1, 0, 1, 1, 1],
        ).duplicates
        assert (message.rows, message.frauds, message.groups, message.largest) == (2, 2, 1, 3)
        assert (message.conflicting_groups, message.conflicting_rows) == (1, 4)

    def test_ids_are_not_compared(self, tmp_path: Path) -> None:
        schema = bank(roles={"transaction_id": "i"})
        message = found(tmp_path, schema, i=["a", "b"], t=[1, 1], a=[1.0, 1.0], y=[0, 0])
        assert message.duplicates.rows == 1

    def test_the_published_transactions_have_the_known_number_of_duplicates(self) -> None:
        path = DATA / "creditcard.parquet"
        if not path.is_file():
            pytest.skip(f"no {path}")
        message = explore(load_dataset([Place.of(path)], ULB, labels="known"), ULB)
        assert (message.duplicates.rows, message.duplicates.conflicting_groups) == (1081, 0)
        assert message.duplicates.frauds == 19
        assert message.holdout is not None
        assert (message.holdout.test_rows, message.holdout.test_frauds) == (56_961, 75)
        assert {(s.feature, s.kind) for s in message.suspects} == {("Time", "time")}
        # It is a feature of the preset, which cannot be left out.
        assert not any(piece.topic == "features" for piece in message.advice)


class TestMissing:
    def test_absent_values_and_dead_letters_are_counted_by_column(self, tmp_path: Path) -> None:
        schema = bank(FeatureColumn("x", missing="allow"), FeatureColumn("must"))
        message = found(
            tmp_path, schema, x=[None, None, 1.0, 2.0], must=[1.0, 2.0, 3.0, None], y=[1, 1, 0, 0]
        )
        missing = {m.column: m for m in message.missing}
        assert (missing["x"].absent, missing["x"].rate_absent, missing["x"].rate_present) == (
            2,
            1,
            0,
        )
        assert missing["x"].roc_auc == 1.0
        assert (missing["must"].absent, missing["must"].dead) == (0, 1)
        assert message.dead_reasons == {"missing_feature": 1}
        assert missing.keys() == {"t", "a", "y", "x", "must"}


class TestDistributions:
    def test_every_present_value_is_in_a_bin(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        columns = {
            "normal": random.normal(size=500),
            "skewed": random.lognormal(3, 3, 500),
            "both": random.standard_cauchy(500),
            "few": random.integers(0, 3, 500).astype(float),
            "one": np.ones(500),
        }
        schema = bank(*(FeatureColumn(name, missing="allow") for name in columns))
        columns["normal"][:10] = np.nan
        message = {
            d.feature: d
            for d in found(
                tmp_path, schema, **{n: pa.array(v) for n, v in columns.items()}
            ).distributions
        }
        for name, values in columns.items():
            inside = (
                sum(message[name].frauds)
                + sum(message[name].genuine)
                + sum(message[name].unlabelled)
            )
            assert inside == np.isfinite(values).sum()
            assert list(message[name].edges) == sorted(message[name].edges)
        scales = {name: message[name].scale for name in columns}
        assert scales == {
            "normal": "linear",
            "skewed": "log",
            "both": "log",
            "few": "values",
            "one": "values",
        }
        assert message["few"].edges == (0, 1, 2)

    def test_a_feature_without_any_value_is_left_out(self, tmp_path: Path) -> None:
        message = found(tmp_path, bank(FeatureColumn("x", missing="allow")), x=[None] * 4)
        assert [d.feature for d in message.distributions] == ["amount"]
        assert {(s.feature, s.kind) for s in message.suspects} == {("x", "constant")}


class TestCorrelation:
    def test_coefficients_are_spearmans(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        x = random.integers(0, 5, 300).astype(float)
        z = x + random.normal(size=300)
        schema = bank(FeatureColumn("x"), FeatureColumn("z"), FeatureColumn("double"))
        message = found(tmp_path, schema, x=x, z=z, double=2 * z).correlation
        assert message.names == ("x", "z", "double", "amount", "event time", "fraud")
        assert message.coefficients[0][1] == pytest.approx(spearmanr(x, z).statistic, abs=1e-4)
        assert [(p.feature, p.other) for p in message.redundant] == [("z", "double")]

    def test_constants_have_no_coefficient(self, tmp_path: Path) -> None:
        message = found(tmp_path, bank(FeatureColumn("x")), x=[1.0] * 4).correlation
        assert set(message.coefficients[0]) == {None}


class TestCategories:
    def test_top_values_the_rest_and_absent_ones(self, tmp_path: Path) -> None:
        schema = bank(FeatureColumn("c", "categorical", "allow"))
        values = [f"v{i}" for i in range(17)] + ["often"] * 3 + [None]
        labels = [0] * 17 + [1, 1, 0, 1]
        [message] = found(tmp_path, schema, c=values, y=labels).categories
        assert (message.distinct, message.once) == (18, 17)
        shown = {v.group: (v.rows, v.frauds) for v in message.values}
        assert len(shown) == 17
        assert (shown["often"], shown[OTHERS], shown[ABSENT]) == ((3, 2), (3, 0), (1, 1))


class TestLeakage:
    def test_features_that_predict_too_well_or_nothing_are_suspected(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        labels = [int(i % 20 == 0) for i in range(1000)]
        columns: dict[str, Any] = {
            "told": [y + 0.01 * random.normal() for y in labels],
            "chargebackDate": [1.0 if y else None for y in labels],
            "row": list(range(1000)),
            "reference": [f"r{i}" for i in range(1000)],
            "same": [3.0] * 1000,
            "fine": list(random.normal(size=1000)),
        }
        random.shuffle(columns["row"])
        kinds = {"reference": "categorical"}
        schema = bank(
            *(FeatureColumn(n, kinds.get(n, "numeric"), "allow") for n in columns),  # type: ignore[arg-type]
        )
        message = found(tmp_path, schema, y=labels, a=list(random.random(1000)), **columns)
        assert {(s.feature, s.kind) for s in message.suspects} == {
            ("told", "predicts alone"),
            ("chargebackDate", "absence predicts"),
            ("chargebackDate", "known later"),
            ("row", "id"),
            ("reference", "id"),
            ("same", "constant"),
        }
        assert any(a.topic == "features" and a.warning and "told" in a.text for a in message.advice)

    def test_nobody_is_advised_against_the_features_of_a_preset(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        columns: dict[str, Any] = {
            name: random.normal(size=1000) for name in ULB.columns(labels="known")
        }
        columns |= {"Time": np.arange(1000.0), "Amount": np.arange(1000.0)}
        columns["Class"] = np.arange(1000) % 20 == 0
        told = found(tmp_path, ULB, **columns)
        assert ("Time", "time") in {(s.feature, s.kind) for s in told.suspects}
        assert [piece.text for piece in told.advice if piece.topic == "features"] == []
        advised = found(tmp_path, replace(ULB, name="ours"), **columns).advice
        assert any(piece.topic == "features" and "Time" in piece.text for piece in advised)


class TestAdvice:
    def test_the_gap_of_a_split_is_the_delay_of_labels(self, tmp_path: Path) -> None:
        days = [DAY * i for i in range(100)]
        message = found(
            tmp_path, bank(roles={"labelled_at": "seen"}), t=days, seen=[t + 3 * DAY for t in days]
        ).holdout
        assert message is not None
        assert (message.delay_measured, message.label_delay_days, message.gap) == (True, 3.0, True)
        assert (message.test_from, message.train_until) == ("1970-03-22", "1970-03-19")
        assert (message.test_rows, message.train_rows) == (20, 77)

    def test_rates_that_change_over_time_are_reported(self, tmp_path: Path) -> None:
        labels = [int(i % (20 if i < 4000 else 5) == 0) for i in range(8000)]
        message = found(tmp_path, bank(), y=labels, t=[DAY * i // 400 for i in range(8000)])
        assert any(a.topic == "rows" and "goes from 5.00 % " in a.text for a in message.advice)


class TestOdd:
    @pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [None, None, None], [1, 0, None]])
    def test_few_rows_of_any_labels(self, tmp_path: Path, labels: list[int | None]) -> None:
        schema = bank(
            FeatureColumn("x", missing="allow"),
            FeatureColumn("c", "categorical", "allow"),
            roles={"account_id": "who"},
            velocity=(Velocity(("account_id",), ("1d",), ("count", "std")),),
        )
        table = {"x": [1.0, None, 2.0], "c": ["k", None, "l"], "who": ["p", "p", "q"]}
        message = found(tmp_path, schema, y=pa.array(labels, pa.int64()), **table)
        assert message.balance.rows == 3
        assert bool(message.separations) == (len({0, 1} & set(labels)) == 2)
        assert message.holders[0].distinct == 2

    def test_without_a_label_in_the_schema(self, tmp_path: Path) -> None:
        roles = {"event_time": "t", "amount": "a"}
        schema = Schema("bare", roles, time=TimeNotation(unit="s"))
        message = found(tmp_path, schema, t=[0, DAY])
        assert message.balance.unlabelled == 2
        assert message.correlation.names == ("amount", "is_weekend", "is_night", "event time")
        assert message.advice[0].topic == "labels"
