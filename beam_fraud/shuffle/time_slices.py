"""A part that is too large for memory, cut into stretches of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beam_fraud.event_time import event_micros
from beam_fraud.shuffle.spill import SpilledPart, SpillWriter, read_spilled
from beam_fraud.shuffle.split import MOST_PARTS, split


def time_slices(
    spilled: Sequence[SpilledPart], rows: int, directory: Path, name: str
) -> list[SpilledPart]:
    """Rewrite rows into files of which each is of later event times than the one before.

    Reads the rows twice. Rows of one moment stay together.

    Args:
      spilled: files whose rows have `event_time`.
      rows: about how many rows a slice should have; more if they are over 256 times as many.
      directory: where the slices are written.
      name: how their files' names start.

    Returns:
      The slices, the earliest first.

    Raises:
      OSError: a file cannot be read or written.
    """
    bounds = _bounds(spilled, rows)
    writer = SpillWriter(directory, name)
    for part in spilled:
        for batch in read_spilled(part):
            places = np.searchsorted(bounds, event_micros(batch), side="right")
            for number, inside in split(batch, places):
                writer.write(number, inside)
    return sorted(writer.close(), key=lambda written: written.part)


def _bounds(spilled: Sequence[SpilledPart], rows: int) -> npt.NDArray[np.int64]:
    """First times of all slices but the earliest."""
    total = sum(part.rows for part in spilled)
    # A sample tells the quantiles well enough, and costs a byte where a row costs hundreds.
    step = max(rows // 1_000, 1)
    sampled = [event_micros(batch)[::step] for part in spilled for batch in read_spilled(part)]
    ordered = np.sort(np.concatenate(sampled))
    slices = min(-(-total // rows), MOST_PARTS)
    return np.unique(ordered[np.arange(1, slices) * len(ordered) // slices])
