"""Format plain text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned cells, two blanks between columns.

    Example:
      >>> aligned([("a", "bb"), ("ccc", "d")])
      ['a    bb', 'ccc  d']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size_text(size: int | None) -> str:
    """Format a number of bytes.

    Example:
      >>> size_text(1_234_567)
      '1.2 MB'
    """
    if size is None:
        return "-"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
