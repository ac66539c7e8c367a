"""The commands of docs/life-of-a-model.md do what the page says, in its order."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from tests.stream_process import Stream, archived

PAGE = Path(__file__).resolve().parents[2] / "docs/life-of-a-model.md"
#: What a stream says when it has taken up what was promoted.
TAKEN_UP = "from here on"
pytestmark = pytest.mark.slow


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    """Return the stream of the page; it is started there."""
    command = next(words for words in commands() if words[-1] == "&")
    process = Stream(command[1:-1], tmp_path / "live", tmp_path)
    yield process
    process.kill()


def commands() -> Iterator[list[str]]:
    """Yield the commands of the page, each as its words."""
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        for line in block.strip().splitlines():
            yield shlex.split(line)


def test_a_model_lives_as_the_page_says(
    tmp_path: Path,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "incoming").mkdir()
    live, arrived, printed = tmp_path / "live", 0, dict[str, str]()
    for words in commands():
        if words[-1] == "&":
            stream.start()
        elif words[0] == "cp":
            arrived += arrive(tmp_path, *words[1:])
            wait_for_rows(stream, live, arrived)
        else:
            if words[1] == "audit":
                words[2] = pq.read_table(live / "scores").column("transaction_id")[0].as_py()
            before = stream.said().count(TAKEN_UP) if stream.runs else 0
            assert main(words[1:]) == 0, capfd.readouterr().err
            printed[words[1] if words[1] == "audit" else words[2]] = capfd.readouterr().out
            if stream.runs and words[2] in ("promote", "rollback"):
                wait_for_change(stream, before)
    stream.stop()
    stream.wait_for_end()
    # A day each: the first, the second after its promotion, and the first again.
    assert models_of(live) == ["first", "second", "first"]
    scored, shadow = (pq.read_table(live / name) for name in ("scores", "shadow"))
    assert scored.num_rows == arrived
    by_first = pc.starts_with(scored.column("model_id"), "first")
    assert sorted(shadow.column("transaction_id").to_pylist()) == sorted(
        scored.filter(by_first).column("transaction_id").to_pylist()
    )
    assert "score: agrees bit for bit" in printed["audit"]
    assert "too many alerts on Sunday" in printed["log"]
    assert (tmp_path / "compared/comparison.html").is_file()


def arrive(directory: Path, pattern: str, name: str) -> int:
    """Bring the files of a command `cp` to their place, at once; return their rows."""
    (source,) = directory.glob(pattern)
    shutil.copy(source, directory / "copy")
    (directory / "copy").rename(directory / name)
    return int(pq.read_metadata(source).num_rows)


def wait_for_rows(stream: Stream, out: Path, rows: int) -> None:
    assert stream.wait_until(lambda: archived(out) == rows), stream.said()


def wait_for_change(stream: Stream, before: int) -> None:
    assert stream.wait_until(lambda: stream.said().count(TAKEN_UP) > before), stream.said()


def models_of(out: Path) -> list[str]:
    """Return the names of the models that decided one after another."""
    scores = pq.read_table(out / "scores", columns=["event_time", "model_id"])
    ids = scores.sort_by("event_time").column("model_id").to_pylist()
    return [name for name, _ in groupby(one.split("@")[0] for one in ids)]
