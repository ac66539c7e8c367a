"""A pipeline's launch, and its cancellation when its command ends."""

from __future__ import annotations

import logging

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from beam_fraud.runners.launch import run
from beam_fraud.runners.submission import LOCAL_RUNNER, Submission

DAY = 86_400


class Elsewhere(PipelineRunner):
    """A runner whose pipelines continue without the launcher."""

    started: Started

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        return type(self).started


class Started(PipelineResult):
    def __init__(self, state: str = PipelineState.RUNNING, cancels: bool = True) -> None:
        super().__init__(state)
        self._cancels = cancels
        self.cancelled = False

    def cancel(self) -> None:
        if not self._cancels:
            raise OSError("nobody answers")
        self.cancelled = True


def interrupt(result: PipelineResult) -> None:
    raise KeyboardInterrupt


def run_elsewhere(started: Started) -> None:
    Elsewhere.started = started
    submission = Submission.of([f"--runner={__name__}.Elsewhere"], 1)
    run(submission, lambda root: root | beam.Create([1]), interrupt)


def test_a_pipeline_elsewhere_that_is_interrupted_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beam.pipeline, "create_runner", lambda name: Elsewhere())
    running, ended = Started(), Started(PipelineState.FAILED)
    for started in (running, ended):
        with pytest.raises(KeyboardInterrupt):
            run_elsewhere(started)
    assert running.cancelled
    assert not ended.cancelled


def test_a_failed_cancellation_is_reported_and_hides_no_interruption(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(beam.pipeline, "create_runner", lambda name: Elsewhere())
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        run_elsewhere(Started(cancels=False))
    assert "the runner did not cancel the pipeline (nobody answers)" in caplog.text


def test_workers_are_processes_unless_the_call_says_otherwise() -> None:
    options = Submission.of((), 2).options.view_as(DirectOptions)
    assert (options.direct_num_workers, options.direct_running_mode) == (2, "multi_processing")
    arguments = Submission.of(("--direct_running_mode=multi_threading",), 2)
    assert arguments.options.view_as(DirectOptions).direct_running_mode == "multi_threading"
    assert arguments.runner.local
    assert arguments.options.view_as(StandardOptions).runner == LOCAL_RUNNER
    assert arguments.runner.ends_streams


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("runner", ["PrismRunner", "DirectRunner", "SwitchingDirectRunner"])
def test_a_pipeline_on_prism_may_take_as_long_as_it_takes(runner: str, streaming: bool) -> None:
    options = Submission.of((f"--runner={runner}",), 1, streaming=streaming).options
    assert options.view_as(PortableOptions).job_server_timeout > 365 * DAY
    arguments = (f"--runner={runner}", "--job_server_timeout=7")
    options = Submission.of(arguments, 1, streaming=streaming).options
    assert options.view_as(PortableOptions).job_server_timeout == 7


@pytest.mark.parametrize(
    ("runner", "streaming", "whole"),
    [
        ("PrismRunner", True, True),
        ("prism", True, True),
        # Its job server may be Prism's.
        ("PortableRunner", True, True),
        # Steps of files have no state, and gain from splits.
        ("PrismRunner", False, False),
        ("FlinkRunner", True, False),
        ("DataflowRunner", True, False),
        ("FnApiRunner", True, False),
    ],
)
def test_prism_splits_no_bundle_of_a_stream(runner: str, streaming: bool, whole: bool) -> None:
    arguments = (f"--runner={runner}", "--experiments=own")
    options = Submission.of(arguments, 1, streaming=streaming).options.view_as(DebugOptions)
    assert options.lookup_experiment("prism_disable_sdf_split", False) == whole
    assert options.lookup_experiment("own")
