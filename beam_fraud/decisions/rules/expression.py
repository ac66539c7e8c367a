"""Parse conditions with Python's grammar; nothing is ever executed."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Collection, Mapping

from beam_fraud.decisions.rules.condition import (
    All,
    Always,
    Among,
    Any,
    Arithmetic,
    Column,
    Compare,
    Comparison,
    Condition,
    Kind,
    Listed,
    Missing,
    Negative,
    Not,
    Number,
    Operator,
    Sampled,
    Text,
    Value,
)
from beam_fraud.decisions.rules.large_lists import ListValues
from beam_fraud.schema.velocity import AGGREGATES
from beam_fraud.wording import did_you_mean

#: Maximum of characters of a condition; put longer lists of values into a file.
MAX_LENGTH = 4_000
#: Maximum nesting of operators and parentheses.
MAX_DEPTH = 40

_COMPARISONS: dict[type[ast.cmpop], Comparison] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_OPERATORS: dict[type[ast.operator], Operator] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
#: Description of the grammar for messages.
_ALLOWED = (
    "names, numbers, texts, True, False, and or not, == != < <= > >=, + - * /, "
    "`in` a list, `is None` and parentheses"
)
#: Suffixes of velocity features, rare among columns.
_VELOCITY = re.compile(rf"_({'|'.join(AGGREGATES)})_\d+\w+$|_seconds_since_last$")
_CONDITIONS = (Compare, Among, Listed, Sampled, Missing, Always, All, Any, Not)
#: Stands for @ while Python parses a condition: a letter that no name begins with.
_MARK = "\u01c0"
#: Pattern of a text, or of the @ of a list outside of texts.
_AT = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|@(?=[^\W\d])""")


class ConditionError(Exception):
    """An invalid condition: the error, the fix and the place."""

    def __init__(self, reason: str, column: int, line: int = 1) -> None:
        """Store the error, one line; `column` and `line` count from 1."""
        super().__init__(reason)
        self.column = column
        self.line = line


