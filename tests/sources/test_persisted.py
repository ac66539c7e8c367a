"""The names of the program in a savepoint of a Flink cluster."""

from __future__ import annotations

import base64
import bz2
import pickle
import pickletools
import re
from pathlib import Path

import pytest

from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import Start
from tests.persisted.sets import NAMES, SETS, unpack

PART = "flink.tar.xz"
#: How a pickle begins, and one that Beam has packed.
_PICKLE = re.compile(rb"\x80[\x04\x05]\x95")
_PACKED = re.compile(rb"QlpoOT[A-Za-z0-9+/]+=*")
WITH_SAVEPOINT = pytest.mark.parametrize(
    "kept", [pytest.param(s / PART, id=s.name) for s in SETS if (s / PART).exists()]
)


@WITH_SAVEPOINT
def test_the_names_in_a_savepoint_are_listed(kept: Path, tmp_path: Path) -> None:
    root = unpack(kept, tmp_path)
    result: set[str] = set()
    for path in (root / "savepoint").iterdir():
        result |= pickled_in(path.read_bytes())
    assert "beam_fraud.sources.kafka.source.KafkaSource" in result
    assert result <= NAMES


def pickled_in(data: bytes) -> set[str]:
    """Return the package's classes in all pickles within `data`, without opening them."""
    # Beam packs elements, and leaves restrictions as they are; a source is in both.
    packed = (bz2.decompress(base64.b64decode(result)) for result in _PACKED.findall(data))
    pickles = [part[at.start() :] for part in (data, *packed) for at in _PICKLE.finditer(part)]
    return {name for each in pickles for name in named(each) if name.startswith("beam_fraud.")}


def named(data: bytes) -> set[str]:
    """Return the classes and functions in the first pickle of `data`, of protocol 4 or later."""
    result: set[str] = set()
    texts: list[str] = []
    memo: list[str] = []
    for code, arg, _ in pickletools.genops(data):
        if code.name.endswith("BINUNICODE"):
            texts.append(arg)
        elif code.name == "MEMOIZE":
            # Of what is no text too, whose place counts.
            memo.append(texts[-1] if texts else "")
        elif code.name.endswith("BINGET"):
            texts.append(memo[arg])
        elif code.name == "STACK_GLOBAL":
            result.add(".".join(texts[-2:]))
    return result


def test_names_are_found_in_pickles_within_pickles() -> None:
    inner = pickle.dumps(KafkaSettings("a:1"))
    packed = base64.b64encode(bz2.compress(pickle.dumps([Start("latest"), inner])))
    assert pickled_in(b"before" + packed + b" after") == {
        "beam_fraud.sources.kafka.settings.KafkaSettings",
        "beam_fraud.sources.kafka.topic.Start",
    }
