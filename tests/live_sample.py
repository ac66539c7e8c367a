"""Figures of half an hour, as a server's live page shows them."""

from __future__ import annotations

import math
import time

from beam_fraud.monitoring.live_figures import (
    Changed,
    DriftFigures,
    ExpectedWeek,
    LiveFigures,
    Point,
    QualityFigures,
)

_ALARM = (
    "unseen values of TERMINAL_TYPE since 2026-03-12: 0.98 %, usually 0 %.",
    "The model does not know these values and scores all of them alike.",
)


def live_figures(at: float | None = None) -> LiveFigures:
    """Return them, with an alarm and a gap without rows."""
    at = time.time() if at is None else at
    points = []
    for number in range(180):
        wave, idle = math.sin(number / 9), 60 <= number < 70
        points.append(
            Point(
                at - 10 * (179 - number),
                0.0 if idle else 420 + 90 * wave,
                None if idle else 0.011 + 0.003 * wave,
                None if idle else 0.002 if number % 7 else 0.003,
                None if idle else 0.01 if number % 31 else 0.05,
            )
        )
    changed = [
        Changed("account_mean_28d", 0.41, "large", 0.62),
        Changed("merchant_risk_28d_delay_7d", 0.14, "moderate", 1.0),
        Changed("amount", 0.02, "stable", 0.35),
    ]
    drift = DriftFigures(1_204_551, "2026-01-05", "2026-03-14", 33, [_ALARM], changed)
    outcomes = {"scored": 751_204, "dead": 12, "duplicate": 88}
    model = "cards@0123456789ab"
    precision, recall = (0.71, 0.66, 0.75), (0.64, 0.57, 0.7)
    weeks = [
        ExpectedWeek("2026-03-02", 7, 9_412, precision, recall),
        ExpectedWeek("2026-03-09", 6, 8_130, (0.69, 0.64, 0.74), None),
    ]
    why = (
        "drift puts the weeks from 2026-03-09 to 2026-03-14 in doubt: "
        "unseen values of TERMINAL_TYPE since 2026-03-12"
    )
    expected = QualityFigures(weeks, True, why)
    return LiveFigures("server", model, at - 86_400, at, points, outcomes, drift, True, expected)
