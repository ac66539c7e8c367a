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
    #: Whether what is usual says something where there is no value.
    compared_if_absent: bool = True
    #: The feature that counts what the value is a share of, if there may be one.
    total: str | None = None
    #: All of it of a share and that count, in the place of `long`.
    of_total: Callable[[float, float], str] | None = None
