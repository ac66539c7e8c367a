"""Which topic a stream has read: one that was created again has the name of the one before."""

from __future__ import annotations

from collections.abc import Mapping

from beam_fraud.errors import FraudError

#: Before the name of a topic, among what is kept about a stream.
_NAME = "id of topic "


def about_topics(ids: Mapping[str, str]) -> dict[str, str]:
    """What is kept about a stream of its topics.

    Args:
      ids: names of topics to the ids that the brokers gave them.
    """
    return {f"{_NAME}{topic}": number for topic, number in ids.items()}


def refuse_created_again(name: str, place: str) -> None:
    """Refuse to go on in a topic whose id has changed: positions in the old one mean nothing.

    Args:
      name: what has changed of what is kept about a stream; nothing happens if it is no topic.
      place: where the state of the stream is, for the message.

    Raises:
      FraudError: it is a topic.
    """
    if name.startswith(_NAME):
        raise FraudError(
            f"topic {name.removeprefix(_NAME)!r} was deleted and created again since the stream in "
            f"{place} began, whose positions would skip messages of the new topic; give another "
            "--out to read it, and --history FILE to fill the windows"
        )
