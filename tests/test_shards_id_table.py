"""A table of hashes says what a set of them would say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.shards.id_table import IdTable

#: Neighbours in the table, and those that differ in the bits that do not tell them apart there.
HASHES = st.sampled_from([0, 2, 3, 5, 1 << 54, 7 << 54, (1 << 64) - 1]) | st.integers(
    0, (1 << 64) - 1
)
BLOCKS = st.lists(
    st.tuples(st.sampled_from(["add", "next"]), st.lists(HASHES, max_size=40)), max_size=12
)


@settings(deadline=None)
@given(BLOCKS)
def test_what_is_new_is_what_neither_generation_has(blocks: list[tuple[str, list[int]]]) -> None:
    table, generation = IdTable(), 0
    known: list[set[int]] = [set(), set()]
    for what, hashes in blocks:
        if what == "next":
            known = [known[1], set()]
            table.forget(generation - 1)
            generation += 1
        added = table.add(np.array(hashes, dtype=np.uint64), generation)
        for number, new in zip(hashes, added.tolist(), strict=True):
            # The last bit is not looked at, and the hashes 0 and 1 are taken for 2 and 3.
            same = max(number | 1, 3)
            assert new == (same not in known[0] | known[1])
            known[1] |= {same} - known[0]


def test_a_hundred_thousand_hashes_are_all_found_again_and_forgotten() -> None:
    hashes = np.random.default_rng(0).integers(0, 1 << 63, 100_000).astype(np.uint64) * np.uint64(2)
    table = IdTable()
    for start in range(0, len(hashes), 777):
        assert table.add(hashes[start : start + 777], start % 2).all()
    assert 16 <= table.nbytes / len(hashes) <= 32
    assert not table.add(hashes, 1).any()
    table.forget(0)
    assert table.nbytes / (len(hashes) / 2) <= 32
    even = np.arange(len(hashes)) // 777 % 2 == 0
    assert (table.add(hashes, 0) == even).all()


def test_hashes_that_want_one_slot_all_get_one() -> None:
    together = (np.arange(400, dtype=np.uint64) << np.uint64(1)) | np.uint64(1 << 60)
    table = IdTable()
    assert table.add(together, 0).all()
    assert not table.add(together[::-1], 1).any()
