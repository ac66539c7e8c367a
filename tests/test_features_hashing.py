"""Hashes of ids are SipHash under a key that nobody knows who chooses ids."""

import pickle
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.features.velocity.columns import part_of
from beam_fraud.shards.id_table import IdTable
from tests.chosen_ids import COLLIDING, COLLIDING_ACCOUNTS, ids_of_one_sequence

_ALL = (1 << 64) - 1
TEXTS = st.lists(st.text(max_size=40) | st.sampled_from(["", "1234567", "12345678", "x" * 256]))
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


def siphash(
    key: bytes, text: bytes, *, words: int, compress: int = 1, finish: int = 3
) -> list[int]:
    """The algorithm as it is published, in Python's integers."""
    low, high = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D]
    v += [low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]
    v[1] ^= 0xEE if words == 2 else 0

    def rotated(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (64 - bits))) & _ALL

    def rounds(number: int) -> None:
        for _ in range(number):
            v[0] = (v[0] + v[1]) & _ALL
            v[1] = rotated(v[1], 13) ^ v[0]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[3]) & _ALL
            v[3] = rotated(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & _ALL
            v[3] = rotated(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & _ALL
            v[1] = rotated(v[1], 17) ^ v[2]
            v[2] = rotated(v[2], 32)

    padded = text + bytes(7 - len(text) % 8) + bytes([len(text) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(compress)
        v[0] ^= word
    v[2] ^= 0xEE if words == 2 else 0xFF
    hashes = []
    for number in range(words):
        v[1] ^= 0xDD if number else 0
        rounds(finish)
        hashes.append(v[0] ^ v[1] ^ v[2] ^ v[3])
    return hashes


def test_the_slow_siphash_gives_what_its_authors_published() -> None:
    key = bytes(range(16))
    of_fifteen = siphash(key, bytes(range(15)), words=1, compress=2, finish=4)
    assert of_fifteen == [0xA129CA6149BE45E5]
    of_nothing = siphash(key, b"", words=2, compress=2, finish=4)
    assert b"".join(w.to_bytes(8, "little") for w in of_nothing).hex() == (
        "a3817f04ba25a8e66df67214c7550293"
    )


@settings(deadline=None)
@given(KEYS, TEXTS, st.integers(0, 3))
def test_every_hash_is_that_of_the_slow_siphash(key: bytes, texts: list[str], cut: int) -> None:
    hashing, ids = IdHash(key), pa.array(texts, pa.string()).slice(cut)
    texts = texts[cut:]
    assert hashing.of(ids).tolist() == [siphash(key, t.encode(), words=1)[0] for t in texts]
    assert hashing.wide(ids).T.tolist() == [siphash(key, t.encode(), words=2) for t in texts]


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
    with pytest.raises(ValueError, match="15 bytes"):
        IdHash(bytes(15))


def test_hashes_of_streams_from_before_keys_stay_as_they_were() -> None:
    ids = pa.array(["", "a", "12345678", "a longer id than a word", *COLLIDING])
    assert [hex(hash_) for hash_ in UNKEYED.of(ids).tolist()] == EARLIER
    assert (UNKEYED.wide(ids) == [UNKEYED.of(ids), np.zeros(len(ids))]).all()
    together = UNKEYED.of_columns([ids[:1], ids[1:2]])
    assert hex(together[0]) == EARLIER_TOGETHER


@pytest.mark.parametrize("ids", [COLLIDING, COLLIDING_ACCOUNTS])
def test_ids_chosen_to_hash_alike_do_so_only_without_a_key(ids: tuple[str, str]) -> None:
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


def test_ids_chosen_for_one_sequence_of_slots_cost_what_others_cost() -> None:
    """Without a key each has to step over all that came before it."""
    chosen = ids_of_one_sequence()[:12_000]
    others = pa.array([f"{number:016}" for number in range(len(chosen))])
    hashing = IdHash.random()
    usual = min(seconds_to_add(hashing, others) for _ in range(3))
    assert min(seconds_to_add(hashing, chosen) for _ in range(3)) < 3 * usual
    assert seconds_to_add(UNKEYED, chosen) > 10 * usual, "they are chosen well"


def seconds_to_add(hashing: IdHash, ids: pa.StringArray) -> float:
    """Processor seconds that blocks of a thousand take in a table that has as many slots anyway."""
    table = IdTable()
    filling = np.random.default_rng(0).integers(0, 1 << 63, (2, 400_000)).astype(np.uint64)
    table.add(filling << np.uint64(1))
    started = time.process_time()
    for start in range(0, len(ids), 1_000):
        assert table.add(hashing.wide(ids[start : start + 1_000])).all()
    return time.process_time() - started
