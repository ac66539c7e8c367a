"""Format the summaries of `score` and `features` for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.monitoring.latency import latency_text

#: What is counted, and how it is called; figures of other commands are absent.
_COUNTED = (
    ("rows read", "rows_in"),
    ("  scored", "rows_scored"),
    ("    flagged", "rows_flagged"),
    ("    audited", "rows_audited"),
    ("      on disk", "rows_undelivered"),
    ("  computed", "rows_out"),
    ("  dead", "rows_dead"),
)

#: The same for records that are no transactions.
_SKIPPED = (("  tombstone", "rows_tombstone"), ("  correction", "rows_correction"))


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
        fact(shown, result[name])
        for shown, name in _COUNTED
        if name in result and (result[name] or name not in _SELDOM)
    ]
    reasons = [(reason, f"{rows:,}") for reason, rows in result["dead_reasons"].items()]
    lines += table(reasons, margin=4)
    lines.append(fact("  duplicate", result["rows_duplicate"]))
    lines += [fact(shown, result[name]) for shown, name in _SKIPPED if result.get(name)]
    if "accounts" in result:
        lines.append(fact("accounts", result["accounts"]))
    if times := result.get("event_times"):
        lines.append(fact("times", f"{times['first']} to {times['last']}"))
    if "history_rows" in result:
        left_out = result["history_rows_left_out"]
        lines.append(fact("history", result["history_rows"], f"({left_out:,} left out)"))
    if result.get("labels_in"):
        lines.append(fact("labels", result["labels_in"], f"({result['labels_dead']:,} unreadable)"))
    lines += [*_rules(result), *shadow_lines(result)]
    if result.get("alerts"):
        sent, *others = result["alerts"].items()
        about = ", ".join(
            f"{count:,} {_ALERTS.get(name, name)}"
            for name, count in others
            if count or name not in _SELDOM
        )
        lines.append(fact("alerts sent", sent[1], f"({about})"))
    if result.get("latency_seconds", {}).get("p50") is not None:
        p50, p99 = (result["latency_seconds"][name] for name in ("p50", "p99"))
        slow = latency_text(math.inf if p99 is None else p99)
        lines.append(fact("latency", latency_text(p50), f"(p99 {slow})"))
    # A stream waits before its first row and after its last one; its rate is that in between.
    between = ", first row to last" if "latency_seconds" in result else ""
    rate = f"({result['rows_per_second']:,} rows/s{between})"
    lines.append(fact("seconds", f"{result['seconds']:,.1f}", rate))
    if "model_id" in result:
        lines.append(fact("model", result["model_id"]))
    return "\n".join([*lines, *_outputs(result)])


def _outputs(result: Mapping[str, Any]) -> list[str]:
    return [
        fact(name.replace("_", " "), ", ".join(place) if isinstance(place, list) else place)
        for name, place in result["outputs"].items()
    ]


def staged(rule: Mapping[str, Any]) -> str:
    """Return mode and share of accounts of a rule; "" for one that is live everywhere.

    Example:
      >>> staged({"mode": "shadow", "rollout": 12.5}), staged({})
      ('in shadow, 12.5 % of accounts', '')
    """
    said = ["in shadow"] if rule.get("mode") == "shadow" else []
    if "rollout" in rule:
        said.append(f"{rule['rollout']:g} % of accounts")
    return ", ".join(said)


def _rules(result: Mapping[str, Any]) -> list[str]:
    rules: dict[str, dict[str, Any]] = result.get("rules", {})
    if not rules:
        return []
    rows = [
        (name, f"{rule['fired']:,}", f"({rule['share']:.2%})", staged(rule))
        for name, rule in rules.items()
    ]
    lines = ["rules", *table(rows, right={1}, margin=4)]
    if result.get("rules_muted"):
        lines.append(fact("  muted", result["rules_muted"], "times"))
    return lines


def shadow_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each challenger in shadow, under a heading; none without any."""
    shadows: dict[str, dict[str, Any]] = result.get("shadows", {})
    if not shadows:
        return []
    rows = [(key, f"{one['rows']:,}", _of_shadow(one)) for key, one in shadows.items()]
    return ["in shadow", *table(rows, right={1}, margin=4)]


def _of_shadow(figures: Mapping[str, Any]) -> str:
    parts = list[str]()
    if figures["rows"]:
        parts.append(f"agrees in {figures['agreement']:.2%}")
        if figures["flagged_agreement"] is not None:
            parts.append(f"of flagged rows {figures['flagged_agreement']:.2%}")
        parts.append(f"{figures['microseconds_per_row']:.3g} microseconds a row")
    if dropped := figures["dropped"]:
        parts.append(f"dropped at {dropped['since']}: {dropped['reason']}")
    return f"({', '.join(parts)})" if parts else ""


def _template(result: Mapping[str, Any]) -> str:
    template = fact("template", result["template"])
    return "\n".join([template, *_outputs(result), "The job was not started."])


def _dry_run(result: Mapping[str, Any]) -> str:
    rows = "an unknown number of rows" if result["rows"] is None else f"{result['rows']:,} rows"
    lines = [
        fact("files", f"{len(result['files']):,} with {rows}, {result['bytes']:,} bytes"),
        fact("schema", result["schema"]),
        fact("features", ", ".join(result["features"])),
    ]
    if result["history"]:
        lines.insert(1, fact("history", f"{len(result['history']):,} files"))
    if "model_id" in result:
        lines.append(fact("model", result["model_id"]))
        lines.append(fact("sink", result["sink"] or "none"))
        if result.get("archive"):
            lines.append(fact("archive", result["archive"]))
        lines.append(fact("alerts", ", ".join(result["alerts"]) or "none"))
        lines.append(fact("rules", ", ".join(result["rules"]) or "none"))
        if result.get("shadows"):
            lines.append(fact("in shadow", ", ".join(result["shadows"])))
    lines.append("Everything is in order; nothing was computed.")
    return "\n".join(lines)
