"""Stateful steps keep their names, by which a runner finds the state of a savepoint."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import open_bundle
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.pipeline.stream import Stream, build_stream
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.stream_outputs import StreamOutputs

#: Steps that act after a checkpoint have one more part in their names.
WAITS = "State/ParDo(_Waiting)"
APART = {"Deduplicate/State", f"Reorder/{WAITS}", "Velocity of account_id/State"}
CHAINED = {"Deduplicate, velocity of account_id/State"}


@pytest.mark.parametrize(("reorder", "of_accounts"), [(None, CHAINED), (1.0, APART)])
def test_stateful_steps_keep_their_names(
    bundle: Path, tmp_path: Path, reorder: float | None, of_accounts: set[str]
) -> None:
    source = WatchSource(
        directory=str(tmp_path),
        schema=HANDBOOK,
        labels="ignored",
        stop_file=str(tmp_path / "stop"),
        until_idle=None,
        checkpoint=None,
    )
    stream = Stream(
        source=source,
        features=FeatureSet(HANDBOOK),
        outputs=StreamOutputs(tmp_path / "out"),
        run_id="run",
        here=False,
        checkpoints=True,
        shards=4,
        reorder=reorder,
    )
    pipeline = beam.Pipeline(runner="FnApiRunner")
    scoring = Scoring(open_bundle(str(bundle)), ParquetSink(tmp_path / "flagged"), monitored=())
    build_stream(pipeline, stream, scoring)
    transforms = pipeline.to_runner_api().components.transforms.values()
    result = {
        transform.unique_name
        for transform in transforms
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
        and beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).state_specs
    }
    written = {f"{step}/{WAITS}" for step in ("Scores", "DeadLetters", "Sink")}
    assert result == of_accounts | {"Velocity of merchant_id/State", "Drift/State"} | written
