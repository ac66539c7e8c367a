"""`beam-fraud alerts test`: send a test alert through every channel."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.alerts.samples import sample_alert
from beam_fraud.cli.options import AlertTestOptions
from beam_fraud.errors import FraudError

_TEXT = "This is a test of beam-fraud: the alert below is made up, there is nothing to do."


def run(options: AlertTestOptions) -> dict[str, object]:
    """Send a message of kind `test` through every channel, even if others fail.

    Returns:
      `channels`: `channel`, `delivery_id` and `seconds` of each.

    Raises:
      UsageError: a URL is invalid.
      FraudError: a channel failed; one line with the outcome of all.
    """
    pseudonyms = Pseudonyms.from_environment() if options.pseudonymise else None
    channels = [
        parse_channel(url, console=sys.stderr, pseudonyms=pseudonyms) for url in options.urls
    ]
    sent: list[dict[str, object]] = []
    failed: list[FraudError] = []
    for channel in channels:
        try:
            sent.append(_send(channel))
        except FraudError as error:
            failed.append(error)
    if failed:
        raise FraudError("; ".join([*map(str, failed), *_lines(sent)]), failed[0].code)
    return {"channels": sent}


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    return "\n".join(_lines(result["channels"]))


def _send(channel: Channel) -> dict[str, object]:
    now = datetime.now(UTC)
    delivery = f"test-{uuid4().hex}"
    alert = sample_alert(f"test-{now:%Y%m%d%H%M%S}", channel.name, now)
    begun = time.monotonic()
    try:
        channel.send(Message(delivery, "test", now, (alert,), 1, _TEXT))
    finally:
        channel.close()
    seconds = time.monotonic() - begun
    return {"channel": channel.describe(), "delivery_id": delivery, "seconds": seconds}


def _lines(sent: object) -> Iterator[str]:
    assert isinstance(sent, list)
    for one in sent:
        yield f"sent to {one['channel']} in {one['seconds']:.2f} s, delivery {one['delivery_id']}"
