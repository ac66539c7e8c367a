"""A table of hashes agrees with a set of them."""

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.state.deduplicate import IdTable

#: Neighbours in the table, and those that differ in the bits that do not tell them apart there.
WORDS = st.sampled_from([0, 2, 3, 5, 1 << 54, 7 << 54, (1 << 64) - 1]) | st.integers(
    0, (1 << 64) - 1
)
#: Most of them agree in one of the words with others.
HASHES = st.lists(st.tuples(WORDS, st.integers(0, 2)), max_size=40)


def wide(hashes: list[tuple[int, int]]) -> npt.NDArray[np.uint64]:
    return np.array(hashes, dtype=np.uint64).reshape(-1, 2).T


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), HASHES), max_size=12))
def test_new_hashes_are_those_never_added(
    blocks: list[tuple[bool, list[tuple[int, int]]]],
) -> None:
    table = IdTable()
    known: set[tuple[int, int]] = set()
    for adding, hashes in blocks:
        # The first word 0 is taken for 1.
        same = [(max(first, 1), second) for first, second in hashes]
        assert table.has(wide(hashes)).tolist() == [hash_ in known for hash_ in same]
        if adding:
            for hash_, new in zip(same, table.add(wide(hashes)).tolist(), strict=True):
                assert new == (hash_ not in known)
                known.add(hash_)


def test_a_hundred_thousand_hashes_are_all_found_again() -> None:
    hashes = np.random.default_rng(0).integers(0, 1 << 63, (2, 100_000)).astype(np.uint64)
    hashes[0] *= np.uint64(2)
    table = IdTable()
    for start in range(0, hashes.shape[1], 777):
        assert table.add(hashes[:, start : start + 777]).all()
    assert 16 / 0.6 <= table.nbytes / hashes.shape[1] <= 54
    assert table.has(hashes).all()
    assert not table.add(hashes).any()
    hashes[1] += np.uint64(1)
    assert not table.has(hashes).any()


def test_hashes_that_want_one_slot_all_get_one() -> None:
    together = np.zeros((2, 400), dtype=np.uint64)
    together[0] = (np.arange(400, dtype=np.uint64) << np.uint64(1)) | np.uint64(1 << 60)
    table = IdTable()
    assert table.add(together).all()
    assert not table.add(together[:, ::-1]).any()


def test_hashes_that_agree_in_their_first_word_all_get_a_slot() -> None:
    together = np.ones((2, 400), dtype=np.uint64)
    together[1] = np.arange(400)
    table = IdTable()
    assert table.add(together[:, :200]).all()
    assert table.has(together).tolist() == [True] * 200 + [False] * 200
    assert table.add(together).tolist() == [False] * 200 + [True] * 200
