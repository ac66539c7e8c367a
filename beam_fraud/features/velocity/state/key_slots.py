"""Small numbers for keys: hashes of any keys become 0, 1, 2, .. in the order they are met."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes

Integers = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int32]

_NO_KEYS = np.zeros(0, dtype=np.uint64)
_NO_SLOTS = np.zeros(0, dtype=np.int32)
#: New keys are kept apart from the many until there are this many of them, or this part.
_RECENT, _RECENT_PART = 1000, 1 / 16


class KeySlots:
    """The slot of every key met so far, in 12 bytes a key.

    Most keys lie in one sorted array; those met lately lie in a small one, which keeps an insertion
    cheap however many keys there are.

    Example:
      >>> slots = KeySlots()
      >>> slots.of(np.array([70, 30, 70], dtype=np.uint64)).tolist()
      [1, 0, 1]
      >>> slots.of(np.array([50, 30], dtype=np.uint64)).tolist()
      [2, 0]
    """

    def __init__(self) -> None:
        #: How many slots are given out.
        self.count = 0
        self._keys, self._slots = _NO_KEYS, _NO_SLOTS
        self._recent, self._recent_slots = _NO_KEYS, _NO_SLOTS

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self._keys, self._slots, self._recent, self._recent_slots)
        return sum(array.nbytes for array in arrays)

    def of(self, keys: Hashes) -> Integers:
        """Slots of keys; a new key gets the next free slot.

        Args:
          keys: uint64[n].

        Returns:
          int64[n].
        """
        slots, missed = _found(self._keys, self._slots, keys)
        if len(missed):
            recent, new = _found(self._recent, self._recent_slots, keys[missed])
            if len(new):
                self._add(np.unique(keys[missed[new]]))
                recent, _ = _found(self._recent, self._recent_slots, keys[missed])
            slots[missed] = recent
            if len(self._recent) > max(_RECENT, len(self._keys) * _RECENT_PART):
                self._settle()
        return slots.astype(np.int64)

    def keys(self) -> Hashes:
        """The key of every slot, uint64[count]."""
        self._settle()
        keys = np.empty(self.count, dtype=np.uint64)
        keys[self._slots] = self._keys
        return keys

    def keep(self, used: npt.NDArray[np.bool_]) -> Integers:
        """Forget the keys of all other slots and give out new slots, in the order of the old.

        Args:
          used: bool[count], which slots are still in use.

        Returns:
          int64[count]: new slots of the old, anything where a slot is not used.
        """
        self._settle()
        renumbered = np.cumsum(used) - 1
        kept = used[self._slots]
        self._keys = self._keys[kept]
        self._slots = renumbered[self._slots[kept]].astype(np.int32)
        self.count = len(self._keys)
        return renumbered

    def _add(self, distinct: Hashes) -> None:
        places = self._recent.searchsorted(distinct)
        slots = np.arange(self.count, self.count + len(distinct), dtype=np.int32)
        self._recent = np.insert(self._recent, places, distinct)
        self._recent_slots = np.insert(self._recent_slots, places, slots)
        self.count += len(distinct)

    def _settle(self) -> None:
        keys = np.concatenate((self._keys, self._recent))
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._slots = np.concatenate((self._slots, self._recent_slots))[order]
        self._recent, self._recent_slots = _NO_KEYS, _NO_SLOTS


def _found(known: Hashes, slots: Slots, keys: Hashes) -> tuple[Slots, Integers]:
    """Slots of the keys, anything where a key is not known, and the places of those."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.int32), np.arange(len(keys))
    places = known.searchsorted(keys)
    np.minimum(places, len(known) - 1, out=places)
    return slots[places], np.flatnonzero(known[places] != keys)
