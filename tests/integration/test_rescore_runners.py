"""Other runners score an archive to the same rows, and fail the same partitions."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import rescore
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.errors import Code
from deploy.ports import free_port
from tests.failing import fails
from tests.integration.test_every_runner import options_of
from tests.pipeline.test_rescore import home as home
from tests.pipeline.test_rescore import lay_out, transactions
from tests.requirements import need_module
from tests.stream_process import wait_until

pytestmark = pytest.mark.slow


def left(out: Path) -> dict[str, pa.Table]:
    """Return the tables of all partitions."""
    return {
        str(path.relative_to(out)): pq.read_table(path, partitioning=None)
        for path in sorted(out.glob("partitions/*/*/*.parquet"))
    }


@pytest.mark.parametrize("name", ["prism", pytest.param("embedded", marks=pytest.mark.soak)])
def test_ranges_of_partitions_have_the_same_rows(
    name: str, home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    archive = lay_out(transactions(), tmp_path / "days")
    bad = archive / "date=2024-01-06/part-0.parquet"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-100])
    options = RescoreOptions(
        files=(str(archive),),
        model=str(home / "new"),
        rules=str(home / "rules.toml"),
        out=str(tmp_path / "here"),
        workers=3,
    )
    there = replace(
        options, out=str(tmp_path / "there"), beam_args=tuple(options_of(name, request))
    )
    for call in (options, there):
        with fails(Code.PARTITIONS_FAILED, "date=2024-01-06"):
            rescore.run(call)
    assert left(tmp_path / "there") == left(tmp_path / "here")
    # Only what failed, and windows that lacked its rows, are scored again.
    bad.write_bytes(whole)
    summaries = [rescore.run(call) for call in (options, there)]
    assert left(tmp_path / "there") == left(tmp_path / "here")
    for summary in summaries:
        assert summary["partitions"]["scored"] < summary["partitions"]["all"] == 10
    manifests = [
        json.loads((tmp_path / out / "manifest.json").read_text())["partitions"]
        for out in ("here", "there")
    ]
    ours, theirs = (
        [{k: p[k] for k in ("name", "state", "rows_in", "rows_scored", "reaches")} for p in m]
        for m in manifests
    )
    assert ours == theirs


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A stand-in for Cloud Storage, which workers reach over the network."""
    need_module("google.cloud.storage", "gcp")
    from tests.google_stand_in import GoogleStandIn, running

    with running(tmp_path, GoogleStandIn()) as (held, environment):
        yield held, environment


@pytest.fixture
def pool(bucket: tuple[Any, dict[str, str]], tmp_path: Path) -> Iterator[str]:
    """A pool of workers in a place of its own: what it shares with others is in the bucket."""
    own = tmp_path / "elsewhere"
    own.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "beam_fraud", "workers", "--port", str(port)]
    environment = {**os.environ, **bucket[1], "TMPDIR": str(own), "HOME": str(own)}
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=own, env=environment, stderr=log, stdout=log)
        try:
            assert wait_until(lambda: answers(port)), (own / "log").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
    assert [path.name for path in own.glob("beam-fraud-*")] == []


def answers(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


# Prism has ended under such workers once, on a busy machine, and with it every later test on it.
@pytest.mark.soak
def test_workers_that_share_no_disk_leave_the_same_rows_at_a_url(
    home: Path,
    tmp_path: Path,
    bucket: tuple[Any, dict[str, str]],
    pool: str,
    prism: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, environment = bucket
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    archive = lay_out(transactions().slice(0, 1_200), tmp_path / "days")
    for directory, name in ((archive, "days"), (home / "new", "new"), (home / "old", "old")):
        for path in directory.rglob("*.*"):
            held.objects[f"bucket/{name}/{path.relative_to(directory)}"] = path.read_bytes()
    options = RescoreOptions(
        files=(str(archive),),
        model=str(home / "new"),
        against=(str(home / "old"),),
        rules=str(home / "rules.toml"),
        out=str(tmp_path / "here"),
        resamples=20,
        workers=3,
    )
    expected = rescore.run(options)
    external = ("--environment_type=EXTERNAL", f"--environment_config={pool}")
    summary = rescore.run(
        replace(
            options,
            files=("gs://bucket/days",),
            model="gs://bucket/new",
            against=("gs://bucket/old",),
            out="gs://bucket/out",
            beam_args=(*prism, *external),
        )
    )
    assert summary["rows_scored"] == expected["rows_scored"] == 1_200
    root, found = tmp_path / "here/partitions", {}
    for one in json.loads(held.objects["bucket/out/manifest.json"])["partitions"]:
        for name in one["outputs"]:
            plain = "-".join(name.removesuffix(".parquet").split("-")[:2])
            key = f"{one['name']}/{plain}.parquet"
            found[key] = held.objects[f"bucket/out/partitions/{one['name']}/{name}"]
    assert found == {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.parquet")}
    changed = held.objects["bucket/out/changed.parquet"]
    assert changed == (tmp_path / "here/changed.parquet").read_bytes()
    names = [key for key in held.objects if key.startswith("bucket/out/")]
    assert [name for name in names if "/.rescoring-" in name] == []
    assert len([n for n in names if "/partitions/" in n and n.endswith(".parquet")]) == len(found)
