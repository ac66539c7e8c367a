"""`monitor --labels` shows expected and measured figures of each week."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

import beam_fraud
from beam_fraud.cli.commands import labels as label_commands
from beam_fraud.cli.commands import monitor
from beam_fraud.cli.options import ImportLabelsOptions, MonitorOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import open_bundle, read_reliability
from beam_fraud.simulate.label_delay import parse_label_delay
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.failing import fails
from tests.otlp_receiver import labels_of, receiving


@dataclass(frozen=True)
class Scored:
    directory: Path
    #: Archived rows, and their true labels.
    rows: pa.Table
    truth: np.ndarray[Any, np.dtype[np.bool_]]

    def options(self, **changes: Any) -> MonitorOptions:
        return MonitorOptions(
            directory=str(self.directory), model=str(self.directory / "model"), **changes
        )

    @property
    def labels(self) -> str:
        return str(self.directory / "labels.parquet")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    directory = tmp_path_factory.mktemp("scored")
    delay = parse_label_delay("median=5d,sigma=0.6")
    rows = simulate(
        Simulation(days=112, accounts=150, merchants=300, fraud_rate=0.03, label_delay=delay)
    )
    # The archive begins on a Monday.
    cut = int(np.searchsorted(rows["TX_DATETIME"].to_numpy(), np.datetime64("2024-02-26")))
    known = rows.slice(cut)
    known = known.filter(pc.equal(known["TX_FRAUD"], 1))
    labels = {
        "transaction_id": known["TRANSACTION_ID"].cast(pa.string()),
        "label": known["TX_FRAUD"],
        "labelled_at": known["LABELLED_AT"],
    }
    pq.write_table(pa.table(labels), directory / "labels.parquet")
    truth = pc.greater(rows["TX_FRAUD_SCENARIO"], 0)
    place = rows.column_names.index("TX_FRAUD")
    rows = rows.set_column(place, "TX_FRAUD", truth.cast(pa.int8())).drop_columns(["LABELLED_AT"])
    bundle = beam_fraud.train(rows.slice(0, cut), schema="handbook", model="logistic")
    bundle.save(directory / "model")
    archived = beam_fraud.score(rows.slice(cut), bundle, history=rows.slice(0, cut))
    (directory / "scores").mkdir()
    pq.write_table(archived, directory / "scores/part-0.parquet")
    return Scored(directory, archived, np.asarray(truth.slice(cut), dtype=bool))


def test_expected_and_measured_figures_of_each_week(scored: Scored, tmp_path: Path) -> None:
    page, gauges = tmp_path / "quality.html", tmp_path / "quality.prom"
    with receiving() as receiver:
        options = {"labels": scored.labels, "out": str(page), "metrics": str(gauges)}
        result: dict[str, Any] = monitor.run(scored.options(**options, otlp=receiver.url))
        sent = {
            (name, tuple(sorted(labels_of(point).items()))): point.as_double
            for name, metric in receiver.last.items()
            for point in metric.gauge.data_points
        }
    quality = json.loads(json.dumps(result["quality"]))
    periods = quality["periods"]
    assert [period["since"] for period in periods][:2] == ["2024-02-26", "2024-03-04"]
    assert sum(period["rows"] for period in periods) == scored.rows.num_rows
    states = [period["measured"]["state"] for period in periods]
    assert states[0] == "mature"
    assert states[-1] == "immature"
    assert periods[-1]["measured"]["precision"]["value"] is None
    assert all(0 < period["expected"]["recall"]["value"] < 1 for period in periods)
    week = scored.rows["event_time"].to_numpy() < np.datetime64("2024-03-04")
    flagged = np.asarray(scored.rows["flagged"])[week]
    exact = float(scored.truth[week][flagged].mean())
    measured = periods[0]["measured"]["precision"]
    assert measured["value"] == pytest.approx(exact, abs=0.05)
    assert 3 < quality["delay_median_days"] < 8
    assert 'id="quality"' in page.read_text()
    text = gauges.read_text()
    # A collector gets what Prometheus reads.
    assert sent == {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert 'beam_fraud_quality_expected_ratio{figure="recall"}' in text
    assert 'beam_fraud_quality_measured_ratio{figure="precision",state="mature"}' in text
    assert "2024-03-04" in monitor.render(result)


def test_labels_of_a_database_are_those_of_a_file(scored: Scored, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'fraud.db'}"
    label_commands.run_import(
        ImportLabelsOptions(
            files=(scored.labels,),
            database=database,
            who="bank",
            scores=(str(scored.directory / "scores"),),
        )
    )
    by_file: dict[str, Any] = monitor.run(scored.options(labels=scored.labels))
    by_table: dict[str, Any] = monitor.run(scored.options(labels=database))
    assert by_table["quality"] == by_file["quality"]


def test_without_labels_there_are_expected_figures_alone(scored: Scored) -> None:
    result: dict[str, Any] = monitor.run(scored.options())
    assert result["quality"]["assumption"]["holds"] is None
    assert all(period["measured"] is None for period in result["quality"]["periods"])
    assert all(period["expected"] is not None for period in result["quality"]["periods"])


def test_a_bundle_keeps_its_validation_rows_by_score(scored: Scored) -> None:
    bundle = open_bundle(str(scored.directory / "model"))
    known = read_reliability(bundle)
    assert known is not None
    assert known.frauds.sum() == bundle.manifest.metrics["frauds"]
    assert known.together > 1


def test_wrong_calls_are_refused(scored: Scored) -> None:
    with fails(Code.OPTION_CONFLICT, "--labels", UsageError):
        monitor.run(
            replace(scored.options(labels=scored.labels), directory=None, database="sqlite:///x.db")
        )
    with fails(Code.PLACE_EMPTY, "--labels"):
        monitor.run(scored.options(labels=f"sqlite:///{scored.directory / 'none.db'}"))
    with fails(Code.INPUT_MISSING, "none.parquet"):
        monitor.run(scored.options(labels=str(scored.directory / "none.parquet")))
