"""Rules of a run, and their counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from beam_fraud.decisions.rules.rule import RULE_LIMIT, RuleSet
from beam_fraud.errors import Code, UsageError
from beam_fraud.monitoring import counters
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)


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
    """Return the counts of fired rules for `summary.json`; empty if there never were rules.

    Args:
      rules: the rules at the end, which are counted even if they never fired; or None.
      counted: all counters; rules that were replaced have fired, too.
    """
    there = {} if rules is None else {rule.name: rule for rule in rules.rules}
    prefixes = counters.RULE_PREFIX, counters.SHADOW_RULE_PREFIX
    replaced = [name.removeprefix(p) for p in prefixes for name in counted if name.startswith(p)]
    names = dict.fromkeys((*there, *replaced))
    if rules is None and not names:
        return {}
    rows = counted.get(counters.ROWS_SCORED, 0)
    counts: dict[str, dict[str, object]] = {}
    for name in names:
        live, in_shadow = (counted.get(prefix + name, 0) for prefix in prefixes)
        rule = there.get(name)
        # A rule that was replaced may have been both.
        shadow = rule.shadow if rule is not None else not live
        fired, other = (in_shadow, live) if shadow else (live, in_shadow)
        counts[name] = {"fired": fired, "share": round(fired / rows, 6) if rows else 0.0}
        counts[name] |= {"mode": "shadow"} if shadow else {}
        counts[name] |= {} if rule is None else rule.staged
        if other:
            counts[name]["fired_live" if shadow else "fired_in_shadow"] = other
    return {"rules": counts}


def warn_of_wide_rules(rules: RuleSet | None, counted: Mapping[str, int]) -> None:
    """Warn of rules that fired on more rows than a stream would allow."""
    rows = counted.get(counters.ROWS_SCORED, 0)
    for rule in () if rules is None else rules.rules:
        fired = counted.get(counters.rule_counter(rule.name, shadow=rule.shadow), 0)
        if rule.raises and fired > RULE_LIMIT * rows:
            _LOG.warning(
                "rule %s%s fired on %.1f %% of the rows, which is more than %g %%: check the rule "
                "(a stream would mute it)",
                rule.name,
                " in shadow" if rule.shadow else "",
                100 * fired / rows,
                100 * RULE_LIMIT,
            )
