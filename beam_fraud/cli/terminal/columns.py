"""Plain text in columns, the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from io import StringIO

#: Columns of a terminal that cuts nothing.
_UNLIMITED = 1_000_000


def table(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), margin: int = 0
) -> list[str]:
    """Lay rows out in columns as wide as their widest cell, two blanks between them.

    Args:
      rows: cells; a row may lack its last ones.
      right: the columns that are flush right, from 0.
      margin: blanks before each line.

    Example:
      >>> table([("rule", "fired"), ("large", "12")], right={1}, margin=1)
      [' rule   fired', ' large     12']
    """
    if not rows:
        return []
    # `--help` and most commands show no table, and need not import it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for number in range(max(map(len, rows))):
        grid.add_column(justify="right" if number in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    # The width of no terminal: a line is never cut, and a pipe gets what a terminal shows.
    shown = StringIO()
    console = Console(file=shown, width=_UNLIMITED, color_system=None)
    console.print(grid)
    return [" " * margin + line.rstrip() for line in shown.getvalue().splitlines()]


def fact(label: str, value: int | str, note: str = "") -> str:
    """Put a value beside what it is; values with notes and whole numbers stand flush right.

    Example:
      >>> fact("rows read", 1_234), fact("seconds", "0.5", "(2 rows/s)"), fact("model", "m@1")
      ('rows read            1,234', 'seconds                0.5   (2 rows/s)', 'model         m@1')
    """
    text = f"{value:>12,}" if isinstance(value, int) else value
    return f"{label:<13} {text:>12}   {note}" if note else f"{label:<13} {text}"


def size_text(size: int | None) -> str:
    """Format a number of bytes.

    Example:
      >>> size_text(1_234_567)
      '1.2 MB'
    """
    if size is None:
        return "-"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
