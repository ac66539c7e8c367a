"""`beam-fraud rules diff`: which transactions two rule sets decide otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec

from beam_fraud.cli.commands.reports import report_files, write_report
from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.tried_rows import TriedRows, names_for_rules, schema_of_rules
from beam_fraud.cli.options import DiffRulesOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.decisions.rules.condition import Kind
from beam_fraud.decisions.rules.difference import rules_difference
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.comparison.rule_sets import RuleSetComparison, RuleSetsCompared
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable

#: The argument that means no rules.
_NONE = "none"


def run(options: DiffRulesOptions) -> dict[str, object]:
    """Evaluate both rule sets on the rows.

    Raises:
      UsageError: rules or an option are invalid.
      FraudError: there are no rows, or a file, the registry or the bundle cannot be used.
    """
    reports = Place.parse_all(options.out)
    with sole_writer("--out", *reports):
        return _compared(options, report_files(reports))


def _compared(options: DiffRulesOptions, reports: Sequence[Path]) -> dict[str, object]:
    registry = None if options.registry is None else open_registry(Place.parse(options.registry))
    bundle = _bundle(options, registry)
    schema = schema_of_rules(options.schema, bundle)
    names = names_for_rules(schema, bundle)
    lists = lists_directory(options.lists) or (None if registry is None else registry.lists)
    old, new = (
        _rules(text, where, names, registry, lists)
        for text, where in ((options.old, "OLD"), (options.new, "NEW"))
    )
    columns = [*(() if old is None else old.columns), *(() if new is None else new.columns)]
    tried = TriedRows.read(options, schema, bundle, tuple(dict.fromkeys(columns)))
    programs = [None if one is None else Program(one, tried.features) for one in (old, new)]
    comparison = RuleSetComparison(rules_difference(old, new), tried.thresholds)
    for rows in tried.blocks():
        fired = [
            None if one is None else one.fired(rows.transactions, rows.block, rows.scores)
            for one in programs
        ]
        comparison.add(rows.transactions, rows.scores, rows.labels, *fired)
    before, after = (_NONE if one is None else str(one.id) for one in (old, new))
    found = comparison.figures(before, after, None if bundle is None else bundle.model_id)
    written = [_written(found, path) for path in reports]
    reach = tried.dataset.reach
    return {
        **cast(dict[str, object], msgspec.to_builtins(found)),
        "reports": written,
        **tried.dataset.rows_by_outcome,
        **({} if reach is None else {"windows": reach.to_dict()}),
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    found = msgspec.convert(
        {name: result[name] for name in RuleSetsCompared.__dataclass_fields__}, RuleSetsCompared
    )
    return _text(found, cast(Sequence[str], result["reports"]))


def _bundle(options: DiffRulesOptions, registry: Registry | None) -> Bundle | None:
    if options.model is not None:
        return open_bundle(Place.parse(options.model))
    if registry is None or registry.standing.champion is None:
        return None
    return registry.champion()


def _rules(
    text: str,
    where: str,
    names: Mapping[str, Kind],
    registry: Registry | None,
    lists: Path | None,
) -> RuleSet | None:
    """Return the rules that an argument names.

    Raises:
      UsageError: it names neither a file nor a rule set, or the rules are invalid.
      FraudError: a file cannot be read, or was changed.
    """
    if text == _NONE:
        return None
    if text.endswith(".toml") or Path(text).expanduser().is_file():
        return load_rules(text, names, lists)
    if registry is None:
        raise UsageError(
            f"{where} {text}: is no file ending in .toml; give --registry DIR to name one of its "
            f"rule sets, or {_NONE}",
            Code.OPTION_VALUE,
        )
    return registry.rules_by(registry.find(text, "rules").id, names, lists)


def _written(found: RuleSetsCompared, path: Path) -> str:
    from beam_fraud.evaluation.comparison.rule_sets_report import report_bytes

    write_report(path, report_bytes(found, path.suffix.lower()))
    return str(path)


def _text(found: RuleSetsCompared, reports: Sequence[str]) -> str:
    labelled = bool(found.labelled)
    known = f", {found.labelled:,} of them labelled, {found.frauds:,} frauds" if labelled else ""
    lines = [
        f"{printable(found.old)} -> {printable(found.new)} on {found.rows:,} rows{known}",
        f"beside {printable(found.model_id)}" if found.model_id else "without a model",
        "",
    ]
    for rule in found.rules:
        lines.append(f"{rule.change} {printable(rule.rule)}")
        lines += [
            f"  {field}: {printable(before)} -> {printable(after)}"
            for field, (before, after) in rule.fields.items()
        ]
    if not found.rules:
        lines.append("the rules mean the same")
    lines += ["", f"flagged: {found.flagged_old:,} -> {found.flagged_new:,}", ""]
    lines += _cells(found, labelled=labelled)
    if found.rules:
        lines += ["", "each change alone", *_effects(found, labelled=labelled)]
    lines += ["", *(f"report {path}" for path in reports)] if reports else []
    return "\n".join(lines)


def _cells(found: RuleSetsCompared, *, labelled: bool) -> list[str]:
    """Return the lines of the rows that are decided otherwise."""
    lines: list[tuple[str, ...]] = [
        ("", "rows", "amount", *(("frauds", "genuine") if labelled else ()))
    ]
    for name, cell in (
        ("newly flagged", found.only_new),
        ("no longer flagged", found.only_old),
        *((f"{one.old} to {one.new}", one.rows) for one in found.transitions),
    ):
        known = (f"{cell.frauds:,}", f"{cell.genuine:,}") if labelled else ()
        lines.append((name, f"{cell.rows:,}", f"{cell.amount:,.2f}", *known))
    return table(lines, right=range(1, 5))


def _effects(found: RuleSetsCompared, *, labelled: bool) -> list[str]:
    """Return the lines of the rules that differ."""
    heading = ("frauds added", "frauds removed") if labelled else ()
    lines: list[tuple[str, ...]] = [("rule", "fired", "fires", "adds", "removes", *heading)]
    for rule in found.rules:
        counts = [rule.fired_old, rule.fired_new, rule.adds.rows, rule.removes.rows]
        counts += [rule.adds.frauds, rule.removes.frauds] if labelled else []
        lines.append((printable(rule.rule), *(f"{count:,}" for count in counts)))
    return table(lines, right=range(1, 7))
