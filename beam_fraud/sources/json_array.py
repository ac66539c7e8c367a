"""Convert the text of a JSON array to JSON lines, chunk by chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.sources.file_format import BYTE_ORDER_MARK

_QUOTE, _BACKSLASH, _NEWLINE, _SPACE = b'"\\\n '
_BLANK = b" \t\r\n"
#: By byte: 1 for an opening bracket, -1 for a closing one, 0 for others.
_STEP = np.zeros(256, dtype=np.int64)
_STEP[np.frombuffer(b"[{", np.uint8)] = 1
_STEP[np.frombuffer(b"]}", np.uint8)] = -1
#: By byte: whether it is white space; and whether that, a bracket or a comma.
_IS_BLANK = np.zeros(256, dtype=bool)
_IS_BLANK[np.frombuffer(_BLANK, np.uint8)] = True
_STRUCTURAL = _IS_BLANK | (_STEP != 0)
_STRUCTURAL[ord(",")] = True


def is_array(beginning: bytes) -> bool:
    """Return whether JSON text begins with an array.

    Example:
      >>> is_array(b' [{"id": 1}'), is_array(b'{"id": 1}')
      (True, False)
    """
    return beginning.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")


class ArrayLines:
    """Replace bytes, so that each element of an array is on a line of its own.

    Line ends within elements become spaces; the brackets of the array, the commas between its
    elements and white space around them become line ends. What follows the array stays as it is.
    Positions stay the same.
    """

    def __init__(self) -> None:
        #: Brackets that are open, and whether the text has begun and the array has ended.
        self._depth, self._begun, self._ended = 0, False, False
        #: Whether something else than white space followed the array.
        self._plain = False
        #: Whether the last byte was within a string, and an odd number of backslashes ended it.
        self._in_string = self._escaped = False

    def convert(self, chunk: bytes) -> bytes:
        """Return the next `chunk` of the text as lines, of the same length."""
        if self._ended:
            return self._after(chunk)
        text = np.frombuffer(chunk, dtype=np.uint8).copy()
        if not self._begun:
            # White space, and perhaps a byte order mark.
            begin = chunk.find(b"[")
            self._begun = begin >= 0
            text[: begin if self._begun else None] = _NEWLINE
        quotes, end = self._quotes(text), 0
        places = np.flatnonzero(_STRUCTURAL[text])
        within = (np.searchsorted(quotes, places) + self._in_string) % 2 == 1
        self._in_string ^= len(quotes) % 2 == 1
        places = places[~within]
        steps = _STEP[text[places]]
        depth = self._depth + np.cumsum(steps)
        ends = np.flatnonzero((depth == 0) & (steps == -1))
        if len(ends):
            last, self._ended = int(ends[0]) + 1, True
            places, steps, depth = places[:last], steps[:last], depth[:last]
            end = int(places[-1]) + 1
        # A closing bracket belongs to what it closes.
        outer = np.where(steps == -1, depth + 1, depth) <= 1
        text[places[outer]] = _NEWLINE
        inner = places[~outer]
        text[inner[_IS_BLANK[text[inner]]]] = _SPACE
        if len(depth):
            self._depth = int(depth[-1])
        if self._ended:
            return text[:end].tobytes() + self._after(chunk[end:])
        return text.tobytes()

    def _after(self, chunk: bytes) -> bytes:
        """Return what follows the array, white space at first as line ends."""
        if self._plain:
            return chunk
        rest = chunk.lstrip(_BLANK)
        self._plain = bool(rest)
        return b"\n" * (len(chunk) - len(rest)) + rest

    def _quotes(self, text: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return the places of quotes that no backslash escapes."""
        quotes = np.flatnonzero(text == _QUOTE)
        backslashes = text == _BACKSLASH
        if not (backslashes.any() or self._escaped):
            return quotes
        # The byte before each run of backslashes; -1 for a run from the last chunk.
        others = np.flatnonzero(~backslashes)
        before = np.searchsorted(others, quotes) - 1
        start = np.where(before >= 0, others[np.maximum(before, 0)], -1) if len(others) else -1
        runs = quotes - 1 - start + np.where(start == -1, self._escaped, 0)
        tail = len(text) - 1 - (int(others[-1]) if len(others) else -1)
        self._escaped = (tail + (self._escaped if not len(others) else 0)) % 2 == 1
        unescaped: npt.NDArray[np.int64] = quotes[runs % 2 == 0]
        return unescaped
