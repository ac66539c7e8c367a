"""A stream on Flink holds and spends no more after an hour than after a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.integration.flink_usage import state_names, usage
from tests.integration.test_flink_stream import Scored, counted, on_flink
from tests.stream_process import wait_until
from tests.traffic import make_traffic

#: Checkpoints, one a second, over which states are counted.
LOOKS = 8


def residuals(cluster: FlinkCluster) -> list[str]:
    """Names of the states that hold what the source has not read yet."""
    return [name for name in state_names(cluster) if name.startswith("sdf_checkpoint")]


def await_checkpoints(cluster: FlinkCluster, number: int) -> None:
    """Wait until so many more are complete."""
    before = usage(cluster).checkpoints
    wait_until(lambda: usage(cluster).checkpoints >= before + number)


@pytest.mark.slow
def test_residuals_of_the_source_share_a_state(
    broker: Broker, cluster: FlinkCluster, bundle: Path, tmp_path: Path
) -> None:
    scored = Scored(broker, bundle, tmp_path, make_traffic(5, accounts=1_000, bad=0))
    out, stream = scored.out("watched"), scored.stream("watched", *on_flink(cluster, 1))
    part = len(scored.traffic.keys) // LOOKS
    try:
        stream.start()
        assert wait_until(lambda: bool(residuals(cluster)) or not stream.runs), stream.said()
        # The source ends some bundles a second, each with a residual of each partition.
        await_checkpoints(cluster, LOOKS)
        assert len(residuals(cluster)) == 1
        for look in range(1, LOOKS + 1):
            scored.feed.send(part)
            assert wait_until(lambda done=look * part: counted(out, "rows_in") >= done)
        await_checkpoints(cluster, 1)
        assert len(residuals(cluster)) == 1
    finally:
        stream.kill()