def read_condition(
    text: str,
    names: Mapping[str, Kind],
    lists: Mapping[str, ListValues],
    live: Collection[str] | None = None,
) -> Condition:
    """Parse a condition and check its names and types.

    Args:
      text: the condition, such as `amount > 2000 and account_count_1h >= 5`.
      names: the available columns and features.
      lists: the named lists, each of texts or of numbers.
      live: names of the lists that people change, written `@name`; None if there are none.

    Raises:
      ConditionError: it is no condition, uses an unknown name, or mixes numbers and texts.

    Example:
      >>> read_condition("amount > 100", {"amount": "number"}, {})
      Compare(operator='>', left=Column(name='amount', kind='number'), right=Number(value=100.0))
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(
            f"is {len(text):,} characters long, at most {MAX_LENGTH:,} are read; make several "
            "rules of it, or put values into a [[list]]",
            MAX_LENGTH + 1,
        )
    if not text.strip():
        raise ConditionError("is empty; write one, as in amount > 100", 1)
    return _Reader(text, names, lists, live).read()


class _Reader:
    def __init__(
        self,
        text: str,
        names: Mapping[str, Kind],
        lists: Mapping[str, ListValues],
        live: Collection[str] | None,
    ) -> None:
        # Join lines: a condition may span several, as inside parentheses.
        joined = text.replace("\r", " ").replace("\n", " ").replace("\t", " ")
        self._text = _AT.sub(lambda match: match[1] or _MARK, joined)
        self._live = live
        self._source = text
        self._start = len(text) - len(self._text.lstrip())
        self._names = names
        self._lists = lists

    def read(self) -> Condition:
        if "\n" in self._source.strip() and "#" in self._source:
            # A comment would swallow all later lines.
            at = self._source.index("#")
            raise self._error_at(at, "'#' in a condition of several lines; write it in one line")
        return self._condition(self._parsed().body, 1)

    def _parsed(self) -> ast.Expression:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self._text[self._start :], mode="eval")
        except SyntaxError as error:
            reason = (error.msg or "invalid syntax").split(". ")[0].split(".\n")[0]
            if "invalid syntax" in reason:
                reason = "cannot be read"
            at = min(max((error.offset or 1) - 1, 0) + self._start, len(self._text))
            if self._text[at : at + 1] == "=":
                reason = "cannot be read, did you mean ==?"
            raise self._error_at(at, f"{reason} (a condition holds {_ALLOWED})") from None
        except (ValueError, MemoryError, RecursionError, OverflowError):
            raise self._error_at(self._start, f"cannot be read (it may hold {_ALLOWED})") from None

    def _condition(self, node: ast.expr, depth: int) -> Condition:
        read = self._part(node, depth)
        if isinstance(read, _CONDITIONS):
            return read
        shown = ast.unparse(node)
        what = "a text" if _kind(read) == "text" else "a number"
        fix = f"{shown} == 'x'" if _kind(read) == "text" else f"{shown} > 0"
        if isinstance(read, Number | Text):
            fix = f"amount > {shown}" if isinstance(read, Number) else f"merchant_id == {shown}"
        raise self._error(node, f"is {what}, not a condition; compare it, as in {fix}")

    def _value(self, node: ast.expr, depth: int) -> Value:
        read = self._part(node, depth)
        if isinstance(read, Always):
            # A calendar feature is 1 or 0; accept True and False.
            return Number(float(read.value))
        if isinstance(read, _CONDITIONS):
            raise self._error(
                node, "is a condition where a value is needed; join conditions by and, or, not"
            )
        return read

    def _number(self, node: ast.expr, depth: int) -> Value:
        read = self._value(node, depth)
        if _kind(read) == "text":
            raise self._error(node, f"{_shown(node)} is text, which cannot be reckoned with")
        return read

    def _part(self, node: ast.expr, depth: int) -> Condition | Value:
        if depth > MAX_DEPTH:
            raise self._error(
                node, f"is nested deeper than {MAX_DEPTH} levels; make several rules of it"
            )
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute() if (name := _dotted(node)) is not None:
                return self._name(node, name)
            case ast.BoolOp():
                parts = tuple(self._condition(value, depth + 1) for value in node.values)
                return All(parts) if isinstance(node.op, ast.And) else Any(parts)
            case ast.UnaryOp(ast.Not(), operand):
                return Not(self._condition(operand, depth + 1))
            case ast.UnaryOp(ast.USub(), operand):
                return Negative(self._number(operand, depth + 1))
            case ast.BinOp() if type(node.op) in _OPERATORS:
                left = self._number(node.left, depth + 1)
                right = self._number(node.right, depth + 1)
                return Arithmetic(_OPERATORS[type(node.op)], left, right)
            case ast.Compare():
                return self._comparisons(node, depth)
            case ast.List() | ast.Tuple() | ast.Set():
                raise self._error(node, "a list stands only behind `in` or `not in`")
        raise self._error(node, f"is not allowed in a condition, which holds {_ALLOWED}")

    def _constant(self, node: ast.Constant) -> Value | Always:
        value = node.value
        if isinstance(value, bool):
            return Always(value)
        if isinstance(value, str):
            if not value.isprintable():
                raise self._error(node, "a text of characters that cannot be printed")
            return Text(value)
        if isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isinf(number):
                raise self._error(node, "the number is too large")
            return Number(number)
        if value is None:
            raise self._error(node, "None stands only behind `is` or `is not`")
        raise self._error(node, f"is not allowed in a condition, which holds {_ALLOWED}")

    def _name(self, node: ast.expr, name: str) -> Column:
        kind = self._names.get(name)
        if kind is None:
            if name.startswith(_MARK):
                raise self._error(node, f"{name} is a list, which stands only behind `in`")
            if name in self._lists:
                raise self._error(node, f"{name!r} is a list, which stands only behind `in`")
            if name == "score":
                raise self._error(node, "'score' needs a model; give --model BUNDLE")
            raise self._unknown(node, name, self._names, "name")
        return Column(name, kind)

    def _comparisons(self, node: ast.Compare, depth: int) -> Condition:
        operands = [node.left, *node.comparators]
        read = [
            self._comparison(node, operator, left, right, depth + 1)
            for operator, left, right in zip(node.ops, operands, operands[1:], strict=False)
        ]
        return read[0] if len(read) == 1 else All(tuple(read))

    def _comparison(
        self, node: ast.Compare, operator: ast.cmpop, left: ast.expr, right: ast.expr, depth: int
    ) -> Condition:
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._error(right, "`is` goes with None alone; write == or !=")
            return Missing(self._value(left, depth), isinstance(operator, ast.IsNot))
        if isinstance(operator, ast.In | ast.NotIn):
            return self._among(left, right, isinstance(operator, ast.NotIn), depth)
        for side in (left, right):
            if isinstance(side, ast.Constant) and side.value is None:
                raise self._error(side, "write `is None` or `is not None`")
        one, other = self._value(left, depth), self._value(right, depth)
        if _kind(one) != _kind(other):
            text, number = (left, right) if _kind(one) == "text" else (right, left)
            raise self._error(
                right,
                f"{_shown(number)} is a number and {_shown(text)} is text, which cannot be "
                f"compared; {_quotes(number, text)}",
            )
        symbol = _COMPARISONS[type(operator)]
        if _kind(one) == "text" and symbol not in ("==", "!="):
            raise self._error(right, f"texts have no order, so not {symbol}; write == or != or in")
        if isinstance(one, Text) and isinstance(other, Text):
            return Always((one.value == other.value) is (symbol == "=="))
        return Compare(symbol, one, other)

    def _among(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> Condition:
        operand = self._value(left, depth)
        if isinstance(right, ast.Name) and right.id.startswith(_MARK):
            return Listed(self._listed(left, operand, right), right.id[1:], negated)
        values = self._list(right)
        if isinstance(operand, Text):
            raise self._error(left, "a written text is compared with nothing; name a column")
        for value in values if isinstance(values, tuple) else (values.first,):
            if isinstance(value, str) is not (_kind(operand) == "text"):
                what = "text" if isinstance(value, str) else "a number"
                raise self._error(
                    right,
                    f"the list holds {value!r}, which is {what}, but {_shown(left)} is "
                    f"{'a number' if what == 'text' else 'text'}; "
                    + ("leave its quotes out" if what == "text" else "put quotes around it"),
                )
        return Among(operand, values, negated)

    def _listed(self, left: ast.expr, operand: Value, right: ast.Name) -> Column:
        """Return the column that is looked up in a list."""
        name = right.id[1:]
        if self._live is None:
            raise self._error(right, f"@{name} needs the directory of the lists; give --lists DIR")
        if name not in self._live:
            hint = did_you_mean(name, self._live, "`lists add` makes one")
            raise self._error(right, f"unknown list @{name} ({hint})")
        if not isinstance(operand, Column) or operand.kind != "text":
            raise self._error(
                left, f"{_shown(left)} is no column of text, which alone is looked up in @{name}"
            )
        return operand

    def _list(self, node: ast.expr) -> ListValues:
        if isinstance(node, ast.Name):
            if node.id not in self._lists:
                if node.id in self._names:
                    raise self._error(node, f"{node.id!r} is no list; write == to compare with it")
                raise self._unknown(node, node.id, self._lists, "list")
            return self._lists[node.id]
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            raise self._error(
                node, "`in` needs a list, as in currency in ['EUR', 'USD'], or the name of one"
            )
        values: list[str | float] = []
        for element in node.elts:
            match self._value(element, 1) if _is_written(element) else None:
                case Number(value) | Negative(Number(value)) as read:
                    values.append(value if isinstance(read, Number) else -value)
                case Text(text):
                    values.append(text)
                case _:
                    raise self._error(element, "a list holds numbers or texts as they are")
        return tuple(dict.fromkeys(values))  # type: ignore[return-value]  # told apart by `_among`

    def _unknown(
        self, node: ast.expr, name: str, known: Mapping[str, object], what: str
    ) -> ConditionError:
        velocity = what == "name" and _VELOCITY.search(name) is not None
        hint = did_you_mean(name, [k for k in known if not velocity or _VELOCITY.search(k)])
        if hint:
            pass
        elif velocity:
            hint = "define it by [[velocity]] in the schema"
        elif len(known) > 12:
            hint = f"known: {', '.join(list(known)[:12])} and {len(known) - 12} more"
        else:
            hint = f"known: {', '.join(known)}" if known else "there is none; make a [[list]]"
        return self._error(node, f"unknown {what} {name!r} ({hint})")

    def _error(self, node: ast.expr, reason: str) -> ConditionError:
        reason = reason.replace(_MARK, "@")
        # Python's offsets count UTF-8 bytes.
        ahead = self._text[self._start :].encode()[: node.col_offset].decode(errors="ignore")
        return self._error_at(self._start + len(ahead), reason)

    def _error_at(self, at: int, reason: str) -> ConditionError:
        before = self._source[:at]
        line, last = before.count("\n") + 1, before.rpartition("\n")[2]
        return ConditionError(reason, len(last) + 1, line)


def _kind(value: Value) -> Kind:
    if isinstance(value, Column):
        return value.kind
    return "text" if isinstance(value, Text) else "number"


def _dotted(node: ast.expr) -> str | None:
    """Return a name, or names joined by dots as `old.recall`; None for anything else."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name) if (before := _dotted(value)) is not None:
            return f"{before}.{name}"
    return None


def _is_written(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def _shown(node: ast.expr) -> str:
    """Return the source of a node, shortened for a message."""
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _quotes(number: ast.expr, text: ast.expr) -> str:
    if isinstance(number, ast.Constant):
        return f"put quotes around {_shown(number)}"
    if isinstance(text, ast.Constant):
        return f"leave the quotes of {_shown(text)} out"
    return "compare each with its like"
