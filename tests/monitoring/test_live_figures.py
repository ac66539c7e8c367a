"""Figures between samples are those of the rows between them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from beam_fraud.monitoring.live_figures import (
    DriftFigures,
    ExpectedWeek,
    LiveFigures,
    QualityFigures,
    Sampler,
    Totals,
    WatchedFigures,
)
from beam_fraud.serve.http.live_page import Precision, live_page, live_parts

BOUNDS = (0.001, 0.01, 0.1)
NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def totals(at: float, scored: int, flagged: int, *latencies: int) -> Totals:
    return Totals(at, "cards@1", {"scored": scored}, scored, flagged, latencies, BOUNDS)


def sampled(*samples: Totals, watched: WatchedFigures | None = None) -> LiveFigures:
    sampler = Sampler("server", NOW.timestamp() - 60)
    for sample in samples:
        figures = sampler.sample(sample, watched, monitors=watched is not None)
    return figures


def test_points_are_of_the_time_between_samples() -> None:
    figures = sampled(
        totals(100, 1_000, 10, 900, 100, 0, 0),
        totals(110, 1_200, 20, 1_000, 198, 2, 0),
        totals(120, 1_200, 20, 1_000, 198, 2, 0),
        # It was started again.
        totals(130, 50, 0, 0, 0, 0, 50),
    )
    first, idle, again = figures.points
    assert (first.rows_per_second, first.flagged, first.p50, first.p99) == (20, 0.05, 0.001, 0.01)
    assert (idle.rows_per_second, idle.flagged, idle.p50) == (0, None, None)
    assert (again.rows_per_second, again.flagged, again.p99) == (0, None, None)
    assert msgspec.json.decode(msgspec.json.encode(figures), type=LiveFigures) == figures


def test_half_an_hour_is_kept() -> None:
    figures = sampled(*(totals(10.0 * n, n, 0, n, 0, 0, 0) for n in range(400)))
    assert len(figures.points) == 180


def test_the_page_escapes_names_and_loads_nothing() -> None:
    drift = DriftFigures(
        10, "2024-01-01", "2024-01-02", 0, [("<script>alert(1)</script>", "Ask.")], []
    )
    at = NOW.timestamp()
    week = ExpectedWeek("2023-12-25", 7, 40, (0.625, 0.5, 0.75), None)
    watched = WatchedFigures(drift, QualityFigures([week], True, "<b>drift</b>"))
    figures = sampled(
        totals(at - 10, 0, 0, 0, 0, 0, 0), totals(at, 9, 3, 5, 4, 0, 0), watched=watched
    )
    assert msgspec.json.decode(msgspec.json.encode(figures), type=LiveFigures) == figures
    page = live_page(figures, NOW)
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert 'http-equiv="refresh"' in page
    assert "http://" not in page
    assert "https://" not in page
    for title in ("Throughput", "Latency, median", "Flag rate", "Drift", "Quality"):
        assert f"<h2>{title}</h2>" in page
    assert "33.33 %" in page
    assert '0.62 <span class="small">(0.50 to 0.75)</span>' in page
    assert "Do not rely on expected figures: &lt;b&gt;drift" in page
    assert "seconds old" not in page


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        (None, "analysts"),
        ([], "Nobody has decided"),
        ([Precision("cards@1", 8, 2, 0.8, 0.49, 0.943)], "80.0 %"),
    ],
)
def test_quality_is_what_people_decided(quality, said) -> None:
    assert said in live_parts(None, quality, NOW)


def test_old_figures_are_said_to_be_old() -> None:
    figures = sampled(totals(NOW.timestamp() - 300, 0, 0, 0, 0, 0, 0))
    assert "300 seconds old" in live_parts(figures, [], NOW)
