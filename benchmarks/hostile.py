"""Messages that are not valid transactions, of every kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: A transaction that each of them spoils.
_GOOD = {
    "TRANSACTION_ID": "hostile",
    "TX_DATETIME": "2018-08-01T12:00:00",
    "CUSTOMER_ID": 1,
    "TERMINAL_ID": 2,
    "TX_AMOUNT": 12.5,
}
#: Bytes of the largest ones.
LARGEST = 10 << 20
#: One in so many is of that size.
_RARELY = 20_000
#: How deep the deep ones are nested.
_DEPTH = 3_000


@dataclass(frozen=True)
class Hostile:
    """A message and the allowed reasons of its dead letter."""

    #: What kind it is of.
    kind: str
    #: The message.
    payload: bytes
    #: Reasons that would be right.
    reasons: frozenset[str]


def hostile_messages(count: int, seed: int, *, largest: int = LARGEST) -> Iterator[Hostile]:
    """Return hostile messages, every kind about as often, a few of them very large.

    Args:
      count: how many.
      seed: the same one gives the same messages.
      largest: bytes of the very large ones, the first two of every 20,000.
    """
    draw = random.Random(seed)
    for number in range(count):
        if number % _RARELY == 0:
            yield _hostile("large", b"x" * largest, "malformed")
        elif number % _RARELY == 1:
            padded = json.dumps({"TRANSACTION_ID": number, "pad": "x" * largest}).encode()
            yield _hostile("large object", padded, "missing_time")
        else:
            yield draw.choice(_KINDS)(draw)


def _hostile(kind: str, payload: bytes, *reasons: str) -> Hostile:
    return Hostile(kind, payload, frozenset(reasons))


def _spoilt(**changed: object) -> bytes:
    return json.dumps({**_GOOD, **changed}).encode()


def _raw(column: str, value: bytes) -> bytes:
    """Return a transaction with a raw value, which need not be JSON."""
    spoilt = json.dumps({**_GOOD, column: "@"}).encode()
    return spoilt.replace(b'"@"', value)


def _cut(draw: random.Random) -> bytes:
    whole = json.dumps(_GOOD).encode()
    return whole[: draw.randrange(1, len(whole) - 1)]


_KINDS: tuple[Callable[[random.Random], Hostile], ...] = (
    lambda _: _hostile("empty", b"", "malformed"),
    lambda draw: _hostile("blank", b" \r\n\t"[: draw.randrange(1, 5)], "malformed"),
    lambda draw: _hostile("cut off", _cut(draw), "malformed"),
    lambda draw: _hostile("noise", b"\xff" + draw.randbytes(60), "malformed"),
    lambda _: _hostile("zeros", b"\0" * 60, "malformed"),
    lambda _: _hostile("zero inside", _raw("CUSTOMER_ID", b'"a\0b"'), "malformed"),
    lambda _: _hostile("two at once", json.dumps(_GOOD).encode() * 2, "malformed"),
    lambda _: _hostile("deep lists", b"[" * _DEPTH, "malformed", "wrong_type"),
    lambda _: _hostile(
        "deep objects", b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH, "malformed", "wrong_type"
    ),
    lambda draw: _hostile(
        "no object", draw.choice((b"42", b"null", b"[]", b'"text"', b"true")), "wrong_type"
    ),
    lambda _: _hostile("not UTF-8", _raw("CUSTOMER_ID", b'"\xc3\x28\xff"'), "malformed"),
    lambda draw: _hostile(
        "id of a wrong type", _spoilt(TRANSACTION_ID=draw.choice(({}, [], 1.5, True))), "wrong_type"
    ),
    lambda draw: _hostile(
        "amount of a wrong type",
        _spoilt(TX_AMOUNT=draw.choice(([1.0], {}, "plenty", True))),
        "wrong_type",
    ),
    lambda _: _hostile("long id", _spoilt(TRANSACTION_ID="7" * 400), "too_long"),
    lambda _: _hostile("large id", _raw("TRANSACTION_ID", b"9" * 400), "too_long", "wrong_type"),
    lambda draw: _hostile(
        "large amount",
        _raw("TX_AMOUNT", draw.choice((b"1e300", b"1e15", b"9" * 300))),
        "too_large",
        "wrong_type",
    ),
    lambda _: _hostile("endless amount", _raw("TX_AMOUNT", b"1e400"), "malformed", "wrong_type"),
    lambda _: _hostile("no number", _spoilt(TX_AMOUNT="nan"), "missing_amount"),
    lambda _: _hostile("negative amount", _spoilt(TX_AMOUNT=-1), "negative_amount"),
    lambda _: _hostile("no time", _spoilt(TX_DATETIME=None), "missing_time"),
    lambda _: _hostile("no such time", _spoilt(TX_DATETIME="2018-02-30"), "unparseable_time"),
    lambda _: _hostile("time of long ago", _spoilt(TX_DATETIME=-1e12), "impossible_time"),
    lambda _: _hostile("no account", _spoilt(CUSTOMER_ID=None), "missing_id"),
)
