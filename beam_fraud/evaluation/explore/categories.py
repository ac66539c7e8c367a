"""The values of columns of text, and how many frauds each has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rates import Rate, rates
from beam_fraud.evaluation.explore.rows import Rows

#: Values of a column that are shown each.
_TOP = 15
#: Characters of a value that are shown.
_LONGEST = 60
ABSENT, OTHERS = "(absent)", "(all others)"


@dataclass(frozen=True)
class Category:
    """A categorical feature, a currency, or another column of text that is read."""

    #: Name of the column.
    column: str
    #: Whether a model takes it.
    feature: bool
    #: How many different values it has, absent not counted.
    distinct: int
    #: How many of them are in one row only.
    once: int
    #: The most frequent values, the rest together, and where it is absent; none is without rows.
    values: tuple[Rate, ...]


def categories(rows: Rows) -> tuple[Category, ...]:
    """Of all columns of text but ids, accounts and merchants that are no features."""
    schema = rows.features.schema
    currency = ("currency",) if schema.role("currency") else ()
    names = dict.fromkeys((*rows.categorical, *currency, *schema.key_columns))
    return tuple(_category(name, rows) for name in names)


def _category(name: str, rows: Rows) -> Category:
    encoded = rows.texts(name).dictionary_encode()
    distinct = len(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(distinct), dtype=np.int64)
    counts = np.bincount(codes, minlength=distinct + 1)
    # The first that came goes first among equals.
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
    """A text from outside as it may stand in a line: nothing that cannot be seen, not too long.

    Example:
      >>> visible("a" + chr(8238) + "b")
      'a\\ufffdb'
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST])
    return shown + "\N{HORIZONTAL ELLIPSIS}" if len(text) > _LONGEST else shown
