"""Topics and partitions, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Topic and number.
Partition = tuple[str, int]
#: Contents of messages.
Content = Literal["transactions", "labels"]


@dataclass(frozen=True)
class KafkaTopic:
    """A topic that a stream reads."""

    #: Its name.
    name: str
    #: Content of its messages.
    content: Content = "transactions"


def partition_name(partition: Partition) -> str:
    """Return the name of a partition in stored positions; topic names have no colon.

    Example:
      >>> partition_name(("payments", 3)), partition_of("payments:3")
      ('payments:3', ('payments', 3))
    """
    return f"{partition[0]}:{partition[1]}"


def partition_of(name: str) -> Partition:
    """Return the inverse of `partition_name`."""
    topic, _, number = name.rpartition(":")
    return topic, int(number)
