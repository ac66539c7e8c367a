"""What `score` leaves behind, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score_summary(result: Mapping[str, Any]) -> str:
    """The closing summary of a run, or what a dry run found."""
    return _dry_run(result) if result.get("dry_run") else _run(result)


def _run(result: Mapping[str, Any]) -> str:
    lines = [
        f"rows read     {result['rows_in']:>12,}",
        f"  scored      {result['rows_scored']:>12,}",
        f"    flagged   {result['rows_flagged']:>12,}",
        f"  dead        {result['rows_dead']:>12,}",
    ]
    lines += [f"    {reason:<20} {rows:,}" for reason, rows in result["dead_reasons"].items()]
    lines.append(f"  duplicate   {result['rows_duplicate']:>12,}")
    if result["alerts"]:
        sent, before = result["alerts"]["sent"], result["alerts"]["already_sent"]
        failed = result["alerts"]["failed"]
        lines.append(f"alerts sent   {sent:>12,}   ({before:,} sent before, {failed:,} failed)")
    lines.append(
        f"seconds       {result['seconds']:>12,.1f}   ({result['rows_per_second']:,} rows/s)"
    )
    lines.append(f"model         {result['model_id']}")
    for name, place in result["outputs"].items():
        shown = ", ".join(place) if isinstance(place, list) else place
        lines.append(f"{name.replace('_', ' '):<13} {shown}")
    return "\n".join(lines)


def _dry_run(result: Mapping[str, Any]) -> str:
    rows = "an unknown number of rows" if result["rows"] is None else f"{result['rows']:,} rows"
    lines = [
        f"files         {len(result['files']):,} with {rows}, {result['bytes']:,} bytes",
        f"schema        {result['schema']}",
        f"features      {', '.join(result['features'])}",
        f"model         {result['model_id']}",
        f"sink          {result['sink'] or 'none'}",
        f"alerts        {', '.join(result['alerts']) or 'none'}",
        "Everything is in order; nothing was scored.",
    ]
    return "\n".join(lines)
