"""A journaled checkpoint holds what was committed, whatever happened between."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage import journal
from beam_fraud.storage.checkpoint import FOREVER, LocalCheckpoint
from beam_fraud.storage.journal import JournaledCheckpoint
from beam_fraud.storage.journal_file import JournalFile
from tests.failing import fails


class Joining:
    """A shard whose deltas merge by joining."""

    needed_from = -(1 << 63)

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        return b"".join(deltas)


def opened(path: Path) -> JournaledCheckpoint:
    checkpoint = JournaledCheckpoint(path)
    checkpoint.open["ids", 0] = Joining
    return checkpoint


def text(checkpoint: JournaledCheckpoint, step: str) -> bytes:
    return b"".join(checkpoint.deltas(step, 0))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("replace"), st.binary(min_size=1, max_size=3)),
        st.tuples(
            st.sampled_from(["commit", "fold", "begin fold", "end fold", "reopen", "discard"]),
            st.just(b""),
        ),
    ),
    max_size=30,
)


@settings(max_examples=40)
@given(steps)
def test_it_returns_what_was_kept(steps: list[tuple[str, bytes]]) -> None:
    """`ids` are merged by folds, `rows` are replaced at times."""
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = opened(Path(directory) / "state.db")
        committed, kept = {"ids": b"", "rows": b""}, {"ids": b"", "rows": b""}
        for what, data in steps:
            if what == "keep":
                checkpoint.keep("ids", 0, [(data, len(kept["ids"]))])
                checkpoint.keep("rows", 0, [(data, FOREVER)])
                kept = {name: before + data for name, before in kept.items()}
            elif what == "replace":
                checkpoint.keep("rows", 0, [(data, FOREVER)], replaces=True)
                kept["rows"] = data
            elif what in ("commit", "fold"):
                checkpoint.commit({}, fold=what == "fold")
                committed = dict(kept)
            elif what == "begin fold":
                checkpoint.begin_fold()
            elif what == "end fold":
                checkpoint.end_fold()
            elif what == "discard":
                checkpoint.discard()
                kept = dict(committed)
            else:
                checkpoint.close()
                checkpoint = opened(Path(directory) / "state.db")
                kept = dict(committed)
            assert {name: text(checkpoint, name) for name in kept} == kept
        checkpoint.close()


def test_a_commit_that_failed_is_part_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened(tmp_path / "state.db")
    checkpoint.keep("ids", 0, [(b"a", 1)])
    checkpoint.commit({"t:0": "1"})

    def full(self: LocalCheckpoint, *changes: object) -> None:
        raise FraudError("the disk is full", Code.OUTPUT_UNWRITABLE)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "append", full)
        patch.setattr(LocalCheckpoint, "commit", full)
        for fold in (False, True):
            checkpoint.keep("ids", 0, [(b"b", 2)])
            with fails(Code.OUTPUT_UNWRITABLE):
                checkpoint.commit({"t:0": "2"}, fold=fold)
    checkpoint.commit({"t:0": "3"}, fold=True)
    checkpoint.close()
    checkpoint = opened(tmp_path / "state.db")
    assert text(checkpoint, "ids") == b"abb"
    assert checkpoint.positions == {"t:0": "3"}
    assert checkpoint.records == 0


def test_a_fold_merges_the_deltas_of_a_shard(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "state.db")
    for number in range(5):
        checkpoint.keep("ids", 0, [(b"%d" % number, number)])
        checkpoint.commit({})
    assert checkpoint.records == 5
    checkpoint.commit({}, fold=True)
    assert checkpoint.deltas("ids", 0) == [b"01234"]
    checkpoint.close()


def test_commits_go_on_while_a_fold_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    checkpoint = opened(path)
    for number in range(3):
        checkpoint.keep("ids", 0, [(b"%d" % number, number)])
        checkpoint.commit({"t:0": str(number)})
    assert checkpoint.begin_fold()

    def full(self: LocalCheckpoint, *changes: object) -> None:
        raise FraudError("the disk is full", Code.OUTPUT_UNWRITABLE)

    with monkeypatch.context() as patch:
        patch.setattr(LocalCheckpoint, "commit", full)
        for number in range(3, 6):
            with fails(Code.OUTPUT_UNWRITABLE):
                checkpoint.end_fold()
            checkpoint.keep("ids", 0, [(b"%d" % number, number)])
            checkpoint.commit({"t:0": str(number)})
    assert text(checkpoint, "ids") == b"012345"
    checkpoint.close()
    # What a process leaves that ends here.
    checkpoint = opened(path)
    assert (text(checkpoint, "ids"), checkpoint.positions) == (b"012345", {"t:0": "5"})
    checkpoint.end_fold()
    checkpoint.close()
    checkpoint = opened(path)
    assert (text(checkpoint, "ids"), checkpoint.records) == (b"012345", 3)
    assert checkpoint.base.deltas("ids", 0) == [b"012"]
    checkpoint.close()


@pytest.mark.parametrize("killed", [None, 1, 2, 3, 4])
def test_commits_between_the_parts_of_a_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int | None
) -> None:
    """And what is left of a process that ends between two parts."""
    monkeypatch.setattr(journal, "_MERGED_AT_ONCE", 2)
    path = tmp_path / "state.db"
    checkpoint, pauses = opened(path), 0
    for number in range(5):
        checkpoint.keep("ids", 0, [(b"%d" % number, number)])
        checkpoint.commit({"t:0": str(number)})
    assert checkpoint.begin_fold()

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == killed:
            raise KeyboardInterrupt
        checkpoint.keep("ids", 0, [(b"%d" % (4 + pauses), 4 + pauses)])
        checkpoint.commit({"t:0": str(4 + pauses)})

    if killed is None:
        checkpoint.end_fold(pause)
    else:
        with pytest.raises(KeyboardInterrupt):
            checkpoint.end_fold(pause)
        pauses -= 1
    checkpoint.close()
    checkpoint = opened(path)
    written = b"0123456789"[: 5 + pauses]
    assert pauses >= (3 if killed is None else killed - 1)
    assert (text(checkpoint, "ids"), checkpoint.positions) == (written, {"t:0": str(4 + pauses)})
    checkpoint.commit({}, fold=True)
    assert b"".join(checkpoint.base.deltas("ids", 0)) == written
    checkpoint.close()


def test_other_threads_see_each_change_once_during_a_fold(tmp_path: Path) -> None:
    checkpoint, ended = opened(tmp_path / "state.db"), threading.Event()
    seen = list[bytes]()

    def look() -> None:
        while not ended.is_set():
            seen.append(b"".join(checkpoint.stored("rows", 0)))
            checkpoint.end_fold()

    looking = threading.Thread(target=look)
    looking.start()
    written = b""
    for number in range(200):
        checkpoint.keep("rows", 0, [(b"%d," % number, FOREVER)])
        checkpoint.commit({})
        written += b"%d," % number
        if number % 7 == 0:
            checkpoint.begin_fold()
    ended.set()
    looking.join()
    assert all(written.startswith(one) for one in seen)
    assert checkpoint.stored("rows", 0) == checkpoint.deltas("rows", 0)
    assert text(checkpoint, "rows") == written
    checkpoint.close()


def journaled(path: Path) -> Path:
    """Return the journal of a checkpoint with three commits of ten bytes."""
    checkpoint = opened(path)
    checkpoint.keep("ids", 0, [(b"0" * 10, FOREVER)])
    checkpoint.commit({}, fold=True)
    for digit in (b"1", b"2", b"3"):
        checkpoint.keep("ids", 0, [(digit * 10, FOREVER)])
        checkpoint.commit({})
    checkpoint.close()
    return path.with_suffix(".journal")


def test_a_torn_last_append_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    file = journaled(path)
    data = file.read_bytes()
    end = data.index(b"3" * 10)
    for torn in (data[:end], data[: end + 5], data[:end] + bytes(len(data) - end)):
        file.write_bytes(torn)
        checkpoint = opened(path)
        assert text(checkpoint, "ids") == b"0" * 10 + b"1" * 10 + b"2" * 10
        checkpoint.close()
    checkpoint = opened(path)
    checkpoint.keep("ids", 0, [(b"4", FOREVER)])
    checkpoint.commit({})
    checkpoint.close()
    checkpoint = opened(path)
    assert text(checkpoint, "ids")[-2:] == b"24"
    checkpoint.close()


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    file = journaled(path)
    file.write_bytes(file.read_bytes().replace(b"2" * 10, b"2" * 9 + b"1"))
    with fails(Code.STATE_UNREADABLE, "state.journal"):
        opened(path)


def test_records_of_before_a_fold_are_none(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    file = journaled(path)
    before = file.read_bytes()
    checkpoint = opened(path)
    checkpoint.commit({}, fold=True)
    checkpoint.close()
    assert file.read_bytes() == before
    checkpoint = opened(path)
    assert checkpoint.records == 0
    checkpoint.keep("ids", 0, [(b"4", FOREVER)])
    checkpoint.commit({})
    checkpoint.close()
    checkpoint = opened(path)
    assert checkpoint.records == 1
    assert text(checkpoint, "ids") == b"0" * 10 + b"1" * 10 + b"2" * 10 + b"3" * 10 + b"4"
    checkpoint.close()
