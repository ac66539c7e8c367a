"""The values of text columns, with their frauds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rates import Rate, rates
from beam_fraud.evaluation.explore.rows import Rows

#: Maximum of values shown per column.
_TOP = 15
#: Maximum of characters shown of a value.
_LONGEST = 60
ABSENT, OTHERS = "(absent)", "(all others)"


@dataclass(frozen=True)
class Category:
    """A categorical feature, a currency, or another text column."""

    #: Name of the column.
    column: str
    #: Whether it is a feature.
    feature: bool
    #: Number of distinct non-null values.
    distinct: int
    #: Number of values that occur once.
    once: int
    #: Non-empty groups: the most frequent values, the other values together, and null.
    values: tuple[Rate, ...]


def categories(rows: Rows) -> tuple[Category, ...]:
    """Describe all text columns except ids, and accounts and merchants that are no features."""
    schema = rows.features.schema
    currency = ("currency",) if schema.role("currency") else ()
    names = dict.fromkeys((*rows.categorical, *currency, *schema.key_columns))
    return tuple(_category(name, rows) for name in names)


def _category(name: str, rows: Rows) -> Category:
    encoded = rows.texts(name).dictionary_encode()
    distinct = len(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(distinct), dtype=np.int64)
    counts = np.bincount(codes, minlength=distinct + 1)
    # Ties keep the order of first appearance.
    top = np.argsort(-counts[:distinct], kind="stable")[:_TOP]
    place = np.full(distinct + 1, len(top))
    place[top] = np.arange(len(top))
    place[distinct] = len(top) + 1
    texts = [visible(encoded.dictionary[int(code)].as_py()) for code in top]
    found = rates([*texts, OTHERS, ABSENT], place[codes], rows)
    return Category(
        column=name,
        feature=name in rows.categorical,
        distinct=distinct,
        once=int((counts[:distinct] == 1).sum()),
        values=tuple(rate for rate in found if rate.rows),
    )


def visible(text: str) -> str:
    """Return an untrusted text for a line: without invisible characters, and short.

    Example:
      >>> visible("a" + chr(8238) + "b")
      'a\\ufffdb'
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST])
    return shown + "\N{HORIZONTAL ELLIPSIS}" if len(text) > _LONGEST else shown
