"""What each resampler did, as a table for a terminal."""

from __future__ import annotations

from typing import Any


def render_tried(lines: list[dict[str, Any]]) -> list[str]:
    """Lines of text.

    Args:
      lines: fields of `Tried` each; without any there is nothing to say.
    """
    if not lines:
        return []
    return [
        "",
        "  resampling            rows fitted on    frauds   average precision     gain, 90 %"
        "            seconds",
        *(_line(line) for line in lines),
    ]


def _line(line: dict[str, Any]) -> str:
    start = f"{'*' if line['chosen'] else ' '} {line['resample']:<22}"
    if line["reason"]:
        return f"{start}{line['reason']}"
    gain = "-" if line["gain"] is None else "{:+.4f} to {:+.4f}".format(*line["gain"])
    return (
        f"{start}{line['rows']:>13,}  {line['frauds']:>8,}   {line['average_precision']:>17.4f}"
        f"  {gain:>18}   {line['seconds']:>8.1f}"
    )
