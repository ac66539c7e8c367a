"""What a graph may need of the runner that is to run it."""

from __future__ import annotations

from enum import Enum


class Capability(Enum):
    """One need; the value is how a message says it."""

    #: A splittable DoFn that never has read all, as Kafka's.
    ENDLESS_SOURCE = "a source without an end"
    #: Bags and values that a runner keeps for each key.
    STATE = "state by key"
    #: Timers that wake a key at a time of the clock, while nothing comes.
    CLOCK_TIMERS = "timers by the clock"
    #: Groups that are given on while the source still has more to come.
    GROUPS_IN_A_STREAM = "groups by key before a source ends"
