"""`beam-fraud rules check`: try rules on transactions."""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.tried_rows import TriedRows, names_for_rules, schema_of_rules
from beam_fraud.cli.options import CheckRulesOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.cli.terminal.summary import staged
from beam_fraud.decisions.decision import decided_columns
from beam_fraud.decisions.rules.figures import Block, RuleFigures
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RULE_LIMIT, RuleSet
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.models.bundle import open_bundle
from beam_fraud.records.text import as_mask
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)


def run(options: CheckRulesOptions) -> dict[str, object]:
    """Try the rules.

    Raises:
      UsageError: the rules or an option are invalid.
      FraudError: there are no rows, or a file or the bundle cannot be used.
    """
    bundle = None if options.model is None else open_bundle(Place.parse(options.model))
    schema = schema_of_rules(options.schema, bundle)
    names, lists = names_for_rules(schema, bundle), lists_directory(options.lists)
    rules = load_rules(options.file, names, lists)
    tried = TriedRows.read(options, schema, bundle, rules.columns)
    dataset, reach = tried.dataset, tried.dataset.reach
    figures = _tried(tried, rules)
    everything = figures.everything
    by_rule = figures.of_rules(model=bundle is not None)
    _warn(by_rule)
    return {
        "rules_file": options.file,
        "model_id": None if bundle is None else bundle.model_id,
        "rows": everything.rows,
        "frauds": everything.frauds,
        "genuine": everything.genuine,
        "rules": by_rule,
        "together": figures.together.figures(everything),
        "model": None if bundle is None else figures.model.figures(everything),
        **dataset.rows_by_outcome,
        **({} if reach is None else {"windows": reach.to_dict()}),
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    return rules_table(cast(dict[str, Any], result))


def _tried(tried: TriedRows, rules: RuleSet) -> RuleFigures:
    program, figures = Program(rules, tried.features), RuleFigures(rules.rules)
    for rows in tried.blocks():
        fired = program.fired(rows.transactions, rows.block, rows.scores)
        counted = Block(
            amounts=np.asarray(rows.transactions.column("amount")),
            fraud=rows.labels == 1,
            genuine=rows.labels == 0,
            by_model=_flagged(decided_columns(rows.scores, tried.thresholds, None)),
            flagged=_flagged(decided_columns(rows.scores, tried.thresholds, fired)),
        )
        figures.add(fired, counted)
    return figures


def _flagged(decided: dict[str, pa.Array]) -> npt.NDArray[np.bool_]:
    return as_mask(decided["flagged"])


def _warn(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        if not rule["fired"]:
            _LOG.warning("rule %s never fires on these rows", name)
        elif rule["share"] > RULE_LIMIT and rule["decision"] != "approve":
            _LOG.warning(
                "rule %s fires on %.1f %% of the rows: a stream would mute it beyond %g %%",
                name,
                100 * rule["share"],
                100 * RULE_LIMIT,
            )


def rules_table(figures: dict[str, Any]) -> str:
    """Return the figures as text: one line per rule, then the total."""
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
        decision = f"{rule['decision']} ({how})" if (how := staged(rule)) else rule["decision"]
        line = _line(name, decision, rule, bool(labelled))
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
    # Names and what stands last are flush left, numbers flush right.
    shown = "\n".join(table(lines, right=range(2, 7)))
    return f"{figures['rules_file']} on {rows:,} rows{known}{model}\n\n{shown}{about}"


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
