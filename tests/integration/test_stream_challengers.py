"""Challengers join and leave a stream on other runners, without a promotion or a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry.registry import add_model, open_registry, promote, retire
from beam_fraud.storage.urls import Place
from tests.cli.test_registry_option import bundle as model_of
from tests.integration.test_every_runner import options_of
from tests.models.registering import ANN
from tests.stream_process import Stream

#: Seconds within which a challenger joins or leaves.
BOUND = 30.0


@pytest.mark.soak
@pytest.mark.parametrize("name", ["prism", "embedded", "cluster"])
def test_challengers_join_and_leave_a_stream_within_half_a_minute(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place, inbox, out = Place.at(tmp_path / "registry"), tmp_path / "inbox", tmp_path / "out"
    models = [load_bundle(model_of(tmp_path / f"m{n}", n)) for n in (2, 8)]
    first, second = (model.model_id for model in models)
    add_model(place, models[0], ANN)
    promote(open_registry(place), first, ANN)
    inbox.mkdir()
    command = ["stream", "--watch", str(inbox)]
    command += ["--registry", str(place), "--shadow", "challengers", "--out", str(out)]
    command += ["--roll-seconds=0.5", "--shards=2", *options_of(name, request)]
    stream, sent = Stream(command, out), 0

    def send() -> str:
        """Send a row and wait until it is scored; return its id."""
        nonlocal sent
        row = f"x{sent}"
        (inbox / f".{row}").write_text(f"id,t,a\n{row},2024-01-01T00:00:00Z,5\n")
        (inbox / f".{row}").rename(inbox / f"{row}.csv")
        sent += 1
        assert stream.wait_until(lambda: row in ids(out / "scores")), stream.said()
        return row

    def in_shadow(expected: bool) -> None:
        begun = time.monotonic()
        while True:
            row = send()
            time.sleep(1.5)
            if (row in ids(out / "shadow", second)) == expected:
                break
            assert time.monotonic() - begun < BOUND, stream.said()
        print(name, expected, f"{time.monotonic() - begun:.1f} s")

    stream.start()
    try:
        send()
        in_shadow(False)
        add_model(place, models[1], ANN)
        in_shadow(True)
        retire(open_registry(place), second, ANN)
        in_shadow(False)
        stream.stop()
        stream.wait_for_end()
    finally:
        stream.kill()
    scores = pq.read_table(out / "scores")
    assert sorted(scores["transaction_id"].to_pylist()) == sorted(f"x{n}" for n in range(sent))
    assert set(scores["model_id"].to_pylist()) == {first}
    shadow = pq.read_table(out / "shadow")["transaction_id"].to_pylist()
    assert len(shadow) == len(set(shadow)) > 0


def ids(directory: Path, model: str | None = None) -> list[str]:
    """Return the ids of the rows in visible files."""
    found: list[str] = []
    for part in directory.glob("part-*.parquet"):
        rows = pq.read_table(part, columns=["transaction_id", "model_id"])
        if model is not None:
            rows = rows.filter(pc.equal(rows["model_id"], model))
        found += rows["transaction_id"].to_pylist()
    return found
