"""Texts from outside as plots may show them."""

from __future__ import annotations

from beam_fraud.explore.categories import visible

#: Characters of a name that fit beside a plot.
_LONGEST = 30


def plot_text(name: str, longest: int = _LONGEST) -> str:
    """A name that is drawn as it is: short, visible, and no formula between dollar signs.

    Of a long name both ends are kept, because computed features differ in theirs.

    Example:
      >>> plot_text("$x$")
      '\\\\$x\\\\$'
    """
    shown = visible(name)
    if len(shown) > longest:
        half = (longest - 1) // 2
        shown = f"{shown[:half]}\N{HORIZONTAL ELLIPSIS}{shown[-(longest - 1 - half) :]}"
    return shown.replace("$", r"\$")


def plot_number(value: float) -> str:
    """A number as short as it can be beside an axis.

    Example:
      >>> plot_number(12500.0), plot_number(0.25), plot_number(3e6)
      ('12.5k', '0.25', '3M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}" if abs(value) < 1e12 else f"{value:.1e}"
    return f"{value:.3g}"
