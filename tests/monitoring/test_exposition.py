"""The page of metrics over HTTP, parsed by Prometheus' client."""

import re
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from beam_fraud.alerts.outbox import Counts
from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.prometheus import serve_metrics
from beam_fraud.monitoring.snapshot import Position, Snapshot, merge

BUILD = {"version": "1.2", "model_id": 'forest"@abc'}


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return str(response.read().decode())


def samples(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return name and label values to value."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(get(url))
        for sample in family.samples
    }


def busy() -> Snapshot:
    latency = LatencyHistogram()
    latency.add(0.5, 90)
    latency.add(5_000.0, 10)
    counters = {
        "rows_in": 107,
        "rows_scored": 100,
        "rows_flagged": 9,
        "rows_dead": 5,
        "rows_duplicate": 2,
        "rows_ahead": 8,
        "dead_malformed": 4,
        "dead_missing_id": 1,
        "labels_in": 3,
        "rule:large_and_fast": 6,
        "shadow_rule:tried": 8,
        "rules_muted": 1,
    }
    positions = {"a:b:0": Position(10, 15, 0.0), "a:b:1": Position(7, 7, 0.0)}
    return Snapshot(counters, positions, latency, updated=1_700_000_000.5)


def test_every_figure_is_on_the_page() -> None:
    counts = {
        "console": Counts(pending=2, sent=7, failed=3),
        "file:a.jsonl": Counts(sent=9, snoozed=4),
    }
    with serve_metrics(0, busy, BUILD, lambda: counts) as url:
        result = samples(url)
    latency = {key: result.pop(key) for key in list(result) if "latency" in key[0]}
    assert result == {
        ("beam_fraud_build_info", ('forest"@abc', "1.2")): 1,
        ("beam_fraud_transactions_total", ("scored",)): 100,
        ("beam_fraud_transactions_total", ("dead",)): 5,
        ("beam_fraud_transactions_total", ("tombstone",)): 0,
        ("beam_fraud_transactions_total", ("correction",)): 0,
        ("beam_fraud_transactions_total", ("duplicate",)): 2,
        ("beam_fraud_ahead_total", ()): 8,
        ("beam_fraud_dead_letters_total", ("malformed",)): 4,
        ("beam_fraud_dead_letters_total", ("missing_id",)): 1,
        ("beam_fraud_flagged_total", ()): 9,
        ("beam_fraud_rule_fired_total", ("large_and_fast",)): 6,
        ("beam_fraud_shadow_rule_fired_total", ("tried",)): 8,
        ("beam_fraud_rules_muted_total", ()): 1,
        ("beam_fraud_promotions_refused_total", ()): 0,
        ("beam_fraud_champion_waits", ()): 0,
        ("beam_fraud_labels_total", ()): 3,
        ("beam_fraud_lag_messages", ("0", "a:b")): 5,
        ("beam_fraud_lag_messages", ("1", "a:b")): 0,
        ("beam_fraud_updated_timestamp_seconds", ()): 1_700_000_000.5,
        ("beam_fraud_alerts_sent_total", ("console",)): 7,
        ("beam_fraud_alerts_sent_total", ("file:a.jsonl",)): 9,
        ("beam_fraud_alerts_pending", ("console",)): 2,
        ("beam_fraud_alerts_pending", ("file:a.jsonl",)): 0,
        ("beam_fraud_alerts_failed", ("console",)): 3,
        ("beam_fraud_alerts_failed", ("file:a.jsonl",)): 0,
        ("beam_fraud_alerts_snoozed", ("console",)): 0,
        ("beam_fraud_alerts_snoozed", ("file:a.jsonl",)): 4,
    }
    name = "beam_fraud_latency_seconds"
    assert latency[f"{name}_bucket", ("0.422",)] == 0
    assert latency[f"{name}_bucket", ("0.562",)] == 90
    assert latency[f"{name}_bucket", ("750.0",)] == 90
    assert latency[f"{name}_bucket", ("+Inf",)] == latency[f"{name}_count", ()] == 100
    assert latency[f"{name}_sum", ()] == 90 * 0.5 + 10 * 5_000


def test_the_model_of_the_last_score_is_on_the_page() -> None:
    read = merge([Snapshot(scored_at=2.0, model_id="new@1"), Snapshot(scored_at=1.0, model_id="o")])
    with serve_metrics(0, lambda: read, BUILD) as url:
        assert ("beam_fraud_build_info", ("new@1", "1.2")) in samples(url)


def test_a_stream_that_has_not_begun_shows_zeros() -> None:
    with serve_metrics(0, Snapshot, BUILD) as url:
        result = samples(url)
    assert result["beam_fraud_transactions_total", ("scored",)] == 0
    assert result["beam_fraud_latency_seconds_count", ()] == 0


def test_uncountable_alerts_hide_no_other_metric() -> None:
    def unreachable() -> dict[str, Counts]:
        raise FraudError("outbox.db: locked", Code.DATABASE_LOCKED)

    with serve_metrics(0, busy, BUILD, unreachable) as url:
        result = samples(url)
    assert result["beam_fraud_transactions_total", ("scored",)] == 100
    assert [name for name, _ in result if "alerts" in name] == []


def test_each_page_is_of_its_own_moment() -> None:
    rows = iter(range(1, 10))
    with serve_metrics(0, lambda: Snapshot({"rows_scored": next(rows)}), BUILD) as url:
        scored = [samples(url)["beam_fraud_transactions_total", ("scored",)] for _ in range(3)]
    assert scored == [1, 2, 3]


def test_a_port_in_use_is_one_line_and_one_that_was_closed_is_free() -> None:
    with serve_metrics(0, Snapshot, BUILD) as url:
        port = int(url.split(":")[2].split("/")[0])
        with (
            pytest.raises(FraudError, match=rf"^--metrics-port {port}: .*Address already in use"),
            serve_metrics(port, Snapshot, BUILD),
        ):
            pass
        assert "beam_fraud" in get(url), "the one that has it goes on"
    with pytest.raises(urllib.error.URLError):
        get(url)
    with serve_metrics(port, Snapshot, BUILD) as again:
        assert again == url


def test_only_this_machine_is_answered() -> None:
    with serve_metrics(0, Snapshot, BUILD) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=10)
