"""The destination of `simulate`: a file or a topic."""

from __future__ import annotations

from typing import Any

import pytest

from beam_fraud.cli.commands.simulate import run
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import UsageError

BROKER = "127.0.0.1:9"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "give --out FILE or --kafka HOST:PORT --topic T"),
    ({"out": "a.csv", "kafka": BROKER, "topic": "t"}, "--out and --kafka: give one of them"),
    ({"kafka": BROKER}, "--topic: missing; name the topic to send to"),
    ({"out": "a.csv", "topic": "t"}, "--topic: for messages only; give --kafka HOST:PORT, too"),
    ({"out": "a.csv", "rate": 0.0}, "--rate: for messages only"),
    ({"kafka_config": ("a=b",)}, "--kafka-config: for messages only"),
    ({"kafka_properties": "f"}, "--kafka-properties: for messages only"),
    ({"kafka": BROKER, "topic": "t", "rate": 0.0}, "--rate 0: must be above 0, in messages"),
    ({"kafka": BROKER, "topic": "t", "rate": float("nan")}, "--rate nan: must be above 0"),
    ({"kafka": "no port", "topic": "t"}, "--kafka: brokers are written HOST:PORT"),
    ({"kafka": BROKER, "topic": "t", "kafka_config": ("a",)}, "--kafka-config: a property is"),
]


@pytest.mark.parametrize(("options", "line"), WRONG)
def test_an_invalid_call_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as wrong:
        run(SimulateOptions(**{"out": None, **options}))
    assert str(wrong.value).startswith(line)
    assert "\n" not in str(wrong.value)
