"""Promotions while a topic is scored lose, repeat, mix and delay no row."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import (
    Bundle,
    load_bundle,
    read_reference,
    shared_model,
    write_bundle,
)
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import microseconds_per_row
from beam_fraud.models.registry.registry import add_model, open_registry, promote
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.recorder import read_board
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.storage.urls import Place
from deploy.kafka.broker import Broker
from tests.models.registering import ANN, other
from tests.requirements import need_kafka
from tests.stream_process import Stream, stream_command, wait_until
from tests.traffic import flush, patient_producer

#: Messages a second, fewer on a machine that cannot score so many.
RATE = int(os.environ.get("PROMOTIONS_RATE", "10000"))
#: Promotions, and each kind of trouble among them.
PROMOTIONS, TROUBLES = 20, 5
#: Seconds without promotions, for comparison; from a swap until its spike is over; between that and
#: the next promotion; without a broker.
QUIET, SPIKE, PAUSE, ABSENCE = 60.0, 2.0, 2.0, 4.0
#: Seconds that 99.9 % of rows may take from the broker to the score, apart from the spikes.
LONGEST = 0.5
#: Rows that further models are fitted on.
_FITTED = 5_000
THRESHOLDS = {"one": 0.2, "two": 0.5, "fewer": 0.35}


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    need_kafka()
    with Broker(tmp_path / "kafka") as broker:
        yield broker


class Models:
    """A registry of models that may decide, and of some that may not."""

    def __init__(self, month: Path, directory: Path) -> None:
        self.place, self._directory = Place.at(directory / "registry"), directory
        self._month, self._light = month, directory / "light"
        train(
            TrainOptions(
                files=(str(month),),
                schema="handbook",
                model="hist_gradient_boosting",
                out=str(self._light),
            )
        )
        self.ids = {
            name: self._added(other(self._light, directory / name, THRESHOLDS[name]))
            for name in ("one", "two")
        }
        features = load_bundle(self._light).manifest.features
        fewer = tuple(name for name in features if not name.startswith("is_"))
        light = HistGradientBoostingClassifier(max_iter=50)
        # Two million operations a row.
        slow = make_pipeline(SimpleImputer(), MLPClassifier((1_000, 1_000), max_iter=1))
        self.ids["fewer"] = self._added(self._fitted("fewer", light, fewer))
        self.ids["slow"] = self._added(self._fitted("slow", slow, features))
        self.ids["broken"] = self._added(other(self._light, directory / "broken", 0.99))
        costs = [_cost(load_bundle(path)) for path in (self._light, directory / "slow")]
        assert costs[1] > 4 * costs[0], costs
        #: Bound of a prediction, microseconds a row, between the light models and the slow one.
        self.limit = float(np.sqrt(np.prod(costs)))

    def promote(self, name: str) -> None:
        promote(open_registry(self.place), self.ids[name], ANN)

    def promote_and_break(self) -> None:
        """Promote a bundle and damage it before anybody has opened it."""
        model = Path(str(self.place)) / "bundles" / self.ids["broken"] / "model.joblib"
        model.write_bytes((self._directory / "broken" / "model.joblib").read_bytes())
        self.promote("broken")
        model.write_bytes(b"evil")

    def _added(self, bundle: Path) -> str:
        model = load_bundle(bundle)
        add_model(self.place, model, ANN)
        return model.model_id

    def _fitted(self, name: str, model: Any, features: tuple[str, ...]) -> Path:
        """Fit a model of some features, which need the windows of all, and write its bundle."""
        bundle = load_bundle(self._light)
        rows = load_dataset([Place.of(self._month)], HANDBOOK)
        matrix = feature_matrix(rows.transactions, FeatureSet(HANDBOOK, order=features))
        labels = pq.read_table(self._month, columns=["TX_FRAUD"])["TX_FRAUD"].to_numpy()
        manifest = replace(
            bundle.manifest,
            name=name,
            features=features,
            thresholds=Thresholds(THRESHOLDS.get(name, 0.5)),
        )
        model = model.fit(matrix[:_FITTED], labels[:_FITTED])
        write_bundle(self._directory / name, model, manifest, read_reference(bundle), "# card")
        return self._directory / name


def _cost(bundle: Bundle) -> float:
    rows = np.random.default_rng(1).normal(size=(5_000, len(bundle.manifest.features)))
    return microseconds_per_row(shared_model(bundle), rows)


class Load(threading.Thread):
    """Sends transactions at an even rate until `end`, also while the broker is away.

    `back` tells it that the broker is there again.
    """

    def __init__(self, broker: Broker, topic: str, transactions: pa.Table) -> None:
        super().__init__()
        self._broker, self._topic, self._transactions = broker, topic, transactions
        self.end, self.back = threading.Event(), threading.Event()
        self.sent = 0
        #: Why it ended early.
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._send()
        except BaseException as error:
            self.error = error

    def _send(self) -> None:
        producer = patient_producer(self._broker)
        start = time.monotonic()
        for block in handbook_messages(self._transactions, RATE // 100):
            pairs = zip(block.keys, block.values, strict=True)
            producer.write_all(self._topic, [{"key": key, "value": value} for key, value in pairs])
            self.sent += len(block.values)
            if self.back.is_set():
                self.back.clear()
                flush(producer)
            if self.end.wait(max(0.0, self.sent / RATE - (time.monotonic() - start))):
                break
        flush(producer)


class Observed:
    """Latencies of a stream, from the broker to the score."""

    def __init__(self, out: Path) -> None:
        self._live = out / "stream" / "live"
        self._before = self._calm_since = LatencyHistogram()
        #: Those of the time between the spikes.
        self.calm = LatencyHistogram()

    def since(self, what: str) -> None:
        """Print those since the last call."""
        now = read_board(self._live).latency
        self._print(what, now.since(self._before))
        self._before = now

    def calm_until_now(self) -> None:
        """Count those since `calm_from_now`."""
        self.calm = self.calm.merged(read_board(self._live).latency.since(self._calm_since))

    def calm_from_now(self) -> None:
        self._calm_since = read_board(self._live).latency

    def assert_calm(self) -> None:
        self._print("apart from the spikes", self.calm)
        longest = self.calm.quantile(0.999)
        assert longest is not None
        assert longest <= LONGEST

    def _print(self, what: str, span: LatencyHistogram) -> None:
        quantiles = [span.quantile(q) or 0.0 for q in (0.5, 0.99, 0.999, 1.0)]
        print(f"{what}: {span.rows:,} rows, p50 p99 p99.9 max", [round(q, 3) for q in quantiles])


@pytest.mark.soak
def test_promotions_under_load_lose_and_mix_nothing(
    own_broker: Broker, month: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(month, tmp_path / "month.parquet")
    models = Models(tmp_path / "month.parquet", tmp_path)
    models.promote("one")
    own_broker.create_topic("transactions", 2, {"message.timestamp.type": "LogAppendTime"})
    out = tmp_path / "out"
    command = stream_command(own_broker, "transactions", tmp_path, out, "--lateness", "30d")
    place = command.index("--model")
    command[place : place + 2] = ["--registry", str(models.place)]
    stream = Stream([*command, f"--max-microseconds={models.limit}"], out)
    load = Load(own_broker, "transactions", simulate(Simulation(70, 60_000, 20_000, seed=5)))
    observed = Observed(out)
    taken, refused = itertools.count(1), itertools.count(1)

    def said(words: str, times: int) -> None:
        assert stream.wait_until(
            lambda: stream.log.read_text("utf-8", errors="replace").count(words) >= times
        ), stream.said()

    def rows_scored() -> int:
        return read_board(out / "stream" / "live").counters.get("rows_scored", 0)

    def scored(rows: int) -> None:
        assert stream.wait_until(lambda: rows_scored() >= rows)

    def spike(cause: Callable[[], None], words: str, times: int) -> None:
        time.sleep(PAUSE)
        observed.calm_until_now()
        cause()
        said(words, times)
        time.sleep(SPIKE)
        observed.calm_from_now()

    def swap(name: str) -> None:
        spike(partial(models.promote, name), "from here on", next(taken))

    def refuse(cause: Callable[[], None]) -> None:
        spike(cause, "cannot be taken up", next(refused))

    stream.start()
    load.start()
    try:
        said("reading topic", 1)
        assert stream.wait_until(lambda: read_board(out / "stream" / "live").lag < RATE)
        time.sleep(10)
        observed.since("start")
        observed.calm_from_now()
        time.sleep(QUIET)
        observed.since("without promotions")
        for number in range(PROMOTIONS):
            # The champion is now `one`, then `two`.
            swap("two" if number % 2 == 0 else "one")
        observed.since(f"{PROMOTIONS} promotions")
        for _ in range(TROUBLES):
            swap("fewer")
            swap("one")
        observed.since(f"{TROUBLES} models of other features, and back")
        for _ in range(TROUBLES):
            refuse(models.promote_and_break)
            # Not the one that goes on, which would not be a change.
            swap("two")
            refuse(partial(models.promote, "slow"))
            swap("one")
        observed.since(f"{TROUBLES} broken and {TROUBLES} slow ones, and others after them")
        observed.calm_until_now()
        for number in range(TROUBLES):
            own_broker.stop()
            models.promote("two" if number % 2 == 0 else "one")
            said("from here on", next(taken))
            time.sleep(ABSENCE)
            own_broker.start()
            load.back.set()
            # By rows: the lag that was read last is from before the absence.
            scored(load.sent)
        observed.since(f"{TROUBLES} without a broker")
        observed.assert_calm()
    finally:
        load.end.set()
        load.join()
        assert load.error is None, load.error
        if stream.runs:
            assert wait_until(lambda: rows_scored() >= load.sent or not stream.runs)
            stream.stop()
        stream.wait_for_end()
    table = pq.read_table(
        out / "scores", columns=["transaction_id", "model_id", "score", "flagged"]
    )
    assert table.num_rows == load.sent > RATE * QUIET
    assert pc.count_distinct(table["transaction_id"]).as_py() == load.sent
    assert set(table["model_id"].unique().to_pylist()) == {models.ids[name] for name in THRESHOLDS}
    for name, threshold in THRESHOLDS.items():
        own = table.filter(pc.equal(table["model_id"], models.ids[name]))
        assert own.num_rows > RATE
        assert np.array_equal(own["score"].to_numpy() >= threshold, own["flagged"].to_numpy())
