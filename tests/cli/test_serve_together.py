"""Each of several servers shows what all have done, and tells what it has done itself."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import msgspec
import numpy as np

from beam_fraud.cli.commands.serve_together import REPORT, joined
from beam_fraud.evaluation.monitor_report import MonitorReport
from beam_fraud.evaluation.quality.quality import ScoredDays, quality_of
from beam_fraud.models.reliability import BINS, Reliability
from beam_fraud.monitoring.live_figures import LIVE
from beam_fraud.monitoring.server_figures import FIGURES, SHADOWS, ServerFigures
from beam_fraud.monitoring.shadow import ShadowFigures, ShadowTotals
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.storage.stream_outputs import ServerOutputs
from tests.live_sample import live_figures
from tests.monitoring.test_drift_alarms import changed, report, traffic
from tests.stream_process import wait_until


def test_a_server_shows_the_figures_of_all(tmp_path: Path) -> None:
    rows = np.zeros((7, 2, BINS), np.int64)
    rows[:, :, 100:200] = 1
    known = Reliability(np.ones(BINS), np.linspace(0, 1, BINS), 1.0)
    # A Monday.
    scored = ScoredDays(np.arange(19_723, 19_730), rows, UTC)
    quality = quality_of(scored, known)
    drift, live = report(changed(traffic(0), "type", (0, 2), 0.1)), live_figures()
    shadows = ShadowTotals({"trial@1": ShadowFigures(rows=45, agreed=40)}, waiting=3, left_out=2)
    outputs, metrics = ServerOutputs(tmp_path / "0"), Metrics()
    own = ShadowTotals({"trial@1": ShadowFigures(rows=20, agreed=19)})
    metrics.shadow_totals = lambda: own
    count(metrics.outcomes, "scored", 20)
    outputs.own.mkdir(parents=True)
    with joined(tmp_path, outputs, metrics):
        wait_until(lambda: (outputs.own / FIGURES).exists())
        told = msgspec.msgpack.decode((outputs.own / FIGURES).read_bytes(), type=ServerFigures)
        assert told.totals.outcomes == {"scored": 20}
        assert told.shadows == own
        assert (metrics.shadow_totals(), metrics.live()) == (own, None)
        assert "beam_fraud_drift_alarms" not in metrics.text().decode()
        directory = tmp_path / "monitor"
        directory.mkdir()
        (directory / SHADOWS).write_bytes(msgspec.msgpack.encode(shadows))
        (directory / LIVE).write_bytes(msgspec.json.encode(live))
        told = MonitorReport(drift, quality)
        (directory / REPORT).write_bytes(msgspec.msgpack.encode(told))
        wait_until(lambda: b"beam_fraud_drift_alarms" in metrics.text())
        assert metrics.live() == live
        text = metrics.text().decode()
    assert 'beam_fraud_quality_expected_ratio{figure="recall"}' in text
    assert f"beam_fraud_drift_alarms {float(len(drift.loud_alarms))}" in text
    assert 'beam_fraud_shadow_rows_total{challenger="trial@1"} 45.0' in text
    assert "beam_fraud_serve_shadow_rows 3.0" in text
    assert "beam_fraud_serve_not_shadowed_total 2.0" in text
