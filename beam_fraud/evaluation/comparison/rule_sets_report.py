"""The report of two rule sets: a page, Markdown or JSON."""

from __future__ import annotations

from beam_fraud.evaluation.charts import Section, Table, percent, render_page, visible
from beam_fraud.evaluation.comparison.details import Cell, money
from beam_fraud.evaluation.comparison.rule_sets import ChangeEffect, RuleSetsCompared, SampledRow
from beam_fraud.evaluation.comparison.swap import SwapCell
from beam_fraud.evaluation.report.sections import json_report, markdown_report

#: Headings of the figures of some rows.
_OF_CELL = ("rows", "amount", "frauds", "amount of frauds", "genuine")


def report_bytes(found: RuleSetsCompared, ending: str) -> bytes:
    """Encode a report.

    Args:
      found: the figures.
      ending: `.html`, `.json` or `.md`.
    """
    if ending == ".json":
        return json_report(found)
    title = f"{found.old} and {found.new}"
    labels = (
        f"{found.labelled:,} labelled, {found.frauds:,} frauds" if found.labelled else "no labels"
    )
    beside = f"beside {found.model_id}" if found.model_id else "without a model"
    subtitle = f"{found.rows:,} transactions, {labels}; {beside}."
    sections = (_swaps(found), _rules(found), *((_sample(found),) if found.sample else ()))
    if ending == ".md":
        return markdown_report(title, subtitle, sections).encode()
    return render_page(title, subtitle, sections).encode()


def _swaps(found: RuleSetsCompared) -> Section:
    share = percent(found.swap_share) or "0 %"
    swaps = [
        ("both flag", found.both),
        ("the new rules alone flag", found.only_new),
        ("the old rules alone flag", found.only_old),
    ]
    transitions = [(f"{one.old} to {one.new}", one.rows) for one in found.transitions]
    return Section(
        "What is decided otherwise",
        (
            f"The old rules flag {found.flagged_old:,} rows, the new ones {found.flagged_new:,}. "
            f"Of the rows that either flags, one alone flags {share}.",
            Table(("", *_OF_CELL), tuple((name, *_figures(cell)) for name, cell in swaps)),
            Table(
                ("decision", *_OF_CELL),
                tuple((name, *_figures(cell)) for name, cell in transitions),
                f"{found.otherwise.rows:,} rows are decided otherwise.",
            ),
        ),
    )


def _rules(found: RuleSetsCompared) -> Section:
    columns = ("rule", "change", "fires on (old)", "(new)", "adds", "frauds added", "removes")
    return Section(
        "Rules that differ",
        (
            "Adds and removes: what the old rules flag more and less with the change of this rule "
            f"and no other. {found.same_rules:,} other rules mean the same.",
            Table((*columns, "frauds removed", "otherwise"), tuple(map(_rule_row, found.rules))),
        ),
    )


def _rule_row(rule: ChangeEffect) -> tuple[Cell, ...]:
    fields = "; ".join(f"{name}: {old} → {new}" for name, (old, new) in rule.fields.items())
    change = f"{rule.change}: {fields}" if fields else rule.change
    return (
        *(visible(rule.rule), visible(change, 200), rule.fired_old, rule.fired_new),
        *(rule.adds.rows, rule.adds.frauds, rule.removes.rows, rule.removes.frauds),
        rule.otherwise.rows,
    )


def _sample(found: RuleSetsCompared) -> Section:
    columns = ("transaction", "time", "amount", "label", "score", "decided (old)", "(new)")
    return Section(
        "Changed rows",
        (
            "A sample of the rows that are decided otherwise, drawn by the hash of their ids: "
            "those newly flagged, those no longer flagged, and others.",
            Table((*columns, "rules (old)", "(new)"), tuple(map(_sample_row, found.sample))),
        ),
    )


def _sample_row(row: SampledRow) -> tuple[Cell, ...]:
    label = None if row.label is None else ("genuine", "fraud")[row.label]
    return (
        *(visible(row.transaction_id), row.event_time[:19], money(row.amount), label, row.score),
        *(row.decision_old, row.decision_new),
        *(visible(", ".join(names), 200) or None for names in (row.rules_old, row.rules_new)),
    )


def _figures(cell: SwapCell) -> tuple[Cell, ...]:
    return cell.rows, money(cell.amount), cell.frauds, money(cell.fraud_amount), cell.genuine
