"""A topic on a real broker passes the contract of all channels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from secrets import token_hex

import pytest

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.errors import FraudError
from deploy.kafka.broker import Broker
from tests.alerts.test_contract import (  # noqa: F401  the suite runs here with another recipient
    _message,
    test_a_closed_channel_opens_again,
    test_a_failure_is_one_line_that_names_the_channel,
    test_a_repeated_message_is_recognised,
    test_alerts_arrive_once_each_in_order,
    test_check_sends_nothing,
    test_every_kind_of_message_arrives,
    test_hostile_names_are_escaped,
    test_hostile_notices_are_escaped,
    test_it_describes_itself_by_its_kind,
    test_neither_name_nor_description_contains_a_secret,
    test_only_the_selected_fields_are_sent,
    test_pseudonyms_replace_every_id,
    test_the_name_is_the_same_in_every_run_with_any_options,
)
from tests.integration.kafka import read_all
from tests.recipients import TopicRecipient

pytestmark = pytest.mark.slow


@pytest.fixture
def recipient(broker: Broker, topic: Callable[..., str]) -> Iterator[TopicRecipient]:
    created = TopicRecipient(broker, topic())
    yield created
    created.end()


def test_a_record_has_the_alert_s_id_for_its_key(recipient: TopicRecipient) -> None:
    message = _message(recipient, "a", "b")
    recipient.channel.send(message)
    records = {r.key(): json.loads(r.value()) for r in read_all(recipient.broker, recipient.topic)}
    assert {key.decode(): record["alert_id"] for key, record in records.items()} == {
        alert.alert_id: alert.alert_id for alert in message.alerts
    }


def test_a_missing_topic_is_refused_before_the_run(broker: Broker) -> None:
    recipient = TopicRecipient(broker, "nowhere")
    with pytest.raises(FraudError, match=r"^--alert kafka://.*there is no topic 'nowhere'"):
        recipient.channel.check()


def test_a_record_that_is_too_large_is_refused_permanently(
    broker: Broker, topic: Callable[..., str]
) -> None:
    recipient = TopicRecipient(broker, topic(config={"max.message.bytes": "1000"}))
    with pytest.raises(MessageRefusedError, match="too large"):
        recipient.channel.send(_message(recipient, "a", account=token_hex(10_000)))
    recipient.channel.send(_message(recipient, "b"))
    assert recipient.ids() == ["b"]
    recipient.end()
