"""Simulated months: alarms at a change of frauds, none before it; exact figures of many rows."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from beam_fraud.monitoring.drift.divergence import jensen_shannon, kolmogorov_smirnov, psi
from beam_fraud.monitoring.drift.judgement import MIN_HISTORY
from beam_fraud.monitoring.drift.report import report_of
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary
from tests.drifting import ARCHIVE, JUDGED, archive_of, monitored_of, summary_of

RATE = 1 / 30


def outcome(seed: int, directory: Path) -> tuple[int, bool]:
    """Return the false alarms before the change, and whether it raised one within two days."""
    archive = archive_of(seed, directory)
    summary = summary_of(archive, seed)
    first = ARCHIVE + timedelta(days=MIN_HISTORY + JUDGED)
    raised = [
        date.fromisoformat(alarm.raised)
        for alarm in report_of(monitored_of(archive, summary), RATE).alarms
    ]
    noticed = any(first <= day <= first + timedelta(days=1) for day in raised)
    return sum(day < first for day in raised), noticed


@pytest.mark.soak
def test_twenty_simulated_months_raise_alarms_at_the_change_alone(tmp_path):
    # Others than those by which the rules of alarms were chosen.
    seeds = range(300, 300 + int(os.environ.get("BEAM_FRAUD_DRIFT_SEEDS", "20")))
    found = [outcome(seed, tmp_path) for seed in seeds]
    noticed = sum(hit for _, hit in found)
    false = sum(count for count, _ in found)
    print(f"noticed {noticed} of {len(found)}, {false} false alarms in {len(found) * JUDGED} days")
    assert noticed >= 0.95 * len(found)
    assert false <= len(found) * JUDGED * RATE


def exact(rows: int) -> None:
    """Compare figures of summaries of many parts with those of all values at once."""
    random = np.random.default_rng(3)
    before, now = random.lognormal(3, 1, rows), random.lognormal(3.1, 1.1, rows)
    edges = tuple(np.quantile(before[:50_000], np.arange(1, 10) / 10).tolist())
    measure = Measure("amount", "numeric", edges)
    layout = Layout((measure,))
    totals = []
    for values in (before, now):
        parts = [
            Summary.of_rows(layout, np.zeros(len(part), np.int64), {"amount": measure.places(part)})
            for part in np.array_split(values, 40)
        ]
        merged = [
            Summary.merged(layout, [parts[at] for at in random.permutation(40)]) for _ in range(3)
        ]
        assert all(np.array_equal(one.counts, merged[0].counts) for one in merged)
        assert merged[0].memory < 20e6
        bounds = np.r_[-np.inf, np.nextafter(edges, np.inf), np.inf]
        assert merged[0].of("amount")[0, :-1].tolist() == np.histogram(values, bounds)[0].tolist()
        totals.append(merged[0].of("amount")[0, :-1])
    both = np.sort(np.concatenate([before, now]))
    shares = [np.searchsorted(np.sort(v), both, side="right") / rows for v in (before, now)]
    distance = np.abs(shares[0] - shares[1]).max()
    least, most = kolmogorov_smirnov(*totals)
    assert least <= distance <= most
    p, q = totals[0] / rows, totals[1] / rows
    assert float(psi(*totals)) == pytest.approx(((p - q) * np.log(p / q)).sum(), abs=1e-5)
    m = (p + q) / 2
    js = (p * np.log(p / m) + q * np.log(q / m)).sum() / 2
    assert float(jensen_shannon(*totals)) == pytest.approx(js, abs=1e-12)


def test_figures_are_exact_on_many_rows():
    exact(100_000)


@pytest.mark.soak
def test_figures_are_exact_on_five_million_rows():
    exact(5_000_000)
