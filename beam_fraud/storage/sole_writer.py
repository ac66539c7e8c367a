"""Allow one command at a time to write a file or bundle that appears at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TypeVar

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import remove_unfinished_of
from beam_fraud.storage.lock import lock_current
from beam_fraud.storage.urls import Place

Options = TypeVar("Options")
Run = Callable[[Options], dict[str, object]]


def sole_writer(option: str, field: str) -> Callable[[Run[Options]], Run[Options]]:
    """Lock the places that a command writes; a second command fails at its start.

    Otherwise both would work for long, and one result would vanish silently.

    Args:
      option: the option with the places, for the message.
      field: field of the command's options with the file or directory, several, or None. URLs,
        which cannot be locked, are skipped.
    """

    def decorate(run: Run[Options]) -> Run[Options]:
        @wraps(run)
        def alone(options: Options) -> dict[str, object]:
            named: str | tuple[str, ...] | None = getattr(options, field)
            names = (named,) if isinstance(named, str) else named or ()
            places = [place.local for place in map(Place.parse, names) if place.local]
            with ExitStack() as stack:
                # Each once: the command itself reports repeats.
                for place in dict.fromkeys(places):
                    stack.enter_context(_held(option, place))
                return run(options)

        return alone

    return decorate


@contextmanager
def _held(option: str, place: Path) -> Iterator[None]:
    """Hold a lock beside a place; the kernel releases it with the process."""
    # A missing place is created by the command, so lock the nearest directory.
    above = next((parent for parent in place.parents if parent.is_dir()), place.parent)
    lock = above / f".{'-'.join(place.relative_to(above).parts)}.lock"
    try:
        held = lock_current(lock)
    except BlockingIOError:
        raise FraudError(
            f"{option} {place}: another command is writing it; wait for its end, or give another "
            "place",
            Code.OUTPUT_IN_USE,
        ) from None
    except OSError:
        # Without locks, the command cannot write either and reports it.
        yield
        return
    try:
        with suppress(OSError):
            # Leftovers of a killed command.
            remove_unfinished_of(place)
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()
