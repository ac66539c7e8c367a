"""The roles that columns play, by their names and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.evaluation.inference.values import Column, TimeGuess, time_guess
from beam_fraud.records.composites import composite_times

_TIME = frozenset(
    ("time", "date", "datetime", "timestamp", "when", "booked", "at", "dt", "ts", "created")
)
_COUNTED = frozenset(
    ("step", "hour", "hours", "day", "days", "seconds", "time", "elapsed", "month", "dt", "week")
)
#: Words of times that are not those of a payment.
_OTHER_TIME = frozenset(
    (
        *("dob", "birth", "born", "expiry", "expires", "expiration", "open", "opened", "due"),
        *("settled", "settlement", "posted", "updated", "modified", "end", "unix", "seen"),
        *("labelled", "labeled", "reported", "confirmed", "chargeback"),
    )
)
_AMOUNT = frozenset(("amount", "amt", "value", "price", "total", "sum", "montant", "betrag"))
_OTHER_AMOUNT = frozenset(
    ("balance", "balcon", "limit", "count", "old", "new", "avg", "mean", "velocity", "id")
)
_TRANSACTION = frozenset(
    ("transaction", "trans", "txn", "tx", "reference", "ref", "uuid", "id", "num", "key")
)
_ACCOUNT = frozenset(
    (
        *("account", "card", "customer", "client", "cc", "pan", "iban", "user", "sender"),
        *("orig", "payer", "cardholder", "holder"),
    )
)
_MERCHANT = frozenset(
    (
        *("merchant", "shop", "terminal", "store", "payee", "receiver", "recipient", "dest"),
        *("beneficiary", "seller"),
    )
)
#: Words of what describes an account or a merchant.
_ATTRIBUTE = frozenset(
    (
        *("city", "state", "zip", "country", "lat", "long", "category", "code", "mcc", "type"),
        *("brand", "age", "limit", "count", "balance", "location", "currency", "old", "new"),
        *("street", "address"),
    )
)
_NAMING = frozenset(("id", "name", "num", "number", "no", "account"))
#: Words of labels, and of what is known only with them.
LABEL_WORDS = frozenset(
    (
        *("fraud", "fraudulent", "laundering", "label", "class", "target", "chargeback"),
        *("flagged", "suspicious"),
    )
)
_AFTERWARDS = frozenset(("scenario", "typology", "investigation", "disputed", "recovered"))
#: Values of a label, and of a category; share of different values of a category.
_LABEL_VALUES, _CATEGORY_VALUES, _CATEGORY_SHARE = 3, 200, 0.1
#: Words of numbers that are codes.
_CODES = frozenset(("mcc", "code", "zip", "category", "type", "state", "country", "id"))


@dataclass(frozen=True)
class TimeColumns:
    """The columns of the event time."""

    columns: tuple[str, ...]
    #: How they write it; None for numbers that count in an unknown unit from an unknown day.
    guess: TimeGuess | None


@dataclass(frozen=True)
class Roles:
    """The assignment of columns to roles and features."""

    time: TimeColumns | None
    amount: Column | None
    transaction: Column | None
    account: Column | None
    merchant: Column | None
    currency: Column | None
    #: Columns that can be the label; one of them may be named, none is chosen.
    labels: tuple[Column, ...]
    #: Numeric and categorical features.
    numeric: tuple[Column, ...]
    categorical: tuple[Column, ...]
    #: Column left out, and why.
    left_out: dict[str, str] = field(default_factory=dict)
    #: Role to other columns that can play it by their names.
    rivals: dict[str, tuple[str, ...]] = field(default_factory=dict)


def guess_roles(columns: Sequence[Column]) -> Roles:
    """Return the roles of columns."""
    rows = max(len(column.values) for column in columns)
    time = _time(columns)
    free = [c for c in columns if time is None or c.name not in time.columns]
    labels = tuple(sorted(filter(_may_be_label, free), key=lambda c: -_score(c, LABEL_WORDS)))
    free = [column for column in free if column not in labels]
    amount = _amount(free)
    free = [column for column in free if column is not amount]
    ids = [column for column in free if _may_be_id(column)]
    account = _best(ids, _ACCOUNT)
    merchant = _best([c for c in ids if c is not account], _MERCHANT)
    unique = [
        column
        for column in ids
        if column.distinct == rows and column not in (account, merchant) and not column.absent
    ]
    transaction = _best(unique, _TRANSACTION)
    currency = next((column for column in free if _is_currency(column)), None)
    rivals = {
        "account_id": _rivals(ids, account, _ACCOUNT),
        "merchant_id": _rivals(ids, merchant, _MERCHANT),
        "amount": _rivals([c for c in free if c.numbers and not c.times], amount, _AMOUNT),
    }
    played = (account, merchant, transaction, currency)
    free = [column for column in free if column not in played]
    numeric, categorical, left_out = _features(free, rows)
    return Roles(
        time,
        *(amount, transaction, account, merchant, currency),
        labels,
        tuple(numeric),
        tuple(categorical),
        left_out,
        rivals,
    )


def _score(column: Column, words: frozenset[str]) -> float:
    """Return how much a name says: 1 for each word, less for words inside of others."""
    whole = len(column.words & words)
    if whole:
        return whole
    name = column.name.lower()
    return 0.5 if any(len(word) > 3 and word in name for word in words) else 0.0


def _may_be_label(column: Column) -> bool:
    if _score(column, LABEL_WORDS):
        return 0 < column.distinct <= _LABEL_VALUES
    if _is_currency(column):
        return False
    named = max(_score(column, words) for words in (_ACCOUNT, _MERCHANT, _AMOUNT)) >= 1
    described = named and not column.words & _ATTRIBUTE
    return pat.is_boolean(column.known.type) or (column.distinct == 2 and not described)


def _time(columns: Sequence[Column]) -> TimeColumns | None:
    parts = _calendar_parts(columns)
    if parts is not None:
        return parts
    candidates = [
        (_score(c, _TIME) - 2 * len(c.words & _OTHER_TIME), c.times.clock, -place, c)
        for place, c in enumerate(columns)
        if c.times is not None and (not c.times.numbers or _score(c, _TIME))
    ]
    candidates = [one for one in candidates if one[0] >= 0]
    if candidates:
        *_, best = max(candidates)
        clock = next((c for c in columns if c.clock), None)
        if best.day and clock is not None:
            return _joined([best, clock])
        return TimeColumns((best.name,), best.times)
    counted = [
        column
        for column in columns
        if column.numbers is not None
        and column.numbers.least >= 0
        and column.words & _COUNTED
        and not column.words & _OTHER_TIME
    ]
    return TimeColumns((counted[0].name,), None) if counted else None


def _calendar_parts(columns: Sequence[Column]) -> TimeColumns | None:
    """Return the columns of year, month, day and time of day, if there are such."""
    by_name = {column.name.lower(): column for column in columns}
    parts = [by_name.get(name) for name in ("year", "month", "day")]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    clock = next((column for column in columns if column.clock), None)
    return _joined([*found, *([] if clock is None else [clock])])


def _joined(parts: Sequence[Column]) -> TimeColumns:
    texts = composite_times([part.values for part in parts]).drop_null()
    guess = time_guess(texts, frozenset())
    return TimeColumns(tuple(part.name for part in parts), guess)


def _amount(columns: Sequence[Column]) -> Column | None:
    numbers = [c for c in columns if c.numbers is not None and c.times is None]
    named = [
        (_score(c, _AMOUNT) - len(c.words & _OTHER_AMOUNT), -len(c.name), c.name, c)
        for c in numbers
    ]
    named = [one for one in named if one[0] > 0]
    if named:
        return max(named)[-1]
    broken = [c for c in numbers if c.numbers is not None and not c.numbers.whole]
    return broken[0] if len(broken) == 1 else None


def _may_be_id(column: Column) -> bool:
    if column.times is not None and not column.times.numbers:
        return False
    whole = column.numbers is None or column.numbers.whole
    return whole and not column.clock and column.distinct > 1


def _best(columns: Sequence[Column], words: frozenset[str]) -> Column | None:
    named = [
        (
            _score(c, words) + len(c.words & _NAMING) / 4 - len(c.words & _ATTRIBUTE),
            c.distinct,
            -len(c.name),
            c.name,
            c,
        )
        for c in columns
        if _score(c, words) > 0
    ]
    named = [one for one in named if one[0] > 0]
    return max(named)[-1] if named else None


def _rivals(
    columns: Sequence[Column], chosen: Column | None, words: frozenset[str]
) -> tuple[str, ...]:
    """Return the other columns with a word of a role in their names."""
    described = [column for column in columns if not column.words & _ATTRIBUTE]
    return tuple(c.name for c in described if c is not chosen and _score(c, words) >= 1)


def _is_currency(column: Column) -> bool:
    if not column.words & {"currency", "ccy", "cur"} or not pat.is_string(column.known.type):
        return False
    codes = pc.match_substring_regex(column.known, "^[A-Z]{3}$")
    return bool(len(column.known)) and bool(pc.all(codes).as_py())


def _features(
    columns: Sequence[Column], rows: int
) -> tuple[list[Column], list[Column], dict[str, str]]:
    numeric, categorical, left_out = [], [], dict[str, str]()
    for column in columns:
        few = column.distinct <= min(_CATEGORY_VALUES, max(2, rows * _CATEGORY_SHARE))
        if _score(column, LABEL_WORDS) or column.words & _AFTERWARDS:
            left_out[column.name] = "its name says that it may be known only with the label"
        elif column.distinct < 2:
            left_out[column.name] = "it has one value" if column.distinct else "it has no value"
        elif column.times is not None and not column.times.numbers:
            left_out[column.name] = "it is another time"
        elif column.clock:
            left_out[column.name] = "it is a time of day"
        elif column.numbers is not None and not (column.words & _CODES):
            if column.numbers.whole and column.distinct == rows:
                left_out[column.name] = "each row has another whole number: an index"
            elif column.words & _COUNTED and column.numbers.rising:
                left_out[column.name] = "it counts time"
            elif column.numbers.unread:
                left_out[column.name] = (
                    f"{len(column.numbers.unread):,} of its values are no numbers, such as "
                    f"{column.numbers.unread[0][:40]!r}"
                )
            elif column.numbers.other is not None:
                left_out[column.name] = "its separators can be those of decimals or of thousands"
            else:
                numeric.append(column)
        elif few:
            categorical.append(column)
        else:
            left_out[column.name] = f"{column.distinct:,} different texts are no category"
    return numeric, categorical, left_out


def texts_of(column: Column) -> pa.StringArray:
    """Return the values of ids as text."""
    known = column.known
    return known if pat.is_string(known.type) else known.cast(pa.string())
