"""Read members of JSON objects that are all written alike, without Python's objects for them.

A program writes the objects of an array with the same members, in the same order, with the same
blanks. So what is between their values is the same text in each object, and a comma follows each
value but the last. To compare that text and to cut out the values takes a few steps of NumPy and
Arrow for all objects together, most of which do not hold the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from beam_fraud.records.text import together

_BLANK = rb"[ \t\r\n]*"
#: A member of the first object: up to its value, the value and what follows up to a comma or the
#: end of the object.
_MEMBER = re.compile(
    rb'(?P<before>%b"(?P<name>[A-Za-z0-9_-]+)"%b:%b(?P<quote>"?))'
    rb'(?P<value>[^ \t\r\n"\\,{}\[\]](?:[^"\\,{}\[\]]*[^ \t\r\n"\\,{}\[\]])?)'
    rb"(?P<after>(?P=quote)%b)(?P<end>[,}])" % (_BLANK, _BLANK, _BLANK, _BLANK)
)
#: What is before the members of the first object, between two objects, and after the last member.
_BEGIN = re.compile(rb"%b\[%b\{" % (_BLANK, _BLANK))
_BETWEEN = re.compile(rb"%b,(%b\{)" % (_BLANK, _BLANK))
_END = re.compile(rb"\}%b\]%b" % (_BLANK, _BLANK))
_COMMA, _BRACE = ord(","), ord("{")


@dataclass(frozen=True)
class Written:
    """The values of a member of n objects, as they are written."""

    #: string[n], without quotes.
    texts: pa.StringArray
    #: Whether quotes are around them.
    quoted: bool


@dataclass(frozen=True)
class _Layout:
    """The text around the values of an object."""

    #: Names of the members.
    names: tuple[str, ...]
    #: Whether their values have quotes.
    quoted: tuple[bool, ...]
    #: Where the first value of the first object begins.
    begin: int
    #: What is before each value, after the comma of the one before; and after it, before the comma.
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    #: What is after the last value of an object, before its brace.
    last: bytes

    @property
    def repeated(self) -> bytes:
        """The text between the first value of an object and that of the next one."""
        following = (*self.before[1:], self.before[0])
        return b"".join(
            after + b"," + before for after, before in zip(self.after, following, strict=True)
        )


def alike_members(
    body: bytes, objects: int, names: Collection[str]
) -> Mapping[str, Written] | None:
    """Return values of members of all objects of an array.

    Args:
      body: a valid JSON array.
      objects: number of its elements, n > 0.
      names: the members, at least one.

    Returns:
      Name to values. A value is what is between the text before and after it: the caller has to
      check that it has no other characters than values that it knows. None if the elements are not
      objects that are written like the first one, or lack a member.

    Example:
      >>> found = alike_members(b'[{"a": 1, "b": "x"}, {"a": 25, "b": "yz"}]', 2, ["b"])
      >>> found["b"].texts.to_pylist(), found["b"].quoted
      (['x', 'yz'], True)
      >>> alike_members(b'[{"a": 1}, {"a":2}]', 2, ["a"]) is None
      True
    """
    layout, brace = _layout(body), body.rfind(b"}")
    if layout is None or not set(names).issubset(layout.names) or not _END.fullmatch(body, brace):
        return None
    # Names and numbers have no comma, and one in a text would be followed by what ends the text:
    # the quote before the name of the next member, which cannot follow in valid JSON.
    characters = np.frombuffer(body, dtype=np.uint8)
    commas = np.flatnonzero(characters == _COMMA)
    members = len(layout.names)
    if len(commas) != objects * members - 1:
        return None
    # A value that is not read may open a brace, and a later one close it: what is between them
    # would pass for members of the record. Readers refuse a brace in a value that is read.
    if len(names) < members and np.count_nonzero(characters == _BRACE) != objects:
        return None
    #: Begin and end of each value, in turn.
    bounds = np.empty((objects, members, 2), dtype=np.int32)
    bounds.reshape(-1)[2::2] = commas + 1
    bounds.reshape(-1)[1:-1:2] = commas
    bounds[:, :, 0] += np.array(list(map(len, layout.before)), dtype=np.int32)
    bounds[:, :, 1] -= np.array(list(map(len, layout.after)), dtype=np.int32)
    bounds[0, 0, 0], bounds[-1, -1, 1] = layout.begin, brace - len(layout.last)
    if (bounds[:, :, 0] >= bounds[:, :, 1]).any() or not body.endswith(layout.last, 0, brace):
        return None
    pieces = pa.StringArray.from_buffers(
        2 * objects * members - 1, pa.py_buffer(bounds), pa.py_buffer(body)
    )
    between = together(pieces.take(_places(1, 2, objects * members - 1)))
    if between != (layout.repeated * objects)[: len(between)]:
        return None
    return {
        name: Written(pieces.take(_places(2 * place, 2 * members, objects)), layout.quoted[place])
        for place, name in enumerate(layout.names)
        if name in names
    }


def _layout(body: bytes) -> _Layout | None:
    """Return the layout of the first object; None if it has other than plain members."""
    begin = _BEGIN.match(body)
    if begin is None:
        return None
    members, place, end = list[re.Match[bytes]](), begin.end(), b","
    while end == b",":
        member = _MEMBER.match(body, place)
        if member is None:
            return None
        members.append(member)
        place, end = member.end(), member["end"]
    names = [member["name"].decode() for member in members]
    if len(set(names)) < len(names):
        return None
    before = [member["before"] for member in members]
    after = [member["after"] for member in members]
    last, between = after[-1], _BETWEEN.match(body, place)
    if between is not None:
        before[0], after[-1] = between[1] + before[0], last + b"}" + between[0].partition(b",")[0]
    quoted = tuple(member["quote"] == b'"' for member in members)
    start = members[0].start("value")
    return _Layout(tuple(names), quoted, start, tuple(before), tuple(after), last)


@lru_cache(maxsize=128)
def _places(first: int, step: int, number: int) -> pa.Int64Array:
    return pa.array(np.arange(first, first + step * number, step))
