"""Assert an error by its code instead of its sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from beam_fraud.errors import Code, FraudError


@contextmanager
def fails(
    code: Code, match: str = "", kind: type[FraudError] = FraudError
) -> Iterator[pytest.ExceptionInfo[FraudError]]:
    """Assert that the block raises an error of a code.

    Args:
      code: the kind of mistake.
      match: a pattern that is in the message, mostly the thing and the place that it names.
      kind: the class: `UsageError` where the call is wrong.
    """
    with pytest.raises(kind) as raised:
        yield raised
    error = raised.value
    assert error.code == code, f"{error.code} ({error.code.name}), not {code.name}: {error}"
    assert re.search(match, str(error)), f"{match!r} does not match {str(error)!r}"
