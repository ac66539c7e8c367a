"""Convert amounts to one currency by the rates known at their event times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.velocity.fixed_point import UNITS
from beam_fraud.schema.rates import Conversion


@dataclass(frozen=True)
class Converted:
    """n amounts in the target currency."""

    #: float64[n]; where there is no rate, the amount as it was.
    amounts: npt.NDArray[np.float64]
    #: bool[n]: where there is a currency without a rate at that time.
    without_rate: npt.NDArray[np.bool_]
    #: Number of amounts whose rate is older than `max_age`.
    aged: int


def convert(
    amounts: npt.NDArray[np.float64],
    currencies: pa.StringArray,
    times: npt.NDArray[np.int64],
    conversion: Conversion,
) -> Converted:
    """Convert amounts, each by the latest rate that was known at its time.

    A product is rounded to four decimal places, halves to even, which is what windows add up. An
    amount that is in the target currency already stays as it is.

    Args:
      amounts: float64[n].
      currencies: string[n], codes; null where absent.
      times: int64[n], microseconds of the epoch.
      conversion: the target currency and the rates.

    Example:
      >>> conversion = Conversion("EUR", {"USD": "1970-01-02 0.5"})
      >>> times = np.array([0, 10**11, 10**11])
      >>> codes = pa.array(["USD", "USD", "EUR"])
      >>> converted = convert(np.array([9.0, 9.0, 9.0]), codes, times, conversion)
      >>> converted.amounts.tolist(), converted.without_rate.tolist()
      ([9.0, 4.5, 9.0], [True, False, False])
    """
    few = currencies.dictionary_encode()
    numbers = few.indices.fill_null(-1).to_numpy()
    result, without_rate, aged = amounts.copy(), numbers >= 0, 0
    numbered = {code: number for number, code in enumerate(few.dictionary.to_pylist())}
    if conversion.to in numbered:
        without_rate[numbers == numbered[conversion.to]] = False
    for code in numbered.keys() & conversion.rates.keys():
        dated = conversion.of(code)
        rows = np.flatnonzero(numbers == numbered[code])
        places = np.searchsorted(dated.times, times[rows], side="right") - 1
        rows, places = rows[places >= 0], places[places >= 0]
        result[rows] = np.rint(amounts[rows] * dated.rates[places] * UNITS) / UNITS
        without_rate[rows] = False
        ages = times[rows] - dated.times[places]
        aged += int(np.count_nonzero(ages > conversion.max_age_microseconds))
    return Converted(result, without_rate, aged)
