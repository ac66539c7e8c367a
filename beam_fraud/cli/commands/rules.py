"""Rules of a run, and their counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import overload

from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.rule import RULE_LIMIT, RuleSet
from beam_fraud.decisions.rules.toml import load_rules, read_rule_files
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle
from beam_fraud.monitoring import counters
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)


@overload
def rules_for_model(path: str, bundle: Bundle, schema: Schema, lists: Path | None) -> RuleSet: ...
@overload
def rules_for_model(
    path: str | None, bundle: Bundle, schema: Schema, lists: Path | None
) -> RuleSet | None: ...
def rules_for_model(
    path: str | None, bundle: Bundle, schema: Schema, lists: Path | None
) -> RuleSet | None:
    """Return the rules of a file, which may use features of the model and the schema.

    Args:
      path: the file, or None.
      bundle: the model.
      schema: the schema of the transactions.
      lists: directory of the lists that rules name as `@name`, or None.

    Raises:
      UsageError: the file is invalid.
      FraudError: it cannot be read.
    """
    if path is None:
        return None
    return load_rules(path, vocabulary(schema, bundle.velocity_names(), scored=True), lists)


def rules_id(path: str) -> str | None:
    """Return the id of a rules file and the files of its lists; None if one is unreadable."""
    try:
        return read_rule_files(path).id
    except FraudError:
        return None


def lists_directory(text: str | None) -> Path | None:
    """Return the directory that `--lists` names, or None.

    Raises:
      UsageError: it is a URL.
    """
    if text is None:
        return None
    place = Place.parse(text)
    if place.local is None:
        raise UsageError(
            f"--lists {place.shown}: is followed on a disk; give a directory", Code.URL_UNUSABLE
        )
    return place.local


def rule_counts(rules: RuleSet | None, counted: Mapping[str, int]) -> dict[str, object]:
    """Return the counts of fired rules for `summary.json`; empty without rules."""
    if rules is None:
        return {}
    rows = counted.get(counters.ROWS_SCORED, 0)
    fired = {name: counted.get(counters.RULE_PREFIX + name, 0) for name in rules.names}
    counts = {
        name: {"fired": count, "share": round(count / rows, 6) if rows else 0.0}
        for name, count in fired.items()
    }
    return {"rules": counts}


def warn_of_wide_rules(rules: RuleSet | None, counted: Mapping[str, int]) -> None:
    """Warn of rules that fired on more rows than a stream would allow."""
    rows = counted.get(counters.ROWS_SCORED, 0)
    for rule in () if rules is None else rules.rules:
        fired = counted.get(counters.RULE_PREFIX + rule.name, 0)
        if rule.raises and fired > RULE_LIMIT * rows:
            _LOG.warning(
                "rule %s fired on %.1f %% of the rows, which is more than %g %%: check the rule "
                "(a stream would mute it)",
                rule.name,
                100 * fired / rows,
                100 * RULE_LIMIT,
            )
