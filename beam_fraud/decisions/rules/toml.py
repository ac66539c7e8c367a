"""Read rules from a TOML file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from beam_fraud.decisions.rules.condition import Kind
from beam_fraud.decisions.rules.expression import ConditionError, read_condition
from beam_fraud.decisions.rules.rule import VERDICTS, Rule, RuleSet, Verdict
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.text_file import parse_toml, read_text_file
from beam_fraud.wording import did_you_mean

#: Type: name of a list to its values, all texts or all numbers.
Lists: TypeAlias = Mapping[str, tuple[str, ...] | tuple[float, ...]]

_LIST_KEYS = ("name", "values", "file")
_LIST_NAME = re.compile(r"[^\W\d]\w{0,79}")
#: Words of the grammar of conditions.
_WORDS = frozenset({"and", "or", "not", "in", "is", "True", "False", "None"})


def read_lists(tables: list[dict[str, Any]], where: str, beside: Path) -> Lists:
    """Return the lists of a file of rules.

    Args:
      tables: the contents of each `[[list]]`.
      where: the file's name, for messages.
      beside: base directory of the lists' own files.

    Raises:
      UsageError: a list is invalid.
      FraudError: the file of a list cannot be read.
    """
    lists: dict[str, tuple[str, ...] | tuple[float, ...]] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        at = f"{where}: list {number}"
        if not isinstance(name, str) or not _LIST_NAME.fullmatch(name) or name in _WORDS:
            raise UsageError(
                f'{at}: needs a name of one word (as in name = "trusted")', Code.RULES_INVALID
            )
        at = f"{where}: list {name}"
        if name in lists:
            raise UsageError(f"{at}: there is one of that name; rename it", Code.RULES_INVALID)
        for key in table:
            if key not in _LIST_KEYS:
                raise UsageError(
                    f"{at}: unknown key {key!r} (known: {', '.join(_KEYS)})", Code.RULES_INVALID
                )
        if ("values" in table) is ("file" in table):
            raise UsageError(f"{at}: needs either values = [..] or file = '..'", Code.RULES_INVALID)
        given = table.get("values")
        lists[name] = _of_file(table["file"], at, beside) if given is None else _values(given, at)
    return lists


def _values(given: object, at: str) -> tuple[str, ...] | tuple[float, ...]:
    if isinstance(given, list):
        if given and all(isinstance(value, str) for value in given):
            return tuple(dict.fromkeys(given))
        if given and all(type(value) in (int, float) and _fits(value) for value in given):
            return tuple(dict.fromkeys(float(value) for value in given))
    raise UsageError(
        f"{at}: values must be texts, or numbers, and not none at all "
        "(as in values = ['m1', 'm2'])",
        Code.RULES_INVALID,
    )


def _fits(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _of_file(given: object, at: str, beside: Path) -> tuple[str, ...]:
    if not isinstance(given, str) or not given:
        raise UsageError(
            f"{at}: file must be the name of a file, a value a line", Code.RULES_INVALID
        )
    try:
        text = read_text_file(beside / Path(given).expanduser())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise FraudError(
            f"{at}: file {given} cannot be read: {reason}", Code.RULES_UNREADABLE
        ) from None
    lines = (line.strip() for line in text.splitlines())
    values = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not values:
        raise UsageError(f"{at}: file {given} holds no value; write one a line", Code.RULES_INVALID)
    return values


_TOP_LEVEL = ("rule", "list")
_KEYS = ("name", "when", "decision", "priority", "description")
#: Pattern of names that counters, tables and messages can show.
_NAME = re.compile(r"\w[\w .-]{0,79}")
_HEADING = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
#: Maximum of the absolute value of a priority.
_MOST = 1_000_000_000
#: Maximum of characters of a description, and of a condition in alerts.
_LONGEST = 200


def load_rules(path: str, names: Mapping[str, Kind]) -> RuleSet:
    """Read the rules of a file, and check what can be checked without data.

    Args:
      path: a TOML file.
      names: names for conditions (`vocabulary`).

    Raises:
      UsageError: the contents of the file are invalid.
      FraudError: it, or the file of a list, cannot be read.
    """
    file = Path(path).expanduser()
    try:
        text = read_text_file(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise FraudError(
            f"rules file {path} cannot be read: {reason}", Code.RULES_UNREADABLE
        ) from None
    return rules_from_toml(text, names, where=path, beside=file.parent)


def rules_from_toml(
    text: str, names: Mapping[str, Kind], *, where: str = "rules", beside: Path = Path()
) -> RuleSet:
    """Parse the TOML form of rules.

    Args:
      text: the file's content.
      names: names for conditions.
      where: the file's name, for messages.
      beside: base directory of files of lists.

    Raises:
      UsageError: invalid TOML, an unknown key, a value of the wrong type, an invalid condition.
      FraudError: the file of a list cannot be read.

    Example:
      >>> rules = rules_from_toml(
      ...     '[[rule]]\\nname = "large"\\nwhen = "amount > 100"\\ndecision = "review"',
      ...     {"amount": "number"},
      ... )
      >>> rules.names, rules.columns
      (('large',), ('amount',))
    """
    document = parse_toml(text, where)
    known_keys(document, _TOP_LEVEL, where)
    lists = read_lists(tables(document, "list", where), where, beside)
    found = tables(document, "rule", where)
    if not found:
        raise UsageError(
            f"{where}: has no [[rule]]; write one or leave --rules out", Code.RULES_INVALID
        )
    lines = [text.count("\n", 0, match.start()) + 1 for match in _HEADING.finditer(text)]
    # Without a heading each, as in `rule = [{..}]`, lines are unknown.
    places: list[int | None] = [*lines] if len(lines) == len(found) else [None] * len(found)
    rules: list[Rule] = []
    for number, (table, line) in enumerate(zip(found, places, strict=True), 1):
        at = "" if line is None else f" (line {line})"
        name = _name(table, f"{where}: rule {number}{at}")
        if name in (rule.name for rule in rules):
            raise UsageError(
                f"{where}: rule {name}{at}: there is one of that name; rename it",
                Code.RULES_INVALID,
            )
        rules.append(_rule(table, name, f"{where}: rule {name}{at}", names, lists))
    # A stable sort keeps the order of equal priorities.
    return RuleSet(tuple(sorted(rules, key=lambda rule: -rule.priority)))


def tables(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return the tables `[[key]]` of a document.

    Raises:
      UsageError: the value is no array of tables.
    """
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise UsageError(f"{where}: {key} must be written as [[{key}]]", Code.RULES_INVALID)
    return cast(list[dict[str, Any]], found)


