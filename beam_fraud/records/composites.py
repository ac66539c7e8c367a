"""Join several columns to the values of one role."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.identifiers import Identifiers, as_identifiers
from beam_fraud.records.text import flat
from beam_fraud.records.times import as_text
from beam_fraud.schema.notation import IdNotation

#: Text between the parts of an id, and what stands for it inside a part.
_BETWEEN, _ESCAPED = ":", "\\:"


def composite_identifiers(
    parts: Sequence[pa.Array], notation: IdNotation, absent: Sequence[str]
) -> Identifiers:
    """Join ids: different parts give different ids, and an absent part an absent id.

    Args:
      parts: the columns, each as `as_identifiers` takes it [n].
      notation: how each part is written.
      absent: spellings of an absent part.
    """
    read = [
        as_identifiers(part, notation, absent=absent, whole_floats=True)
        for part in map(flat, parts)
    ]
    texts = [
        pc.replace_substring(pc.replace_substring(one.values, "\\", "\\\\"), _BETWEEN, _ESCAPED)
        for one in read
    ]
    together = as_identifiers(pc.binary_join_element_wise(*texts, _BETWEEN))
    unreadable = reduce(np.logical_or, (one.unreadable for one in read))
    too_long = reduce(np.logical_or, (one.too_long for one in read)) | together.too_long
    missing = reduce(np.logical_or, (one.absent for one in read)) & ~unreadable
    return Identifiers(together.values, missing, unreadable, too_long, together.rounded)


def composite_times(parts: Sequence[pa.Array]) -> pa.StringArray:
    """Join texts, numbers, dates and clocks by a space; null where a part is.

    Args:
      parts: the columns [n].
    """
    return pc.binary_join_element_wise(*map(as_text, map(flat, parts)), " ")
