"""A job gets a name of its own where it can be cancelled by it."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from beam_fraud.flink_job import name_of_own


def named(*args: str) -> tuple[str | None, str | None]:
    """The name of its own that a job got, and the name that it has."""
    options = PipelineOptions(list(args))
    return name_of_own(options), options.view_as(GoogleCloudOptions).job_name


def test_a_job_of_a_cluster_has_a_name_that_no_other_has() -> None:
    first, second = (named("--flink_master=127.0.0.1:8081") for _ in range(2))
    assert first[0] == first[1]
    assert first != second


@pytest.mark.parametrize("master", [(), ("--flink_master=[local]",), ("--flink_master=[auto]",)])
def test_without_the_address_of_a_cluster_there_is_nobody_to_tell(master: tuple[str, ...]) -> None:
    assert named(*master) == (None, None)


def test_a_name_that_was_chosen_may_be_anothers() -> None:
    assert named("--flink_master=127.0.0.1:8081", "--job_name=nightly") == (None, "nightly")
