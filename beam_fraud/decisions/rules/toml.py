"""Read rules from a TOML file."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import msgspec

from beam_fraud.decisions.lists.changes import list_names
from beam_fraud.decisions.rules.condition import All, Column, Kind, Sampled
from beam_fraud.decisions.rules.expression import ConditionError, read_condition
from beam_fraud.decisions.rules.files import RULES_FILE, RuleFiles
from beam_fraud.decisions.rules.large_lists import ListValues, list_values
from beam_fraud.decisions.rules.rule import MODES, VERDICTS, Mode, Rule, RuleSet, Verdict
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.text_file import (
    Table,
    must_be,
    read_table,
    read_toml,
    shortened,
)

#: Type: name of a list to its values, all texts or all numbers.
Lists: TypeAlias = Mapping[str, ListValues]

#: Type: `files_of_lists`.
FilesOf: TypeAlias = Callable[[bytes, str], tuple[str, ...]]

#: Files that the lists of rules files name, by the SHA-256 of these, oldest first; and how many.
_FILES_OF = dict[bytes, tuple[str, ...]]()
_MOST_KNOWN = 8
#: Words of the grammar of conditions.
_WORDS = frozenset({"and", "or", "not", "in", "is", "True", "False", "None"})
_HEADING = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
#: Maximum of the absolute value of a priority.
_MOST = 1_000_000_000
#: Maximum of characters of a description, and of a condition in alerts.
_LONGEST = 200


#: Pattern of names that counters, tables and messages can show.
_NAME = r"\A\w[\w .-]{0,79}\Z"
_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class _Table(Table):
    code = Code.RULES_INVALID


class _Document(_Table, rename={"rules": "rule", "lists": "list"}):
    rules: Annotated[list[dict[str, Any]], must_be("written as [[rule]]")] = []
    lists: Annotated[list[dict[str, Any]], must_be("written as [[list]]")] = []


class _List(_Table):
    name: Annotated[
        str, must_be('one word (as in name = "trusted")', pattern=r"\A[^\W\d]\w{0,79}\Z")
    ]
    values: Annotated[list[Any] | None, must_be("texts, or numbers, and at least one")] = None
    file: Annotated[_Filled | None, must_be("the name of a file, a value a line")] = None


class _Rule(_Table):
    name: Annotated[
        str,
        must_be(
            "of letters, digits, '_', '-', '.' and spaces, at most 80",
            pattern=_NAME,
        ),
    ]
    when: Annotated[str, must_be('text, as in when = "amount > 2000"')]
    decision: Annotated[Verdict, must_be(f"one of {', '.join(VERDICTS)}")]
    priority: Annotated[int, must_be(f"a whole number up to {_MOST:,}", ge=-_MOST, le=_MOST)] = 0
    description: Annotated[str | None, must_be(f"text of at most {_LONGEST} characters")] = None
    mode: Annotated[Mode, must_be(f"one of {', '.join(MODES)}")] = "live"
    rollout: Annotated[float, must_be("a share of accounts above 0, at most 100", gt=0, le=100)] = (
        100.0
    )


def load_rules(path: str, names: Mapping[str, Kind], live: Path | None = None) -> RuleSet:
    """Read the rules of a file, and check what can be checked without data.

    Args:
      path: a TOML file.
      names: names for conditions (`vocabulary`).
      live: directory of the lists that conditions name as `@name`, or None.

    Raises:
      UsageError: the contents of the file are invalid.
      FraudError: it, or the file of a list, cannot be read.
    """
    files = read_rule_files(path)
    return rules_from_toml(
        files.text, names, where=path, files=files.contents, live=live, rules_id=files.id
    )


def read_rule_files(path: str, files_of: FilesOf | None = None) -> RuleFiles:
    """Read a rules file and the files of its lists; invalid rules have an id, too.

    Args:
      path: the rules file.
      files_of: calls `files_of_lists`, perhaps elsewhere: a file of a million entries takes
        seconds to parse.

    Raises:
      FraudError: a file cannot be read.
    """
    file = Path(path).expanduser()
    contents = {RULES_FILE: _read(file, f"rules file {path}")}
    for name in _files_of_lists(contents[RULES_FILE], path, files_of or files_of_lists):
        where = f"rules file {path}: list file {name}"
        contents[name] = _read(file.parent / Path(name).expanduser(), where)
    return RuleFiles(file.stem, contents)


def _files_of_lists(data: bytes, where: str, files_of: FilesOf) -> tuple[str, ...]:
    """Return what `files_of_lists` does, without asking it again for what it was asked before.

    Whoever follows a file asks for the same contents every few seconds, and to parse two hundred
    rules takes as long as ten answers.
    """
    digest = hashlib.sha256(data).digest()
    files = _FILES_OF.get(digest)
    if files is None:
        files = files_of(data, where)
        # Another thread may add one meanwhile.
        for oldest in list(_FILES_OF)[: len(_FILES_OF) - _MOST_KNOWN + 1]:
            _FILES_OF.pop(oldest, None)
        _FILES_OF[digest] = files
    return files


def files_of_lists(data: bytes, where: str) -> tuple[str, ...]:
    """Return the files that the lists of a rules file name, if it is valid so far."""
    if b"file" not in data and b"\\" not in data:
        # No key is `file`, which only an escape could hide.
        return ()
    # Whoever parses the rules reports what is wrong with them.
    with suppress(UsageError, UnicodeDecodeError):
        return list_files(data.decode("utf-8-sig"), where)
    return ()


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FraudError(f"{where} cannot be read: {reason}", Code.RULES_UNREADABLE) from None


def list_files(text: str, where: str) -> tuple[str, ...]:
    """Return the files that the lists of a rules file name.

    Raises:
      UsageError: the text is no TOML, or a list is invalid.
    """
    tables = read_toml(text, _Document, where).lists
    read = (read_table(table, _List, f"{where}: list") for table in tables)
    return tuple(dict.fromkeys(one.file for one in read if one.file is not None))


def rules_from_toml(
    text: str,
    names: Mapping[str, Kind],
    *,
    where: str = "rules",
    files: Mapping[str, bytes] = MappingProxyType({}),
    live: Path | None = None,
    looked_up: Collection[str] | None = None,
    rules_id: str | None = None,
) -> RuleSet:
    """Parse the TOML form of rules.

    Args:
      text: the file's content.
      names: names for conditions.
      where: the file's name, for messages.
      files: contents of the files of lists by name.
      live: directory of the lists that conditions name as `@name`, or None.
      looked_up: names of such lists without a directory, where the results of look-ups are known;
        or None.
      rules_id: id of the rule set, which scored rows carry.

    Raises:
      UsageError: invalid TOML, an unknown key, a value of the wrong type, an invalid condition.
      FraudError: the file of a list is missing or no text.

    Example:
      >>> rules = rules_from_toml(
      ...     '[[rule]]\\nname = "large"\\nwhen = "amount > 100"\\ndecision = "review"',
      ...     {"amount": "number"},
      ... )
      >>> rules.names, rules.columns
      (('large',), ('amount',))
    """
    document = read_toml(text, _Document, where)
    lists = _read_lists(document.lists, where, files)
    known = looked_up if live is None else list_names(live)
    tables = document.rules
    if not tables:
        raise UsageError(
            f"{where}: has no [[rule]]; write one or leave --rules out", Code.RULES_INVALID
        )
    lines = [text.count("\n", 0, match.start()) + 1 for match in _HEADING.finditer(text)]
    # Without a heading each, as in `rule = [{..}]`, lines are unknown.
    places: list[int | None] = [*lines] if len(lines) == len(tables) else [None] * len(tables)
    rules: list[Rule] = []
    for number, (table, line) in enumerate(zip(tables, places, strict=True), 1):
        at = "" if line is None else f" (line {line})"
        at = f"{where}: rule {_called(table, number)}{at}"
        read = read_table(table, _Rule, at)
        if read.name in (rule.name for rule in rules):
            raise UsageError(f"{at}: there is one of that name; rename it", Code.RULES_INVALID)
        rules.append(_rule(read, at, names, lists, known))
    # A stable sort keeps the order of equal priorities.
    in_order = tuple(sorted(rules, key=lambda rule: -rule.priority))
    return RuleSet(in_order, live, rules_id, dict(files))


def _read_lists(tables: list[dict[str, Any]], where: str, files: Mapping[str, bytes]) -> Lists:
    lists: dict[str, ListValues] = {}
    hash = IdHash.random()
    for number, table in enumerate(tables, 1):
        at = f"{where}: list {_called(table, number)}"
        read = read_table(table, _List, at)
        if read.name in _WORDS:
            raise UsageError(f"{at}: is a word of conditions; rename it", Code.RULES_INVALID)
        if read.name in lists:
            raise UsageError(f"{at}: there is one of that name; rename it", Code.RULES_INVALID)
        if read.file is None and read.values is not None:
            lists[read.name] = list_values(_values(read.values, at), hash)
        elif read.file is not None and read.values is None:
            lists[read.name] = list_values(_of_file(read.file, at, files), hash)
        else:
            raise UsageError(f"{at}: needs either values = [..] or file = '..'", Code.RULES_INVALID)
    return lists


def _called(table: dict[str, Any], number: int) -> str:
    """Return what a message calls a table: by its name, or by its place in the file."""
    name = table.get("name")
    return name if isinstance(name, str) and re.search(_NAME, name) else str(number)


def _values(values: list[Any], at: str) -> tuple[str, ...] | tuple[float, ...]:
    if values and all(isinstance(value, str) for value in values):
        return tuple(dict.fromkeys(values))
    if values and all(type(value) in (int, float) and _fits(value) for value in values):
        return tuple(dict.fromkeys(float(value) for value in values))
    raise UsageError(
        f"{at}: values must be texts, or numbers, and at least one (as in values = ['m1', 'm2'])",
        Code.RULES_INVALID,
    )


def _fits(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _of_file(path: str, at: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    try:
        text = files[path].decode("utf-8-sig")
    except (KeyError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else os.strerror(errno.ENOENT)
        raise FraudError(
            f"{at}: file {path} cannot be read: {reason}", Code.RULES_UNREADABLE
        ) from None
    lines = (line.strip() for line in text.splitlines())
    values = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not values:
        raise UsageError(f"{at}: file {path} holds no value; write one a line", Code.RULES_INVALID)
    return values


def _rule(
    table: _Rule,
    where: str,
    names: Mapping[str, Kind],
    lists: Lists,
    live: Collection[str] | None,
) -> Rule:
    try:
        condition = read_condition(table.when, names, lists, live)
    except ConditionError as error:
        line = f"line {error.line}, " if error.line > 1 else ""
        raise UsageError(
            f"{where}: when, {line}column {error.column}: {error}", Code.RULE_CONDITION
        ) from None
    if table.rollout < 100:
        if "account_id" not in names:
            raise UsageError(
                f"{where}: rollout is a share of accounts, and the schema has none; name their "
                "column under [roles], or leave rollout out",
                Code.RULES_INVALID,
            )
        sampled = Sampled(Column("account_id", "text"), table.name, table.rollout)
        condition = All((condition, sampled))
    written = " ".join(table.when.split())
    return Rule(
        table.name,
        condition,
        table.decision,
        table.priority,
        written if len(written) <= _LONGEST else f"{written[: _LONGEST - 1]}…",
        _description(table, where),
        table.mode,
        table.rollout,
    )


def _description(table: _Rule, where: str) -> str | None:
    if table.description is None:
        return None
    text = " ".join(table.description.split())
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise UsageError(
            f"{where}: description must be printable text of at most {_LONGEST} characters, not "
            f"{shortened(table.description)}",
            Code.RULES_INVALID,
        )
    return text
