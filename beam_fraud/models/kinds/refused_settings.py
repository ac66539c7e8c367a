"""Settings that a library of models will not have, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from beam_fraud.errors import UsageError

#: Exceptions by which libraries refuse a setting; by name, for most of them are optional.
_REFUSALS = frozenset(("InvalidParameterError", "XGBoostError", "LightGBMError"))


@contextmanager
def refused_settings(kind: str) -> Iterator[None]:
    """Fitting a model of this kind.

    Raises:
      UsageError: its library refuses a setting.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in _REFUSALS:
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"--model {kind}: a setting is refused ({lines[0]}); see --set") from None
