"""The first position of an id wins."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.hashing import IdHash
from beam_fraud.records import duplicates
from beam_fraud.records.duplicates import SeenIds, repeated

HASH = IdHash.random()
IDS = st.lists(st.text(max_size=20) | st.sampled_from(["a", "b", "a\0", "12345678", "123456789"]))
#: Hashes of which the first, or the second, words often agree.
WORDS = st.sampled_from([0, 1, 1 << 61, 1 << 63, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
HASHES = st.lists(st.tuples(WORDS, WORDS), max_size=12)


@settings(deadline=None)
@given(st.lists(IDS))
def test_first_times_are_those_of_a_set(blocks: list[list[str]]) -> None:
    seen, known = SeenIds(), set()
    for block in blocks:
        first = seen.first_time(pa.array(block, pa.string()))
        for id, is_first in zip(block, first.tolist(), strict=True):
            assert is_first == (id not in known)
            known.add(id)


@settings(deadline=None)
@given(IDS, st.data())
def test_repeated_rows_are_all_but_the_earliest(ids: list[str], data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(ids)))), dtype=np.int64)
    known: set[str] = set()
    late = []
    for place in np.argsort(order):
        if ids[place] in known:
            late.append(int(place))
        known.add(ids[place])
    hashes = HASH.wide(pa.array(ids, pa.string()))
    assert repeated(hashes, order).tolist() == sorted(late)
    assert repeated(hashes, np.zeros(len(ids), dtype=np.int64), order).tolist() == sorted(late)


@settings(deadline=None)
@given(IDS, IDS)
def test_a_hash_depends_on_its_id_alone(before: list[str], ids: list[str]) -> None:
    together = pa.array([*before, *ids], pa.string())
    hashes = HASH.of(pa.array(ids, pa.string()))
    assert (HASH.of(together)[len(before) :] == hashes).all()
    assert (HASH.of(together[len(before) :]) == hashes).all()
    assert len(set(hashes.tolist())) == len(set(ids))


def test_a_million_ids_have_a_million_hashes_spread_evenly() -> None:
    hashes = HASH.of(pa.array(np.arange(1_000_000)).cast(pa.string()))
    assert len(np.unique(hashes)) == 1_000_000
    for shift in (0, 30, 60):
        counts = np.bincount((hashes >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
        assert abs(counts - 62_500).max() < 1_500


def test_ids_take_sixteen_bytes_each() -> None:
    seen = SeenIds()
    for start in range(0, 200_000, 10_000):
        ids = pa.array(np.arange(start, start + 10_000)).cast(pa.string())
        assert seen.first_time(ids).all()
    assert seen.nbytes == 16 * 200_000


@settings(deadline=None)
@given(st.lists(HASHES, max_size=30), st.integers(1, 8))
def test_pieces_of_any_size_remember_the_same(
    blocks: list[list[tuple[int, int]]], piece: int
) -> None:
    seen, known = SeenIds(), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_PIECE", piece)
        for block in blocks:
            hashes = np.array(block, dtype=np.uint64).reshape(-1, 2).T
            first = seen.first_of(hashes)
            for one, is_first in zip(block, first.tolist(), strict=True):
                assert is_first == (one not in known)
                known.add(one)
    assert seen.nbytes == 16 * len(known)


def test_merging_holds_few_ids_twice() -> None:
    """Merging the two longest runs held half as much again in memory."""
    random = np.random.default_rng(0)
    seen, rows, block = SeenIds(), 1_600_000, 25_000
    tracemalloc.start()
    try:
        for _ in range(rows // block):
            hashes = random.integers(1 << 64, size=(2, block), dtype=np.uint64)
            assert seen.first_of(hashes).all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Some pieces, and what a block takes.
    assert peak < 16 * rows + 12_000_000
