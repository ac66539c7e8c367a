"""`serve --monitor` as a process: its counts, its page, its gauges and what it sends."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import counts_of
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.storage.urls import Place
from tests.otlp_receiver import labels_of, receiving
from tests.serve.conftest import Served
from tests.serving import Client, Serve, body_of, payments


def test_a_server_is_watched_everywhere(served: Served, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with receiving() as receiver:
        options = ("--monitor", "--otlp", receiver.url)
        with Serve(Path(served.bundle), state, *options) as server:
            with Client(server.port) as client:
                status, _, _ = client.post(body_of(payments(300, 20, seed=1), array=True))
                assert status == 200
                status, page = client.get("/live")
                assert status == 200
                assert b"<h2>Drift</h2>" in page
            assert "beam_fraud_serve_decisions_total" in server.metrics()
            assert server.stop()["rows_scored"] == 300
        decisions = receiver.last["beam_fraud_serve_decisions"].sum.data_points
        assert sum(one.as_double for one in decisions) == 300
        assert "beam_fraud_quality_assumption" in receiver.last
        assert {"approve"} <= {labels_of(one)["decision"] for one in decisions}
    found = read_counts(Place.parse(str(state / "monitor")))
    assert found is not None
    bundle = open_bundle(served.bundle)
    [rows], by_score = counts_of(found, bundle.model_id)
    assert int(rows.of("decision").sum()) == 300
    assert int(rows.of(bundle.features.names[-1]).sum()) == 300
    assert int(by_score.of("score").sum()) == 300
