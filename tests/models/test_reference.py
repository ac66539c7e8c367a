from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import (
    FEATURE_QUANTILES,
    Reference,
    bin_edges,
    count_bins,
    reference_of,
)
from beam_fraud.schema.schema import FeatureColumn, Schema

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a"},
    features=(FeatureColumn("mcc", "categorical", "allow"),),
    calendar=False,
)


def test_every_feature_and_the_score_are_counted() -> None:
    features = FeatureSet(SCHEMA, {"mcc": ("x", "y")})
    codes = np.array([0.0, 1.0, 1.0, 2.0, np.nan])
    matrix = np.column_stack([codes, np.arange(5.0)])
    reference = reference_of(matrix, features, np.array([0.0, 0.0, 1.0]))
    by_name = {d.feature: d for d in reference.distributions}
    assert list(by_name) == ["mcc", "amount", "score"]
    assert by_name["mcc"].categories == ("x", "y")
    assert by_name["mcc"].counts == (1, 2, 1)
    assert by_name["mcc"].missing == 1
    assert sum(by_name["amount"].counts) == 5
    assert sum(by_name["score"].counts) == 3


def test_a_reference_survives_its_file() -> None:
    features = FeatureSet(SCHEMA, {"mcc": ("x",)})
    reference = reference_of(np.zeros((3, 2)), features, np.array([0.1, 0.2]))
    assert Reference.from_parquet(reference.to_parquet()) == reference
    assert Reference.from_parquet(Reference().to_parquet()) == Reference()


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6)), max_size=200))
def test_each_value_is_in_one_bin(values: list[float]) -> None:
    array = np.array(values, dtype=np.float64)
    edges = bin_edges(array, FEATURE_QUANTILES)
    counted = count_bins("x", array, edges)
    assert list(edges) == sorted(set(edges))
    assert len(counted.counts) == len(edges) + 1
    assert sum(counted.counts) + counted.missing == len(values)


def test_quantile_bins_of_many_values_are_even() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    counted = count_bins("x", values, bin_edges(values, FEATURE_QUANTILES))
    assert counted.counts == (1000,) * 10
