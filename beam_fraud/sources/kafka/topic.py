"""Topics, their partitions, and how both are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Topic and number.
Partition = tuple[str, int]
#: What messages are.
Content = Literal["transactions", "labels"]


@dataclass(frozen=True)
class KafkaTopic:
    """A topic that a stream reads."""

    #: Its name.
    name: str
    #: What its messages are.
    content: Content = "transactions"


def partition_name(partition: Partition) -> str:
    """How a partition is named where positions are kept; no topic has a colon in its name.

    Example:
      >>> partition_name(("payments", 3)), partition_of("payments:3")
      ('payments:3', ('payments', 3))
    """
    return f"{partition[0]}:{partition[1]}"


def partition_of(name: str) -> Partition:
    """Return the inverse of `partition_name`."""
    topic, _, number = name.rpartition(":")
    return topic, int(number)
