"""The runners that other tests of the graph use are there and run Python."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions


def doubled(options: list[str], out: Path) -> list[int]:
    """What a pipeline on a runner makes of 0 to 99, by a shuffle and a file."""
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        _ = (
            pipeline
            | "Create" >> beam.Create(range(100))
            | "Shuffle" >> beam.Reshuffle()
            | "Double" >> beam.Map(lambda number: str(2 * number))
            | "Write" >> beam.io.WriteToText(str(out / "doubled"))
        )
    files = out.glob("doubled*")
    return sorted(int(line) for file in files for line in file.read_text().split())


@pytest.mark.slow
def test_flink_runs_a_pipeline(flink_job_server: str, tmp_path: Path) -> None:
    options = ["--runner=PortableRunner", f"--job_endpoint={flink_job_server}"]
    options += ["--environment_type=LOOPBACK", "--parallelism=2"]
    assert doubled(options, tmp_path) == list(range(0, 200, 2))


@pytest.mark.slow
def test_prism_runs_a_pipeline(prism: Path, tmp_path: Path) -> None:
    options = ["--runner=PrismRunner", f"--prism_location={prism}"]
    assert doubled(options, tmp_path) == list(range(0, 200, 2))
