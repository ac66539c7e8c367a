"""Summaries count exactly, merge in any order, and their divergences are the exact ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from beam_fraud.monitoring.drift.divergence import jensen_shannon, kolmogorov_smirnov, psi
from beam_fraud.monitoring.drift.summary import ALL, OCTAVES, Layout, Measure, Segments, Summary

NUMBER = Measure("amount", "numeric", edges=(1.0, 2.0, 5.0))
TYPE = Measure("type", "categorical", categories=("a", "b"))
LAYOUT = Layout((NUMBER, TYPE), (Segments("country", ("be", "fr")),))


def summary_of(days, amounts, types, countries) -> Summary:
    places = {
        "amount": NUMBER.places(np.asarray(amounts, float)),
        "type": TYPE.places(np.asarray(types, float)),
    }
    return Summary.of_rows(LAYOUT, np.asarray(days), places, [np.asarray(countries)])


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([0.5, 1.0, 1.5, 5.0, 9.0, math.nan]),
        st.sampled_from([0.0, 1.0, 2.0, 7.0, math.nan]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize(
    "edges",
    [
        (),
        (1.0,),
        OCTAVES,
        tuple(np.arange(23.0).tolist()),
        tuple(np.linspace(-5, 5, 90).tolist()),
    ],
)
def test_a_value_is_in_the_bin_that_ends_at_the_first_edge_not_below_it(edges):
    values = np.array([-np.inf, -1.0, -0.0, 0.0, 0.3, 1.0, 1.5, 1e9, np.inf, np.nan, *edges])
    measure = Measure("number", "numeric", edges=edges)
    expected = [
        measure.bins if math.isnan(value) else sum(edge < value for edge in edges)
        for value in values.tolist()
    ]
    assert measure.places(values).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.integers(0, 60), max_size=5), st.randoms())
def test_any_division_and_order_of_merging_gives_the_same_counts(rows, cuts, random):
    whole = summary_of(*zip(*rows, strict=True))
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [summary_of(*zip(*rows[a:b], strict=True)) for a, b in itertools.pairwise(bounds)]
    random.shuffle(parts)
    merged = Summary.merged(LAYOUT, [*parts, Summary.empty(LAYOUT)])
    assert merged.days.tolist() == whole.days.tolist()
    assert np.array_equal(merged.counts, whole.counts)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_counts_are_those_of_the_rows(rows):
    summary = summary_of(*zip(*rows, strict=True))
    names = LAYOUT.groups
    for at, day in enumerate(summary.days.tolist()):
        for group, name in enumerate(names):
            own = [r for r in rows if r[0] == day and (name == ALL or group - 1 == r[3])]
            amounts = [r[1] for r in own if not math.isnan(r[1])]
            expected = np.histogram(np.nextafter(amounts, -9), [-9, 1, 2, 5, 99])[0].tolist()
            assert summary.of("amount", group)[at].tolist() == [*expected, len(own) - len(amounts)]
            types = [r[2] for r in own]
            assert summary.of("type", group)[at].tolist() == [
                sum(t == 0 for t in types),
                sum(t == 1 for t in types),
                sum(t >= 2 for t in types),
                sum(math.isnan(t) for t in types),
            ]


def test_summaries_of_different_layouts_do_not_merge():
    with pytest.raises(ValueError, match="layouts"):
        Summary.merged(LAYOUT, [Summary.empty(Layout((NUMBER,))), Summary.empty(LAYOUT)])


def test_fifty_features_by_ten_segments_over_ten_weeks_take_under_20_megabytes():
    measures = tuple(
        Measure(f"f{i}", "numeric", edges=tuple(map(float, range(9)))) for i in range(50)
    )
    layout = Layout(measures, (Segments("s", tuple(map(str, range(9)))),))
    days = np.repeat(np.arange(70), 3)
    places = {m.name: np.zeros(len(days), np.intp) for m in measures}
    summary = Summary.of_rows(layout, days, places, [np.zeros(len(days), np.intp)])
    assert summary.memory < 20e6


def test_days_without_rows_are_filled_in():
    summary = summary_of([3, 6], [1, 1], [0, 0], [0, 0]).every_day()
    assert summary.days.tolist() == [3, 4, 5, 6]
    assert summary.of("amount").sum(axis=1).tolist() == [1, 0, 0, 1]


def test_divergences_equal_those_of_the_textbook():
    random = np.random.default_rng(0)
    p, q = random.integers(1, 500, (2, 12))
    shares, others = p / p.sum(), q / q.sum()
    expected = jensenshannon(shares, others) ** 2
    assert float(jensen_shannon(p, q)) == pytest.approx(expected, abs=1e-12)
    naive = ((shares - others) * np.log(shares / others)).sum()
    assert float(psi(p * 1_000_000, q * 1_000_000)) == pytest.approx(naive, rel=1e-6)
    assert float(psi(p, p)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_kolmogorov_smirnov_distance_is_within_its_bounds(seed):
    random = np.random.default_rng(seed)
    one, other = random.normal(0, 1, 4000), random.normal(0.1 * seed, 1 + 0.1 * seed, 3000)
    edges = np.quantile(one, np.arange(1, 10) / 10)
    measure = Measure("x", "numeric", edges=tuple(edges.tolist()))
    counts = [np.bincount(measure.places(v), minlength=measure.width)[:-1] for v in (one, other)]
    least, most = kolmogorov_smirnov(*counts)
    assert least <= stats.ks_2samp(one, other).statistic <= most
    assert most - least <= 0.2


def test_octaves_increase():
    assert list(OCTAVES) == sorted(set(OCTAVES))
