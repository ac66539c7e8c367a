"""Write a draft of a schema, with what could not be told as comments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.errors import FraudError
from beam_fraud.evaluation.inference.roles import Roles, TimeColumns, guess_roles, texts_of
from beam_fraud.evaluation.inference.sample import Sample
from beam_fraud.evaluation.inference.values import UNUSUAL_ABSENT, Column, column_of
from beam_fraud.records.identifiers import rounded
from beam_fraud.records.validate import validate_arrivals
from beam_fraud.schema.event_time import moment_of
from beam_fraud.schema.notation import ABSENT, PLAIN, PLAIN_TEXT, NumberNotation
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import RESERVED, ROLES
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.table import raw_batch

#: Values of a column that a comment shows.
_SHOWN = 3
#: Long numbers of six digits and zeros, as 2.70319E+15 becomes.
_ROUND = r"^[1-9][0-9]{5}0{5,}(\.0)?$"
#: Share of different accounts from which windows of accounts are empty.
_MANY_ACCOUNTS = 0.9


@dataclass(frozen=True)
class Draft:
    """A draft of a schema."""

    #: The TOML document.
    text: str
    #: What could not be told, each a line of it.
    unknown: tuple[str, ...]
    #: Names of the columns that can be the label.
    labels: tuple[str, ...]
    #: Rows that were looked at.
    rows: int


def draft_schema(sample: Sample) -> Draft:
    """Return a draft of a schema that reads a sample, with comments."""
    table = sample.table
    columns = [column_of(name, table[name].combine_chunks()) for name in table.column_names]
    roles = guess_roles(columns)
    writing = _Writing(sample, roles)
    text = writing.text()
    if not writing.incomplete and (fault := _fault(sample, text)):
        writing.unknown.append(fault)
        text = writing.text()
    names = tuple(column.name for column in roles.labels)
    return Draft(text, tuple(dict.fromkeys(writing.unknown)), names, table.num_rows)


def fitting_presets(sample: Sample) -> tuple[str, ...]:
    """Return the presets whose every column is in a sample."""
    there = set(sample.table.column_names)
    return tuple(
        name for name, schema in PRESETS.items() if there.issuperset(schema.columns(labels="known"))
    )


def _fault(sample: Sample, text: str) -> str | None:
    """Return why a draft does not read the sample, or None."""
    try:
        schema = schema_from_toml(text)
    except FraudError as error:
        return f"the draft is no schema: {error}"
    columns = {name: sample.table[name].combine_chunks() for name in sample.table.column_names}
    checked = validate_arrivals(
        raw_batch(columns, "sample"), schema, labels="ignored", ahead=None, now=None
    )
    if not len(checked.dead):
        return None
    first = checked.dead.slice(0, 1).to_pylist()[0]
    return (
        f"{len(checked.dead):,} of {sample.table.num_rows:,} rows are no transactions by this "
        f"draft; the first: {first['detail']}"
    )


class _Writing:
    """Write the lines of a draft, and gather what could not be told."""

    def __init__(self, sample: Sample, roles: Roles) -> None:
        self._sample = sample
        self._roles = roles
        self.unknown: list[str] = list(sample.notes)
        #: Whether a required role has no column, or its values cannot be read.
        self.incomplete = roles.time is None or roles.amount is None

    def text(self) -> str:
        """Return the document."""
        body = list(self._body())
        rows = self._sample.table.num_rows
        files = ", ".join(PurePosixPath(path).name for path in self._sample.files)
        many = "all" if self._sample.whole else "the first"
        stem = PurePosixPath(self._sample.files[0]).name.partition(".")[0]
        head = [
            f"# Draft of a schema, by {many} {rows:,} rows of {_printable(files)}.",
            "# Lines that begin with '# ?' say what could not be told: answer them, then run",
            "# `beam-fraud schema check`.",
            *(
                f"# The preset {preset} reads these columns: `--schema {preset}`."
                for preset in fitting_presets(self._sample)
            ),
            *(f"# ? {_printable(line)}" for line in dict.fromkeys(self.unknown)),
            "",
            f"name = {_toml(stem)}",
        ]
        return "\n".join([*head, *body]) + "\n"

    def _body(self) -> Iterator[str]:
        yield from self._role_lines()
        yield from self._source_lines()
        yield from self._time_lines()
        yield from self._amount_lines()
        yield from self._id_lines()
        yield from self._feature_lines()
        yield from self._velocity_lines()

    def _role_lines(self) -> Iterator[str]:
        roles = self._roles
        yield from ("", "[roles]")
        if roles.transaction is not None:
            why = f"{roles.transaction.distinct:,} different in as many rows"
            yield _line("transaction_id", roles.transaction.name, why)
        else:
            yield '# transaction_id = "..."  # none found: ids will be <file>:<row>'
        if roles.time is None:
            self.unknown.append("event_time: no column of times was found")
            yield '# event_time = "..."'
        else:
            names = roles.time.columns
            yield _line("event_time", names[0] if len(names) == 1 else names, _span(roles.time))
        for role, column in (("account_id", roles.account), ("merchant_id", roles.merchant)):
            if column is None:
                yield f'# {role} = "..."  # none found by name'
                continue
            why = f"{column.distinct:,} different in {column.rows:,} rows" + self._or(role)
            if column.absent:
                why += f", {column.absent:,} rows without"
                text = f'{{ column = {_toml(column.name)}, missing = "allow" }}'
                yield f"{role} = {text}  # {why}"
            else:
                yield _line(role, column.name, why)
        if roles.amount is None:
            self.unknown.append("amount: no column of numbers is one by its name")
            yield '# amount = "..."'
        else:
            numbers = roles.amount.numbers
            assert numbers is not None
            why = f"{numbers.least:g} to {numbers.greatest:g}" + self._or("amount")
            yield _line("amount", roles.amount.name, why)
        if roles.currency is not None:
            yield _line("currency", roles.currency.name, _frequent(roles.currency))
        yield from self._label_lines()

    def _or(self, role: str) -> str:
        """Return what other columns can play a role, for a comment."""
        rivals = self._roles.rivals.get(role, ())
        return f"; or {', '.join(map(repr, rivals))}" if rivals else ""

    def _label_lines(self) -> Iterator[str]:
        if not self._roles.labels:
            yield '# label = "..."  # no column of two values'
            return
        self.unknown.append("label: never guessed; uncomment the line of its column, if any")
        for column in self._roles.labels:
            yield f"# label = {_toml(column.name)}  # {_frequent(column)}"

    def _source_lines(self) -> Iterator[str]:
        source = self._sample.source
        if source == PLAIN_TEXT:
            return
        yield from ("", "[source]")
        for name in ("encoding", "delimiter", "quote", "header", "unwrap"):
            value = getattr(source, name)
            if value != getattr(PLAIN_TEXT, name):
                yield f"{name} = {_toml(value)}"

    def _time_lines(self) -> Iterator[str]:
        time = self._roles.time
        if time is None:
            return
        shown = " and ".join(map(repr, time.columns))
        if time.guess is None:
            self.incomplete = True
            self.unknown.append(
                f"{shown} counts in an unknown unit from an unknown day, or is of no known format"
            )
            yield from ("", "[time]", '# unit = "hour"', '# origin = "2020-01-01"')
            return
        guess = time.guess
        forms = guess.notation.forms
        self._note_unread(shown, guess.unread)
        if guess.others:
            self.incomplete = True
            several = " or ".join(map(repr, (*forms, *guess.others)))
            self.unknown.append(f"times of {shown} can be {several}, which are different times")
            yield from ("", "[time]")
            yield from (f"# format = {_toml(form)}" for form in (*forms, *guess.others))
            return
        if forms or guess.naive:
            yield from ("", "[time]")
        if forms:
            rows = self._sample.table.num_rows
            yield f"format = {_toml(forms[0])}  # {_share(len(guess.unread))} of {rows:,}"
        if guess.naive:
            self.unknown.append(
                f"times of {shown} have no zone, and are read as UTC: if they are of a clock, set "
                'timezone = "..." above [roles] and naive = "local"'
            )
            yield '# naive = "local"'
        if guess.numbers and not forms:
            self.unknown.append(
                f"times of {shown} are numbers: seconds to nanoseconds since 1970 by their size"
            )

    def _amount_lines(self) -> Iterator[str]:
        column = self._roles.amount
        if column is None or column.numbers is None:
            return
        lines, numbers = list(_notation_lines(column.numbers.notation)), column.numbers
        self._note_unread(repr(column.name), numbers.unread)
        if numbers.other is not None:
            self.incomplete = True
            first, second = (
                ", ".join(_notation_lines(one)) or "plain numbers"
                for one in (numbers.notation, numbers.other)
            )
            self.unknown.append(
                f"separators of {column.name!r} can be of decimals or of thousands: {first}; "
                f"or {second}"
            )
            lines = [f"# {line}" for one in (numbers.notation, numbers.other)
                     for line in _notation_lines(one)]  # fmt: skip
        if numbers.negative:
            lines.append("allow_negative = true  # some are below zero")
        if numbers.whole:
            self.unknown.append(
                f"all values of {column.name!r} are whole: if they are cents, set "
                'unit = "minor" under [amount]'
            )
            lines.append('# unit = "minor"')
        if lines:
            yield from ("", "[amount]", *lines)

    def _id_lines(self) -> Iterator[str]:
        trim, unusual = False, dict[str, None]()
        for column in (self._roles.transaction, self._roles.account, self._roles.merchant):
            if column is None:
                continue
            texts = texts_of(column)
            if cut := rounded(texts):
                self.unknown.append(
                    f"{cut:,} ids of {column.name!r} are in scientific notation: they lost digits"
                )
            zeros = pc.sum(pc.match_substring_regex(texts, _ROUND)).as_py() or 0
            if 2 * zeros > len(texts):
                self.unknown.append(
                    f"{zeros:,} ids of {column.name!r} end in zeros: a spreadsheet may have "
                    "rounded them"
                )
            if pat.is_string(column.known.type):
                bare = pc.utf8_trim_whitespace(texts)
                trim = trim or bool(pc.any(pc.not_equal(bare, texts)).as_py())
                there = set(UNUSUAL_ABSENT) & set(bare.unique().to_pylist())
                unusual |= dict.fromkeys(sorted(there))
                self._note_spelling(column, bare)
            if column is self._roles.account and column.distinct > _MANY_ACCOUNTS * column.rows:
                self.unknown.append(
                    f"account_id: {column.name!r} is hardly an account, because "
                    f"{column.distinct:,} of {column.rows:,} rows have another"
                )
        if trim:
            yield from ("", "[ids]", "trim = true  # some have blanks at an end")
        if unusual:
            self.unknown.append(
                f"ids {', '.join(map(repr, unusual))} may mean that there is none: list them "
                "under [missing]"
            )
            spellings = [spelling for spelling in (*ABSENT, *unusual) if spelling]
            yield from ("", "# [missing]", f"# spellings = {_toml(spellings)}")

    def _note_unread(self, shown: str, unread: Sequence[str]) -> None:
        if unread:
            some = ", ".join(repr(value[:40]) for value in unread[:_SHOWN])
            self.unknown.append(
                f"{len(unread):,} different values of {shown} are not read, such as {some}"
            )

    def _note_spelling(self, column: Column, texts: object) -> None:
        """Note what other files may write otherwise: zeros in front, or a common beginning."""
        if pc.any(pc.match_substring_regex(texts, "^0[0-9]+$")).as_py():
            self.unknown.append(
                f"ids of {column.name!r} have zeros in front: if other files leave them out, set "
                'strip = "0"'
            )
        starts = pc.unique(pc.utf8_slice_codeunits(texts, 0, 1)).to_pylist()
        if len(starts) == 1 and starts[0] and not starts[0].isdigit():
            self.unknown.append(
                f"all ids of {column.name!r} begin with {starts[0]!r}: if other files leave a "
                "prefix out, set prefix"
            )

    def _feature_lines(self) -> Iterator[str]:
        roles = self._roles
        for kind, columns in (("numeric", roles.numeric), ("categorical", roles.categorical)):
            for column in columns:
                if column.name in RESERVED or column.name in ROLES:
                    self.unknown.append(
                        f"{column.name!r} is a name of the output: rename the column to use it"
                    )
                    continue
                yield from ("", "[[feature]]", f"column = {_toml(column.name)}")
                if kind == "categorical":
                    yield f'kind = "categorical"  # {column.distinct:,} values'
                elif column.numbers is not None:
                    yield from _notation_lines(column.numbers.notation)
                if column.absent:
                    yield f'missing = "allow"  # {column.absent:,} rows lack it'
        if roles.left_out:
            yield from ("", "# Columns that are no features:")
        for name, why in roles.left_out.items():
            yield f"# {_toml(name)}: {why}"

    def _velocity_lines(self) -> Iterator[str]:
        roles = self._roles
        for role, column, aggregates in (
            ("account_id", roles.account, ["count", "mean"]),
            ("merchant_id", roles.merchant, ["count"]),
        ):
            if column is not None:
                yield from ("", "[[velocity]]", f'key = "{role}"', 'windows = ["1d", "7d", "30d"]')
                yield f"aggregates = {_toml(aggregates)}"


def _line(role: str, columns: str | Sequence[str], why: str) -> str:
    return f"{role} = {_toml(columns)}  # {_printable(why)}"


def _share(unread: int) -> str:
    return f"reads all but {unread:,} different values" if unread else "reads every row"


def _span(time: TimeColumns) -> str:
    if time.guess is None:
        return "numbers that count"
    first, last = (moment_of(one).isoformat(timespec="seconds")
                   for one in (time.guess.first, time.guess.last))  # fmt: skip
    return f"{first} to {last}"


def _frequent(column: Column) -> str:
    shown = [f"{_toml(value[:40])} {rows:,}" for value, rows in column.frequent[:_SHOWN]]
    more = "" if column.distinct <= _SHOWN else f" and {column.distinct - _SHOWN:,} others"
    return _printable(", ".join(shown) + more)


def _notation_lines(notation: NumberNotation) -> Iterator[str]:
    for name in ("decimal", "thousands", "negative"):
        value = getattr(notation, name)
        if value != getattr(PLAIN, name):
            yield f"{name} = {_toml(value)}"
    if notation.symbols:
        yield f"symbol = {_toml(list(notation.symbols))}"


def _toml(value: object) -> str:
    """Write a text or a list as TOML, which takes JSON's."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    """Return text that is a comment on one line."""
    return "".join(c if c.isprintable() else " " for c in text)
