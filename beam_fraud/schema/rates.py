"""Conversion of amounts to one currency by a file of dated rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.duration import DAY, microseconds
from beam_fraud.schema.notation import ABSENT, CODES_BY_NUMBER
from beam_fraud.wording import reason_of

#: Maximum of rates: a bundle's manifest holds them.
MOST_RATES = 200_000
#: Column of the rates, and of their inverses.
_RATE, _INVERSE = "rate", "inverse_rate"
_COLUMNS = ("date", "currency", _RATE, _INVERSE)


@dataclass(frozen=True)
class DatedRates:
    """n rates of a currency."""

    #: int64[n], ascending: microseconds of the epoch from which each is known.
    times: npt.NDArray[np.int64]
    #: float64[n], units of the target currency for one unit of this.
    rates: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Conversion:
    """Conversion of amounts to one currency, each by the latest rate known at its event time.

    Raises:
      ValueError: `max_age` is no duration, or a text holds no dated rates.

    Example:
      >>> conversion = Conversion("EUR", {"USD": "2024-01-02 0.91; 2024-01-03 0.92"})
      >>> conversion.of("USD").rates.tolist()
      [0.91, 0.92]
    """

    #: Code of the target currency.
    to: str
    #: Currency to its dated rates in one text, in order of time.
    rates: dict[str, str] = field(repr=False)
    #: Age from which a rate is doubted.
    max_age: str = "7d"

    def __post_init__(self) -> None:
        """Check the conversion."""
        if not self.to:
            raise ValueError("to must be the code of a currency")
        try:
            microseconds(self.max_age)
        except UsageError as error:
            raise ValueError(f"max_age: {error}") from None
        for currency, text in self.rates.items():
            dated = _dated(text)
            valid = np.isfinite(dated.rates) & (dated.rates > 0)
            if not valid.all() or (np.diff(dated.times) <= 0).any():
                raise ValueError(f"rates of {currency} are not positive, or not in order of time")

    def of(self, currency: str) -> DatedRates:
        """Return the rates of a currency, which must have some."""
        return _dated(self.rates[currency])

    @property
    def max_age_microseconds(self) -> int:
        """Age from which a rate is doubted."""
        return microseconds(self.max_age)

    def __str__(self) -> str:
        """Return the number and the span of the rates."""
        dated = [self.of(currency) for currency in self.rates]
        first, last = (min(d.times[0] for d in dated), max(d.times[-1] for d in dated))
        days = [datetime.fromtimestamp(int(t) / 1e6, UTC).date() for t in (first, last)]
        return (
            f"{sum(len(d.times) for d in dated):,} rates of {', '.join(sorted(self.rates))} "
            f"from {days[0]} to {days[1]}"
        )


@lru_cache(maxsize=1_024)
def _dated(text: str) -> DatedRates:
    words = text.replace(";", " ").split()
    times = np.array(words[::2], dtype="datetime64[us]").astype(np.int64)
    rates = np.array(words[1::2], dtype=np.float64)
    if len(times) != len(rates) or not len(times):
        raise ValueError("rates are pairs of a date and a number")
    return DatedRates(times, rates)


def code_of(currency: str) -> str:
    """Return a currency as rows have it: trimmed, in upper case, by its code.

    Example:
      >>> code_of(" eur"), code_of("392")
      ('EUR', 'JPY')
    """
    code = currency.strip().upper()
    return CODES_BY_NUMBER.get(code.zfill(3), code)


def read_rates(path: Path, to: str, where: str) -> dict[str, str]:
    """Read a file of rates, CSV or Parquet.

    Columns: `date` (a date or an ISO 8601 time, UTC if it has no zone), `currency`, and `rate`
    (units of the target for one unit of the currency) or `inverse_rate`.

    Args:
      path: the file.
      to: code of the target currency.
      where: place of the setting, for messages.

    Returns:
      `Conversion.rates`.

    Raises:
      FraudError: the file cannot be read.
      UsageError: it holds no such rates.
    """
    table = _table(path, where)
    name = _RATE if _RATE in table.column_names else _INVERSE
    for column in ("date", "currency", name):
        if column not in table.column_names:
            raise UsageError(
                f"{where}: {path} has no column {column!r} (it needs date, currency and rate or "
                f"inverse_rate, and has {', '.join(table.column_names[:8])})",
                Code.COLUMN_MISSING,
            )
    if len(table) > MOST_RATES:
        raise UsageError(
            f"{where}: {path} has {len(table):,} rates, more than the {MOST_RATES:,} that a bundle "
            "holds: leave out those before the first transaction",
            Code.SCHEMA_VALUE,
        )
    rates: dict[str, dict[int, float]] = {}
    for row, (time, currency, rate) in enumerate(_rows(table, name), 1):
        if rate is None:
            continue
        if time is None or not currency or not 0 < rate < np.inf:
            wrong = "date" if time is None else name if currency else "currency"
            raise UsageError(
                f"{where}: row {row} of {path} has no valid {wrong}", Code.SCHEMA_VALUE
            )
        of_currency = rates.setdefault(currency, {})
        if of_currency.setdefault(time, rate) != rate:
            raise UsageError(
                f"{where}: row {row} of {path} is a second rate of {currency} at the same time",
                Code.SCHEMA_VALUE,
            )
    if any(rate != 1 for rate in rates.pop(to, {}).values()):
        raise UsageError(
            f"{where}: {path} has a rate of {to} other than 1, so its rates are not to {to}",
            Code.SCHEMA_VALUE,
        )
    if not rates:
        raise UsageError(f"{where}: {path} has no rates", Code.SCHEMA_VALUE)
    return {currency: _text(rates[currency]) for currency in sorted(rates)}


def _table(path: Path, where: str) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pa.parquet.read_table(path)
        texts = dict.fromkeys(_COLUMNS, pa.string())
        options = pa.csv.ConvertOptions(
            column_types=texts, strings_can_be_null=True, null_values=list(ABSENT)
        )
        return pa.csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise FraudError(
            f"{where}: {path} cannot be read as CSV or Parquet ({reason_of(error)})",
            Code.SCHEMA_UNREADABLE,
        ) from None


def _rows(table: pa.Table, name: str) -> Iterator[tuple[int | None, str, float | None]]:
    """Yield time, currency and rate of each row; None for an invalid time or an absent rate."""
    currencies = table.column("currency").cast(pa.string()).to_pylist()
    for time, currency, written in zip(
        _times(table.column("date")), currencies, table.column(name).to_pylist(), strict=True
    ):
        rate = None
        if written is not None:
            try:
                rate = float(written)
            except ValueError:
                rate = -1.0
            if name == _INVERSE and rate > 0:
                rate = 1 / rate
        yield time, code_of(currency or ""), rate


def _times(dates: pa.ChunkedArray) -> list[int | None]:
    if pat.is_date(dates.type) or pat.is_timestamp(dates.type):
        times: list[int | None] = dates.cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
        return times
    return [_micros(text) for text in dates.cast(pa.string()).to_pylist()]


def _micros(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(pa.scalar(moment, pa.timestamp("us", "UTC")).value)


def _text(rates: dict[int, float]) -> str:
    times = np.array(sorted(rates), dtype=np.int64)
    moments = times.astype("datetime64[us]")
    texts = np.datetime_as_string(moments, "us" if (times % DAY).any() else "D")
    return "; ".join(
        f"{text} {rates[time]!r}" for text, time in zip(texts, times.tolist(), strict=True)
    )
