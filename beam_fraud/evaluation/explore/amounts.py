"""Rows and frauds by amount."""

from __future__ import annotations

import numpy as np

from beam_fraud.evaluation.explore.rates import Rate, rates
from beam_fraud.evaluation.explore.rows import Floats, Rows

#: Shares of rows below the edges of bands: tenths, and finer for large, rare amounts.
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
#: Significant digits of an edge.
_DIGITS = 2


def amount_bands(rows: Rows) -> tuple[Rate, ...]:
    """Return the rates of non-empty bands of amounts, from small to large.

    Edges are round numbers near the tenths of the n > 0 rows, and near their last 5, 1 and 0.1 %.
    """
    amounts = rows.numbers("amount")
    edges = _edges(amounts)
    if not len(edges):
        return rates((f"all {_number(float(amounts[0]))}",), np.zeros(len(rows), np.int64), rows)
    codes = np.searchsorted(edges, amounts, side="right")
    found, codes = np.unique(codes, return_inverse=True)
    shown = [_number(edge) for edge in edges]
    names = [
        f"below {shown[0]}"
        if code == 0
        else f"{shown[-1]} and more"
        if code == len(edges)
        else f"{shown[code - 1]} to {shown[code]}"
        for code in found.tolist()
    ]
    return rates(names, codes, rows)


def _edges(amounts: Floats) -> Floats:
    wanted = np.quantile(amounts, _SHARES)
    rounded = {float(f"{edge:.{_DIGITS}g}") for edge in wanted.tolist()}
    # A band below the smallest amount would be empty.
    return np.array(sorted(edge for edge in rounded if edge > amounts.min()), dtype=np.float64)


def _number(edge: float) -> str:
    return f"{edge:,.0f}" if abs(edge) >= 10 else f"{edge:g}"
