"""Run code of foreign objects and convert what they raise to one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beam_fraud.errors import Code, FraudError, missing_extra
from beam_fraud.wording import first_line

#: Maximum of characters of a reason: some errors quote whole objects.
_MOST = 300


@contextmanager
def in_words(what: str, line: Callable[[str], str]) -> Iterator[None]:
    """Run code that may raise anything, and raise a `FraudError` instead.

    `SystemExit` counts as a failure of that code; only Ctrl-C ends the command.

    Args:
      what: begins every message, as in `model.pkl`.
      line: makes the rest of the message from a reason; FraudErrors and missing extras keep their
        own message, and an error its kind.

    Raises:
      FraudError: the body raised something.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except FraudError as error:
        raise error.with_message(f"{what}: {error}") from None
    except BaseException as error:
        extra = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        code = Code.EXTRA_MISSING if extra else Code.MODEL_UNSUITED
        raise FraudError(f"{what}: {extra or line(reason_of(error))}", code) from None


def reason_of(error: BaseException) -> str:
    r"""Describe an exception in one line of bounded length: its first line, or its type too.

    Example:
      >>> reason_of(ValueError("no such column\n...")), reason_of(KeyError(110))
      ('no such column', 'KeyError: 110')
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"needs the module {error.name}, which is not installed"
    try:
        text = first_line(error)
    except BaseException as worse:
        text = f"its message raises {type(worse).__name__}"
    kind = type(error).__name__
    if " " not in text and text != kind:
        text = f"{kind}: {text}"
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"
