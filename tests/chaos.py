"""Streams under repeated kills and a broker outage."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from deploy.kafka.broker import Broker
from tests.stream_process import UNTIL_IDLE, Stream
from tests.traffic import Feed


@dataclass(frozen=True)
class Disturbance:
    """The kills and outages of a stream."""

    #: How often it is killed.
    kills: int
    #: How long the broker is away, in seconds; once.
    outage: float
    #: It is killed up to so many seconds after it has begun to make progress.
    at_work: float = 1.5
    #: The part of the kills that come while it starts.
    while_starting: float = 0.2


def disturb(
    stream: Stream, broker: Broker, feed: Feed, messages: int, what: Disturbance, seed: int
) -> None:
    """Send messages, kill the stream again and again, stop the broker once; then let it finish.

    Each time a part of the messages waits when the stream starts and a part comes while it works.
    """
    draw = random.Random(seed)
    part = messages // (2 * what.kills + 3)
    outage_in = draw.randrange(what.kills)
    for number in range(what.kills):
        feed.send(part)
        before = stream.positions()
        stream.start()
        if number != outage_in and draw.random() < what.while_starting:
            feed.send_for(draw.uniform(0.0, 4.0), part)
        else:
            assert stream.wait_for_progress(before), stream.said()
            if number == outage_in:
                _outage(stream, broker, feed, part, what.outage)
            feed.send_for(draw.uniform(0.0, what.at_work), part)
        assert stream.runs, stream.said()
        stream.kill()
    feed.finish()
    stream.start(*UNTIL_IDLE)
    stream.wait_for_end()


def _outage(stream: Stream, broker: Broker, feed: Feed, part: int, seconds: float) -> None:
    feed.send(part // 2)
    broker.stop()
    time.sleep(seconds)
    before = stream.positions()
    broker.start()
    feed.send(part - part // 2)
    feed.settle()
    assert stream.wait_for_progress(before), stream.said()
