"""Calendar features, weekend and night, in the schema's time zone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: The last hour of the night; the handbook's definition is `hour <= 6`.
LAST_NIGHT_HOUR = 6
#: The first day of the weekend, counting Monday as 0; the handbook's `weekday() >= 5`.
FIRST_WEEKEND_DAY = 5


def local_time(event_time: pa.Array, timezone: str) -> pa.Array:
    """Convert event times (timestamp[us, UTC]) to local timestamps in `timezone`."""
    # Arrow looks even UTC up in the system's time zones, which slim containers lack.
    return event_time.cast(pa.timestamp("us", tz=None if timezone == "UTC" else timezone))


def is_weekend(event_time: pa.Array, timezone: str = "UTC") -> npt.NDArray[np.float64]:
    """1.0 on Saturday and Sunday in `timezone`, else 0.0; float64[n] of timestamp[us, UTC][n]."""
    day = pc.day_of_week(local_time(event_time, timezone))
    return _as_float(pc.greater_equal(day, FIRST_WEEKEND_DAY))


def is_night(event_time: pa.Array, timezone: str = "UTC") -> npt.NDArray[np.float64]:
    """1.0 from 00:00 to 06:59 in `timezone`, else 0.0; float64[n] of timestamp[us, UTC][n]."""
    hour = pc.hour(local_time(event_time, timezone))
    return _as_float(pc.less_equal(hour, LAST_NIGHT_HOUR))


def _as_float(mask: pa.Array) -> npt.NDArray[np.float64]:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=np.float64)
