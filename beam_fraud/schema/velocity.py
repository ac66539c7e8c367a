"""Definitions of velocity features: aggregates of a key's transactions over time windows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import microseconds
from beam_fraud.wording import did_you_mean

#: Aggregates of the transactions in a window.
AGGREGATES = (
    "count",
    "sum",
    "mean",
    "max",
    "min",
    "std",
    "ratio",
    "seconds_since_last",
    "distinct_merchant",
    "risk",
)
#: Aggregates of amounts; the others do not depend on the amounts.
_OF_AMOUNTS = frozenset({"sum", "mean", "max", "min", "std", "ratio"})
#: Aggregates that can be undefined for a non-empty window.
_UNDEFINED = frozenset({"std", "ratio", "seconds_since_last"})
#: Aggregates that are undefined if a window, by its delay, is empty.
_UNDEFINED_IF_EMPTY = _UNDEFINED | {"mean", "max", "min"}
#: Names of key columns in features; others keep their own name.
_SHORT = {"account_id": "account", "merchant_id": "merchant"}


@dataclass(frozen=True)
class Velocity:
    """Aggregates of the transactions of a key, in windows that end at (or before) now.

    A window `w` with delay `d` is `(t - d - w, t - d]` for a transaction at `t`, which is itself
    included without a delay. A later row of the same time is not.

    Raises:
      UsageError: the definition is invalid.

    Example:
      >>> Velocity(("merchant_id",), ("1d", "7d"), ("count", "risk"), delay="7d").names
      ('merchant_count_1d_delay_7d', 'merchant_risk_1d_delay_7d', \
'merchant_count_7d_delay_7d', 'merchant_risk_7d_delay_7d')
    """

    #: Columns of the key.
    key: tuple[str, ...]
    #: Lengths of the windows, such as `7d`.
    windows: tuple[str, ...]
    #: Some of `AGGREGATES`.
    aggregates: tuple[str, ...]
    #: Time between the windows' end and now.
    delay: str = "0d"
    #: Whether amounts are aggregated by key and currency; None until a schema decides.
    by_currency: bool | None = None

    def __post_init__(self) -> None:
        """Check the definition."""
        where = f"velocity of {' and '.join(self.key) or 'no key'}"
        for field in ("key", "windows", "aggregates"):
            values = getattr(self, field)
            if not values:
                raise UsageError(f"{where}: {field} must not be empty", Code.SCHEMA_VELOCITY)
            for value in values:
                if values.count(value) > 1:
                    raise UsageError(f"{where}: {field} has {value!r} twice", Code.SCHEMA_VELOCITY)
        for aggregate in self.aggregates:
            if aggregate not in AGGREGATES:
                hint = did_you_mean(aggregate, AGGREGATES, f"known: {', '.join(AGGREGATES)}")
                raise UsageError(
                    f"{where}: unknown aggregate {aggregate!r}, {hint}", Code.SCHEMA_VELOCITY
                )
        try:
            lengths = [microseconds(window) for window in self.windows]
            delay = microseconds(self.delay)
        except UsageError as error:
            raise UsageError(f"{where}: {error}", Code.SCHEMA_VELOCITY) from None
        if not min(lengths):
            raise UsageError(f"{where}: a window must be longer than 0", Code.SCHEMA_VELOCITY)
        if len(set(lengths)) < len(lengths):
            raise UsageError(
                f"{where}: two windows are equally long ({', '.join(self.windows)})",
                Code.SCHEMA_VELOCITY,
            )
        if "risk" in self.aggregates and not delay:
            # Without a delay, a training row would count its own label.
            raise UsageError(
                f"{where}: risk needs a delay, as in delay = '7d'", Code.SCHEMA_VELOCITY
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features: by window, then by aggregate; `seconds_since_last` once."""
        named = (
            self.name(aggregate, window) for window in self.windows for aggregate in self.aggregates
        )
        return tuple(dict.fromkeys(named))

    def name(self, aggregate: str, window: str) -> str:
        """Return the name of one feature, `<key>_<aggregate>_<window>[_delay_<delay>]`."""
        key = "_".join(_SHORT.get(column, column) for column in self.key)
        if aggregate == "seconds_since_last":
            return f"{key}_{aggregate}"
        delayed = f"_delay_{self.delay}" if self.delay_microseconds else ""
        return f"{key}_{aggregate}_{window}{delayed}"

    def only(self, names: Collection[str]) -> tuple[Velocity, ...]:
        """Return definitions of exactly those features that are among `names`.

        Example:
          >>> both = Velocity(("account_id",), ("1h", "1d"), ("count", "mean"))
          >>> [part.names for part in both.only({"account_count_1h", "account_mean_1d", "x"})]
          [('account_count_1h',), ('account_mean_1d',)]
        """
        gap = "seconds_since_last"
        # It looks back as far as the longest window, so keep all windows.
        windows_of: dict[tuple[str, ...], tuple[str, ...]] = {}
        if gap in self.aggregates and self.name(gap, "") in names:
            windows_of[(gap,)] = self.windows
        for window in self.windows:
            selected = (a for a in self.aggregates if a != gap and self.name(a, window) in names)
            if aggregates := tuple(selected):
                windows_of[aggregates] = (*windows_of.get(aggregates, ()), window)
        return tuple(
            replace(self, windows=windows, aggregates=aggregates)
            for aggregates, windows in windows_of.items()
        )

    @property
    def amounts_by_currency(self) -> tuple[str, ...]:
        """Names of the features whose windows hold only transactions in the row's currency."""
        if not self.by_currency or "currency" in self.key:
            return ()
        selected = tuple(a for a in self.aggregates if a in _OF_AMOUNTS)
        return replace(self, aggregates=selected).names if selected else ()

    @property
    def window_microseconds(self) -> tuple[int, ...]:
        """Lengths of the windows, in their order."""
        return tuple(microseconds(window) for window in self.windows)

    @property
    def delay_microseconds(self) -> int:
        """Time between the windows' end and now."""
        return microseconds(self.delay)

    @property
    def undefined_names(self) -> tuple[str, ...]:
        """Names of the features that can be NaN, for example for a key's first transaction."""
        undefined = _UNDEFINED_IF_EMPTY if self.delay_microseconds else _UNDEFINED
        selected = tuple(a for a in self.aggregates if a in undefined)
        names = replace(self, aggregates=selected).names if selected else ()
        return tuple(dict.fromkeys((*names, *self.amounts_by_currency)))

    @property
    def horizon(self) -> int:
        """Longest look-back of the features in microseconds: longest window plus delay.

        No feature, not even `seconds_since_last`, uses a transaction at `t - horizon`.
        """
        return max(self.window_microseconds) + self.delay_microseconds

    @property
    def exact(self) -> dict[str, str]:
        """Name of each feature to a text that differs where values of that name can differ.

        Example:
          >>> Velocity(("account_id",), ("1h", "2h"), ("count", "seconds_since_last")).exact
          {'account_count_1h': 'account_count_1h', 'account_seconds_since_last': \
'account_seconds_since_last within 7200000000', 'account_count_2h': 'account_count_2h'}
        """
        by_currency = set(self.amounts_by_currency)
        exact = {n: f"{n} by currency" if n in by_currency else n for n in self.names}
        if self.needs_last:
            # It looks back as far as the longest window.
            name = self.name("seconds_since_last", "")
            exact[name] = f"{name} within {self.horizon}"
        return exact

    @property
    def needs_sums(self) -> bool:
        """Return whether amounts are summed."""
        return not {"sum", "mean", "std", "ratio"}.isdisjoint(self.aggregates)

    @property
    def needs_squares(self) -> bool:
        """Return whether squares of amounts are summed."""
        return "std" in self.aggregates

    @property
    def needs_extremes(self) -> bool:
        """Return whether extremes of amounts are needed."""
        return not {"min", "max"}.isdisjoint(self.aggregates)

    @property
    def needs_merchants(self) -> bool:
        """Return whether distinct merchants are counted."""
        return "distinct_merchant" in self.aggregates

    @property
    def needs_last(self) -> bool:
        """Return whether the time of the key's previous transaction is needed."""
        return "seconds_since_last" in self.aggregates

    @property
    def needs_labels(self) -> bool:
        """Return whether known frauds are counted."""
        return "risk" in self.aggregates

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON-compatible values, the form in a manifest."""
        values = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        if not self.by_currency:
            # The form of definitions before there was a choice.
            del values["by_currency"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Velocity:
        """Return the inverse of `to_dict`.

        Raises:
          UsageError: a key is unknown or a value invalid.
        """
        try:
            fields: dict[str, Any] = {
                name: value if isinstance(value, str | bool) else tuple(value)
                for name, value in values.items()
            }
            return cls(**fields)
        except TypeError as error:
            raise UsageError(
                f"velocity: not one of this version's ({error})", Code.SCHEMA_VALUE
            ) from None


def by_grouping(
    definitions: Sequence[Velocity],
) -> tuple[tuple[Velocity, ...], tuple[Velocity, ...]]:
    """Divide the features of one key by what their windows hold.

    Returns:
      Definitions of the features whose windows hold all transactions of the key, and of those whose
      windows hold only transactions in the row's currency.

    Example:
      >>> both = Velocity(("account_id",), ("1d",), ("count", "mean"), by_currency=True)
      >>> [[part.names for part in parts] for parts in by_grouping([both])]
      [[('account_count_1d',)], [('account_mean_1d',)]]
    """
    parts: dict[bool, list[Velocity]] = {False: [], True: []}
    for definition in definitions:
        if not definition.amounts_by_currency:
            parts[False].append(definition)
            continue
        for by_currency in (False, True):
            aggregates = tuple(
                a for a in definition.aggregates if (a in _OF_AMOUNTS) is by_currency
            )
            if aggregates:
                parts[by_currency].append(replace(definition, aggregates=aggregates))
    return tuple(parts[False]), tuple(parts[True])
