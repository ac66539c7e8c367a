"""`beam-fraud rules check`: try rules on transactions."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import CheckRulesOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.cli.terminal.summary import staged
from beam_fraud.decisions.decision import decided_columns
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.figures import Block, RuleFigures
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RULE_LIMIT, RuleSet
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.candidate import overlap_warning
from beam_fraud.features.dataset import load_dataset, mixed_currencies
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import Bundle, check_packages, load_model, open_bundle
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.registry.choice import rules_for_model
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.text import as_mask
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Rows per block, as in the graph.
_BLOCK_ROWS = 50_000


def run(options: CheckRulesOptions) -> dict[str, object]:
    """Try the rules.

    Raises:
      UsageError: the rules or an option are invalid.
      FraudError: there are no rows, or a file or the bundle cannot be used.
    """
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    on, history = input_places(options.on), input_places(options.history)
    bundle = None if options.model is None else open_bundle(Place.parse(options.model))
    if bundle is not None:
        check_packages(bundle)
    schema = _schema(options, bundle)
    rules, features = _rules_and_features(options, schema, bundle)
    dataset = load_dataset(
        on,
        features.schema,
        since=since,
        until=until,
        history=history,
        labels="known",
    )
    if dataset.rows_dead:
        _LOG.warning("%s", dataset.left_out)
    if not dataset.transactions.num_rows:
        raise FraudError(
            "no rows to try the rules on in the files and times given", Code.INPUT_EMPTY
        )
    warning = _overlap(dataset.transactions, bundle)
    if warning is not None:
        _LOG.warning("%s", warning)
    if (mixed := mixed_currencies(dataset.transactions, features.schema)) is not None:
        _LOG.warning("%s", mixed)
    reach = dataset.reach
    if reach is not None and (short := reach.warning()) is not None:
        _LOG.warning("%s", short)
    figures = _tried(dataset.transactions, rules, features, bundle)
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


def _schema(options: CheckRulesOptions, bundle: Bundle | None) -> Schema:
    if options.schema is not None:
        return load_schema(options.schema)
    if bundle is None:
        raise UsageError(
            "--schema: say what the transactions look like, or give --model BUNDLE",
            Code.OPTION_MISSING,
        )
    return bundle.schema


def _rules_and_features(
    options: CheckRulesOptions, schema: Schema, bundle: Bundle | None
) -> tuple[RuleSet, FeatureSet]:
    """Return the rules, and the features that they and the model need."""
    if bundle is not None:
        rules = rules_for_model(options.file, bundle, schema, lists_directory(options.lists))
        return rules, bundle.features_in(schema, rules.columns)
    rules = load_rules(
        options.file, vocabulary(schema, scored=False), lists_directory(options.lists)
    )
    needed = set(rules.columns)
    velocity = tuple(part for spec in schema.velocity for part in spec.only(needed))
    return rules, FeatureSet(replace(schema, velocity=velocity), order=("amount",))


def _tried(
    transactions: pa.Table, rules: RuleSet, features: FeatureSet, bundle: Bundle | None
) -> RuleFigures:
    program, figures = Program(rules, features), RuleFigures(rules.rules)
    # Without a model, only rules flag.
    thresholds = Thresholds(1.0) if bundle is None else bundle.thresholds
    model = None if bundle is None else load_model(bundle)
    total = transactions.num_rows
    with doing("trying the rules", lambda: f"{figures.everything.rows:,} of {total:,} rows"):
        for rows in transactions.to_batches(max_chunksize=_BLOCK_ROWS):
            block = feature_matrix(rows, features)
            scores = np.zeros(len(rows)) if model is None else predict_scores(model, block)
            fired = program.fired(rows, block, scores)
            fraud, genuine = _labels(rows)
            counted = Block(
                amounts=np.asarray(rows.column("amount")),
                fraud=fraud,
                genuine=genuine,
                by_model=_flagged(decided_columns(scores, thresholds, None)),
                flagged=_flagged(decided_columns(scores, thresholds, fired)),
            )
            figures.add(fired, counted)
    return figures


def _overlap(transactions: pa.Table, bundle: Bundle | None) -> str | None:
    """Return a warning if the model may have been fitted on these labels."""
    if bundle is None or "label" not in transactions.column_names:
        return None
    times = event_micros(transactions)
    return overlap_warning(bundle, int(times.min()), int(times.max()))


def _labels(rows: pa.RecordBatch) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return bool[n] each: labelled frauds, and labelled genuine rows."""
    if "label" not in rows.schema.names:
        return np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    fraud, genuine = (pc.equal(rows.column("label"), label).fill_null(False) for label in (1, 0))
    return as_mask(fraud), as_mask(genuine)


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
