"""How the value of a feature is put into words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """The words of one feature."""

    #: A value that is there, by itself: what comes after "usually".
    short: Callable[[float], str]
    #: All of it, of a value and its short form.
    long: Callable[[float, str], str]
    #: All of it where there is no value.
    absent: str
    #: Whether a value means more beside what is usual.
    compared: bool = True
