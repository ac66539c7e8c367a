"""Hashes of ids are AES-CMAC under a secret key."""

import pickle
import time

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.features.velocity.columns import part_of
from beam_fraud.state.deduplicate import IdTable
from tests.chosen_ids import COLLIDING, COLLIDING_ACCOUNTS, ids_of_one_sequence

TEXTS = st.lists(
    st.text(max_size=40)
    | st.sampled_from(["", "1234567", "12345678", "x" * 16, "y" * 32, "x" * 256])
)
#: What the version before keys gave for these.
EARLIER = [
    "0x3ad7e0ab23f5aaff",
    "0x1a53ffc94aaa618c",
    "0xf47588dce18673c6",
    "0x95fe731d296750a4",
    "0x7e46526bdb4b2145",
    "0x7e46526bdb4b2145",
]
EARLIER_TOGETHER = "0x644a053953767f36"
KEYS = st.binary(min_size=16, max_size=16)


def cmac(key: bytes, text: bytes) -> bytes:
    """Compute one message at a time by the library."""
    one = CMAC(AES(key))
    one.update(text)
    return one.finalize()


@settings(deadline=None)
@given(KEYS, TEXTS, st.integers(0, 3))
def test_every_hash_is_the_cmac_of_its_id(key: bytes, texts: list[str], cut: int) -> None:
    hashing, ids = IdHash(key), pa.array(texts, pa.string()).slice(cut)
    expected = [cmac(key, text.encode()) for text in texts[cut:]]
    assert [hash_.tobytes() for hash_ in hashing.wide(ids).T] == expected
    assert [hash_.tobytes() for hash_ in hashing.of(ids)] == [tag[:8] for tag in expected]
    assert [hash_.tobytes() for hash_ in hashing.of_several(texts[cut:]).T] == expected
    assert hashing.of_few(texts[cut:]) == list(map(tuple, hashing.wide(ids).T.tolist()))


def test_blocks_are_hashed_as_their_rows_are() -> None:
    hashing = IdHash.random()
    ids = pa.array([f"id-{number:0{number % 23}}" for number in range(20_000)])
    whole, wide = hashing.of(ids), hashing.wide(ids)
    for start in (0, 1, 8_191, 8_192, 19_999):
        assert hashing.of(ids[start : start + 1])[0] == whole[start]
        assert (hashing.wide(ids[start : start + 9]) == wide[:, start : start + 9]).all()


def test_a_key_is_the_same_in_every_process_and_shown_nowhere() -> None:
    hashing, ids = IdHash.random(), pa.array(["a"])
    again = pickle.loads(pickle.dumps(hashing))
    assert again.of(ids) == hashing.of(ids)
    assert IdHash.random().of(ids) != hashing.of(ids)
    assert hashing.fingerprint == again.fingerprint != IdHash.random().fingerprint
    assert 0 < hashing.fingerprint < 1 << 63
    assert UNKEYED.fingerprint == 0
    assert repr(hashing) == "IdHash()"
    with pytest.raises(ValueError, match="15 bytes, not 16"):
        IdHash(bytes(15))


def test_hashes_of_streams_from_before_keys_stay_as_they_were() -> None:
    ids = pa.array(["", "a", "12345678", "a longer id than a word", *COLLIDING])
    assert [hex(hash_) for hash_ in UNKEYED.of(ids).tolist()] == EARLIER
    assert (UNKEYED.wide(ids) == [UNKEYED.of(ids), np.zeros(len(ids))]).all()
    together = UNKEYED.of_columns([ids[:1], ids[1:2]])
    assert hex(together[0]) == EARLIER_TOGETHER


@pytest.mark.parametrize("ids", [COLLIDING, COLLIDING_ACCOUNTS])
def test_ids_chosen_to_collide_do_so_only_without_a_key(ids: tuple[str, str]) -> None:
    pair, hashing = pa.array(ids), IdHash.random()
    assert len(set(UNKEYED.of(pair).tolist())) == 1
    assert len(set(hashing.of(pair).tolist())) == 2
    assert (hashing.wide(pair)[:, 0] != hashing.wide(pair)[:, 1]).all()


def test_columns_are_hashed_in_their_order_and_by_their_bounds() -> None:
    hashing = IdHash.random()
    left, right = pa.array(["ab", "a", "c"]), pa.array(["c", "bc", "ab"])
    first, second, turned = hashing.of_columns([left, right]).tolist()
    assert len({first, second, turned}) == 3
    assert hashing.of_columns([right, left])[2] == first
    assert hashing.of_columns([left]).tolist() == hashing.of(left).tolist()
    many = pa.array([str(number) for number in range(10_000)])
    together = hashing.of_columns([many, many])
    assert together[9_999] == hashing.of_columns([many[9_999:], many[9_999:]])[0]


def test_ids_chosen_for_one_shard_are_spread_over_all() -> None:
    ids = pa.array([f"{number:016}" for number in range(100_000)])
    batch = pa.record_batch({"account_id": ids})
    chosen = batch.filter(pa.array(part_of(batch, ["account_id"], 16, UNKEYED) == 3))
    rows = np.bincount(part_of(chosen, ["account_id"], 16, IdHash.random()).astype(np.int64))
    assert len(rows) == 16
    assert rows.max() < 2 * rows.min()


def test_ids_chosen_for_one_sequence_of_slots_are_as_fast_as_others() -> None:
    """Without a key, each id would step over all earlier ones."""
    chosen = ids_of_one_sequence()[:8_000]
    others = pa.array([f"{number:016}" for number in range(len(chosen))])
    hashing = IdHash.random()
    typical = min(seconds_to_add(hashing, others) for _ in range(3))
    assert min(seconds_to_add(hashing, chosen) for _ in range(3)) < 3 * typical
    assert seconds_to_add(UNKEYED, chosen) > 10 * typical, "they are chosen well"


def seconds_to_add(hashing: IdHash, ids: pa.StringArray) -> float:
    """Return processor seconds to add blocks of a thousand ids to a table without resizing."""
    table = IdTable()
    filling = np.random.default_rng(0).integers(0, 1 << 63, (2, 400_000)).astype(np.uint64)
    table.add(filling << np.uint64(1))
    started = time.process_time()
    for start in range(0, len(ids), 1_000):
        assert table.add(hashing.wide(ids[start : start + 1_000])).all()
    return time.process_time() - started
