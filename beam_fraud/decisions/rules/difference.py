"""The differences between two rule sets, in any layout of their files."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.decisions.rules.condition import All, Condition, Sampled
from beam_fraud.decisions.rules.rule import Rule, RuleSet


@dataclass(frozen=True)
class RuleChange:
    """A rule that only one of two rule sets has, or that they have in different forms."""

    #: Its name.
    name: str
    #: The rule in each, or None.
    old: Rule | None
    new: Rule | None

    @property
    def kind(self) -> str:
        """`added`, `removed` or `changed`."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"

    @property
    def fields(self) -> dict[str, tuple[str, str]]:
        """Return the changed fields of a rule: name to the old and the new value, as text."""
        if self.old is None or self.new is None:
            return {}
        old, new = _fields(self.old), _fields(self.new)
        fields = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
        if _condition(self.old) == _condition(self.new):
            # Written in another way.
            fields.pop("when", None)
        elif "when" not in fields:
            # The same words, but the lists that they name, or the end of a long condition, differ.
            fields["values"] = ("of lists, or the end of the condition", "others")
        return fields


@dataclass(frozen=True)
class RulesDifference:
    """The rules that differ: the new rules in their order, then the removed ones."""

    changes: tuple[RuleChange, ...]
    #: Number of rules that both have in the same form.
    same: int


def rules_difference(old: RuleSet | None, new: RuleSet | None) -> RulesDifference:
    """Compare two rule sets by the names and the meaning of their rules.

    Space, comments, the order of rules and the way a condition is written in parentheses make no
    difference.

    Args:
      old: the rules, or None for no rules.
      new: the same.
    """
    before = {} if old is None else {rule.name: rule for rule in old.rules}
    after = {} if new is None else {rule.name: rule for rule in new.rules}
    changes = [
        RuleChange(name, before.get(name), rule)
        for name, rule in after.items()
        if name not in before or not _same(before[name], rule)
    ]
    changes += [RuleChange(name, rule, None) for name, rule in before.items() if name not in after]
    shared = before.keys() & after.keys()
    return RulesDifference(tuple(changes), sum(_same(before[n], after[n]) for n in shared))


def _same(one: Rule, other: Rule) -> bool:
    fields = (_fields(rule) for rule in (one, other))
    first, second = ({n: v for n, v in each.items() if n != "when"} for each in fields)
    return first == second and _condition(one) == _condition(other)


def _condition(rule: Rule) -> Condition:
    """Return the condition without the share of accounts, which is a field of its own."""
    match rule.condition:
        case All((condition, Sampled())) if rule.rollout < 100:
            return condition
    return rule.condition


def _fields(rule: Rule) -> dict[str, str]:
    return {
        "when": rule.written or "",
        "decision": rule.decision,
        "priority": str(rule.priority),
        "mode": rule.mode,
        "rollout": f"{rule.rollout:g} %",
        "description": rule.description or "",
    }