def known_keys(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse unknown keys.

    Raises:
      UsageError: a key is not in `known`.
    """
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known, f"known: {', '.join(known)}")
            raise UsageError(f"{where}: unknown key {key!r} ({hint})", Code.RULES_INVALID)


def _name(table: dict[str, Any], where: str) -> str:
    name = table.get("name")
    if name is None:
        raise UsageError(
            f'{where}: name is missing (as in name = "large_and_fast")', Code.RULES_INVALID
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{where}: name must be of letters, digits, '_', '-', '.' and spaces, at most 80, not "
            f"{_short(name)}",
            Code.RULES_INVALID,
        )
    return name


def _rule(
    table: dict[str, Any], name: str, where: str, names: Mapping[str, Kind], lists: Lists
) -> Rule:
    known_keys(table, _KEYS, where)
    decision = table.get("decision")
    if decision not in VERDICTS:
        said = "is missing" if decision is None else f"is {_short(decision)}"
        raise UsageError(
            f"{where}: decision {said}; write one of {', '.join(VERDICTS)}", Code.RULES_INVALID
        )
    priority = table.get("priority", 0)
    if type(priority) is not int or abs(priority) > _MOST:
        raise UsageError(
            f"{where}: priority must be a whole number up to {_MOST:,}, not {_short(priority)}",
            Code.RULES_INVALID,
        )
    when = table.get("when")
    if not isinstance(when, str):
        said = "is missing" if when is None else f"must be text, not {_short(when)}"
        raise UsageError(
            f'{where}: when {said} (as in when = "amount > 2000")', Code.RULE_CONDITION
        )
    try:
        condition = read_condition(when, names, lists)
    except ConditionError as error:
        line = f"line {error.line}, " if error.line > 1 else ""
        raise UsageError(
            f"{where}: when, {line}column {error.column}: {error}", Code.RULE_CONDITION
        ) from None
    written = " ".join(when.split())
    return Rule(
        name,
        condition,
        cast(Verdict, decision),
        priority,
        written if len(written) <= _LONGEST else f"{written[: _LONGEST - 1]}…",
        _description(table, where),
    )


def _description(table: dict[str, Any], where: str) -> str | None:
    given = table.get("description")
    if given is None:
        return None
    text = " ".join(given.split()) if isinstance(given, str) else ""
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise UsageError(
            f"{where}: description must be text of at most {_LONGEST} characters, "
            f"not {_short(given)}",
            Code.RULES_INVALID,
        )
    return text


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
