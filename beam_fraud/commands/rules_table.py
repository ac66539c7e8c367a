"""What rules would do, as a table for a terminal."""

from __future__ import annotations

from typing import Any


def rules_table(figures: dict[str, Any]) -> str:
    """What `commands.check_rules` found, as lines of text: one a rule, then all together."""
    rows, frauds, labelled = figures["rows"], figures["frauds"], figures["genuine"]
    labelled += frauds
    known = (
        f", {labelled:,} of them labelled, {frauds:,} frauds" if labelled else ", without labels"
    )
    lines: list[tuple[str, ...]] = [("rule", "decision", "fired", "share")]
    if labelled:
        lines[0] += ("frauds", "precision", "recall", "of amount")
    if figures["model"] is not None and labelled:
        lines[0] += ("beyond the model",)
    for name, rule in figures["rules"].items():
        line = _line(name, rule["decision"], rule, bool(labelled))
        if figures["model"] is not None and labelled:
            line += (_beyond(rule),)
        lines.append(line)
    if figures["model"] is not None:
        lines.append(_line("(model alone)", "", figures["model"], bool(labelled)))
    together = "(model and rules)" if figures["model"] is not None else "(all rules)"
    lines.append(_line(together, "", figures["together"], bool(labelled)))
    model = f"\n{figures['model_id']}" if figures["model_id"] else ""
    described = [
        f"{name}: {rule['description']}"
        for name, rule in figures["rules"].items()
        if rule["description"]
    ]
    about = "\n\n" + "\n".join(described) if described else ""
    table = f"{_aligned(lines)}{about}"
    return f"{figures['rules_file']} on {rows:,} rows{known}{model}\n\n{table}"


def _line(name: str, decision: str, figures: dict[str, Any], labelled: bool) -> tuple[str, ...]:
    line: tuple[str, ...] = (name, decision, f"{figures['fired']:,}", f"{figures['share']:.2%}")
    if labelled:
        line += (f"{figures['frauds']:,}",)
        names = ("precision", "recall", "fraud_amount_share")
        line += tuple("-" if figures[n] is None else f"{figures[n]:.3f}" for n in names)
    return line


def _beyond(rule: dict[str, Any]) -> str:
    if rule["decision"] == "approve":
        return f"{rule['frauds_let_pass']:,} frauds let pass"
    return f"+{rule['frauds_beyond_model']:,} frauds, +{rule['genuine_beyond_model']:,} genuine"


def _aligned(lines: list[tuple[str, ...]]) -> str:
    """Columns under one another: names and the last one flush left, numbers flush right."""
    columns = max(map(len, lines))
    full = [(*line, *("",) * (columns - len(line))) for line in lines]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    left = {0, 1, 8}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in full
    )
