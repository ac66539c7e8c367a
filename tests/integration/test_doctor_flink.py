"""`doctor` at a real Flink cluster, first without and then with faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli import main
from deploy.flink.cluster import FlinkCluster
from deploy.ports import free_port, listens
from tests.stream_process import wait_until

pytestmark = pytest.mark.slow

Found = dict[str, dict[str, Any]]
Look = Callable[..., Found]


@pytest.fixture
def look(flink_cluster: FlinkCluster, capsys: pytest.CaptureFixture[str]) -> Look:
    """Return a function that runs `doctor` at the cluster and returns its checks by name."""

    def run(code: int, *options: str) -> Found:
        capsys.readouterr()
        arguments = {option.partition("=")[0] for option in options}
        at = [one for one in flink_cluster.beam_options if one.partition("=")[0] not in arguments]
        assert main(["doctor", "--json", *at, *options]) == code
        checks = json.loads(capsys.readouterr().out)["checks"]
        return {check["name"].split(" at ")[0]: check for check in checks}

    return run


@pytest.fixture
def other_pool(tmp_path: Path) -> Iterator[str]:
    """A pool of workers whose Python has another beam-fraud, or none."""
    hidden = tmp_path / "hidden/beam_fraud"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(hidden.parent)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    module = "apache_beam.runners.worker.worker_pool_main"
    pool = subprocess.Popen(
        [sys.executable, "-m", module, f"--service_port={port}"],
        # Python looks where it is started first of all.
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: listens(f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}"
    finally:
        pool.terminate()
        pool.wait()


@pytest.mark.soak
def test_a_cluster_where_all_is_well(look: Look, bundle: Path, tmp_path: Path) -> None:
    result = look(
        0,
        *("--model", str(bundle), "--out", str(tmp_path / "out")),
        *("--parallelism=2", "--checkpointing_interval=1000"),
    )
    # Room on the disk is the machine's own affair, and other tests use the cluster as well.
    assert {name for name, check in result.items() if check["state"] != "ok"} <= {
        "--out",
        "task slots",
    }
    assert {"Flink", "task slots", "checkpoints", "worker pool", "workers", "model"} <= set(result)
    assert result["options"]["found"] == "PortableRunner takes a stream"
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_a_missing_model(look: Look, tmp_path: Path) -> None:
    result = look(1, "--model", str(tmp_path / "nothing"))
    assert result["workers"]["state"] == "ok"
    assert result["model"]["state"] == "failed"
    assert result["model"]["fix"].startswith("put the bundle there")


def test_workers_without_the_package(look: Look, other_pool: str) -> None:
    result = look(1, f"--environment_config={other_pool}")
    assert result["worker pool"]["state"] == "ok"
    assert result["workers"]["state"] == "failed"
    assert "lacks this beam-fraud (" in result["workers"]["found"]


def test_too_many_slots_and_no_pool(look: Look) -> None:
    result = look(1, "--parallelism=9", f"--environment_config=127.0.0.1:{free_port()}")
    assert result["task slots"]["state"] == "failed"
    assert result["task slots"]["fix"] == "give at most 2, or start more task managers"
    assert "no pool of workers answers there" in result["worker pool"]["found"]
    assert "workers" not in result
