"""Format the summaries of `score` and `features` for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Counters and their names; counters of other commands are absent.
_COUNTED = (
    ("rows read", "rows_in"),
    ("  scored", "rows_scored"),
    ("    flagged", "rows_flagged"),
    ("      on disk", "rows_undelivered"),
    ("  computed", "rows_out"),
    ("  dead", "rows_dead"),
)


#: Outcomes of alerts and their names; and those shown only if not zero.
_ALERTS = {"already_sent": "sent before", "digested": "of them in digests"}
_SELDOM = {"snoozed", "digested", "rows_undelivered"}


def summary(result: Mapping[str, Any]) -> str:
    """Return the summary of a run or of a dry run."""
    if result.get("dry_run"):
        return _dry_run(result)
    return _template(result) if "template" in result else _run(result)


def _run(result: Mapping[str, Any]) -> str:
    lines = [
        f"{shown:<13} {result[name]:>12,}"
        for shown, name in _COUNTED
        if name in result and (result[name] or name not in _SELDOM)
    ]
    lines += [f"    {reason:<20} {rows:,}" for reason, rows in result["dead_reasons"].items()]
    lines.append(f"  duplicate   {result['rows_duplicate']:>12,}")
    if "history_rows" in result:
        left_out = result["history_rows_left_out"]
        lines.append(f"history       {result['history_rows']:>12,}   ({left_out:,} left out)")
    if result.get("labels_in"):
        lines.append(
            f"labels        {result['labels_in']:>12,}   ({result['labels_dead']:,} unreadable)"
        )
    lines += _rules(result)
    if result.get("alerts"):
        sent, *others = result["alerts"].items()
        about = ", ".join(
            f"{count:,} {_ALERTS.get(name, name)}"
            for name, count in others
            if count or name not in _SELDOM
        )
        lines.append(f"alerts sent   {sent[1]:>12,}   ({about})")
    if result.get("latency_seconds", {}).get("p50") is not None:
        p50, p99 = (result["latency_seconds"][name] for name in ("p50", "p99"))
        slow = "longer than measured" if p99 is None else f"{p99 * 1000:,.0f} ms"
        lines.append(f"latency       {p50 * 1000:>9,.0f} ms   (p99 {slow})")
    # A stream is idle before its first row and after its last; its rate refers to the time between.
    between = ", first row to last" if "latency_seconds" in result else ""
    rate = f"{result['rows_per_second']:,} rows/s{between}"
    lines.append(f"seconds       {result['seconds']:>12,.1f}   ({rate})")
    if "model_id" in result:
        lines.append(f"model         {result['model_id']}")
    for name, place in result["outputs"].items():
        shown = ", ".join(place) if isinstance(place, list) else place
        lines.append(f"{name.replace('_', ' '):<13} {shown}")
    return "\n".join(lines)


def _rules(result: Mapping[str, Any]) -> list[str]:
    rules: dict[str, dict[str, Any]] = result.get("rules", {})
    if not rules:
        return []
    width = max(map(len, rules))
    lines = ["rules"]
    lines += [
        f"    {name:<{width}}  {rule['fired']:>10,}   ({rule['share']:.2%})"
        for name, rule in rules.items()
    ]
    if result.get("rules_muted"):
        lines.append(f"  muted       {result['rules_muted']:>12,}   times")
    return lines


def _template(result: Mapping[str, Any]) -> str:
    lines = [f"{name.replace('_', ' '):<13} {place}" for name, place in result["outputs"].items()]
    return "\n".join([f"template      {result['template']}", *lines, "The job was not started."])


def _dry_run(result: Mapping[str, Any]) -> str:
    rows = "an unknown number of rows" if result["rows"] is None else f"{result['rows']:,} rows"
    lines = [
        f"files         {len(result['files']):,} with {rows}, {result['bytes']:,} bytes",
        f"schema        {result['schema']}",
        f"features      {', '.join(result['features'])}",
    ]
    if result["history"]:
        lines.insert(1, f"history       {len(result['history']):,} files")
    if "model_id" in result:
        lines.append(f"model         {result['model_id']}")
        lines.append(f"sink          {result['sink'] or 'none'}")
        lines.append(f"alerts        {', '.join(result['alerts']) or 'none'}")
        lines.append(f"rules         {', '.join(result['rules']) or 'none'}")
    lines.append("Everything is in order; nothing was computed.")
    return "\n".join(lines)
