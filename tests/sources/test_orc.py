"""Lengths in ORC files, which Arrow's reader trusts."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pytest

from beam_fraud.errors import Code
from beam_fraud.sources import orc_metadata
from beam_fraud.sources.orc_metadata import check_lengths, tail_of
from tests.failing import fails
from tests.fuzzing import damaged
from tests.reading import read

CODECS = ("uncompressed", "zlib", "snappy", "lz4", "zstd")


def texts(lengths: list[int]) -> list[str]:
    return ["x" * length for length in lengths]


#: Lengths that ORC packs in each of its ways.
SHAPES = {
    "equal": [7] * 900,
    "rising": list(range(900)),
    "falling": list(range(900, 0, -1)),
    "mixed": [random.Random(1).randrange(40) for _ in range(3_000)],
    "outliers": [random.Random(2).choice((3, 3, 3, 4, 5, 6, 2_000)) for _ in range(3_000)],
    "steps": [n // 3 for n in range(600)] + [n * n % 97 for n in range(600)],
    "falling by steps": np.cumsum(np.random.default_rng(3).integers(0, 5, 700))[::-1].tolist(),
    "long": [0, 70_000, 1, 300_000, 2],
    "none": [0] * 50,
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", ["0.11", "0.12"])
def test_lengths_of_whole_files_are_sound(
    codec: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    check = orc_metadata._check

    def noted(*values: int) -> None:
        checked.extend(values)
        check(*values)

    monkeypatch.setattr(orc_metadata, "_check", noted)
    for name, lengths in SHAPES.items():
        column = pa.array(texts(lengths))
        items = pa.array([[name] * (length % 5) for length in lengths], pa.list_(pa.string()))
        out = io.BytesIO()
        # 0 for no dictionary of texts, 1 for one.
        for threshold in (0.0, 1.0):
            out = io.BytesIO()
            orc.write_table(
                pa.table({"text": column, "items": items, "bytes": column.cast(pa.binary())}),
                out,
                compression=codec,
                file_version=version,
                dictionary_key_size_threshold=threshold,
            )
            source = pa.BufferReader(out.getvalue())
            file = orc.ORCFile(source)
            tail = tail_of(bytes(file.reader.serialized_file_tail()))
            assert sum(stripe.rows for stripe in tail.stripes) == len(lengths)
            for stripe in tail.stripes:
                check_lengths(source, tail, stripe, {0, 1, 2})
    assert checked


@pytest.mark.parametrize("number", [9300, 12391])
def test_a_length_that_none_has_is_refused(tmp_path: Path, number: int) -> None:
    """Arrow's reader ends the process on these."""
    path = tmp_path / "a.orc"
    path.write_bytes(damaged("orc", number))
    with fails(Code.INPUT_DAMAGED, "a.orc: is damaged after row 0"):
        read(path)
