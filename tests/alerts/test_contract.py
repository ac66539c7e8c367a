"""The contract of all channels, run for each kind; the integration tests run it for topics."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.alerts.samples import SAMPLES
from beam_fraud.errors import FraudError
from tests.flagged import alerts_of, flagged_batch, message_of
from tests.recipients import (
    ConsoleRecipient,
    FileRecipient,
    SlackRecipient,
    SmtpRecipient,
    WebhookRecipient,
)

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture(params=["console", "file", "smtp", "http", "slack+http"])
def recipient(request, tmp_path):
    created = {
        "console": ConsoleRecipient,
        "file": lambda: FileRecipient(tmp_path),
        "smtp": SmtpRecipient,
        "http": WebhookRecipient,
        "slack+http": SlackRecipient,
    }[request.param]()
    yield created
    created.end()


def _message(recipient, *ids, delivery="d" * 32, **values):
    alerts = alerts_of(flagged_batch(ids, **values), [recipient.channel.name])
    return message_of(alerts, delivery)


def test_alerts_arrive_once_each_in_order(recipient):
    recipient.channel.check()
    recipient.channel.send(_message(recipient, "b", "a"))
    recipient.channel.send(_message(recipient, "c", delivery="e" * 32))
    assert recipient.ids() == ["b", "a", "c"]


def test_every_kind_of_message_arrives(recipient):
    for sample in SAMPLES:
        recipient.channel.send(sample)
    text = "\n".join(arrived.text for arrived in recipient.arrived())
    assert "large_and_fast' is muted" in text
    assert "This is a test." in text
    assert recipient.ids().count("test-transaction") == 2
    assert recipient.ids().count("test-3") == 2


def test_a_repeated_message_is_recognised(recipient):
    message = _message(recipient, "a")
    recipient.channel.send(message)
    recipient.channel.send(message)
    one, other = recipient.arrived()
    assert one == other
    assert one.key


HOSTILE = "x\r\nBcc: all@bank.example\n\nALERT decline\x1b[2J\x9b31m\u202e\u2028\u200b\x00'\""
MARKUP = "</pre><script>alert(1)</script>{{ 7*7 }}<!channel>@here`*b*`<http://evil.example|bank>"


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, "x" * 100_000, "", "\\", "\U0001f4b3 Zoë"])
def test_hostile_names_are_escaped(recipient, name):
    alerts = [
        replace(alert, account_id=name, merchant_id=name, rules=(name,))
        for alert in _message(recipient, "a").alerts
    ]
    recipient.channel.send(message_of(alerts))
    [arrived] = recipient.arrived()
    assert arrived.ids == ["a"]
    assert _unseen(recipient, arrived.text) == set()
    assert "\nBcc" not in arrived.text
    assert "<script" not in arrived.markup
    assert "<!channel" not in arrived.markup
    assert "<http" not in arrived.markup


def test_hostile_notices_are_escaped(recipient):
    recipient.channel.send(Message("n", "notice", NOW, text=HOSTILE + MARKUP))
    [arrived] = recipient.arrived()
    assert _unseen(recipient, arrived.text) == set()


def _for_machines(recipient):
    return recipient.url.startswith(("file:", "http:", "kafka:"))


def _unseen(recipient, text):
    """Return characters that are invisible or look like others."""
    # A program takes the rest as it is.
    bad = "\r\x1b\x00" if _for_machines(recipient) else "\r\x1b\x9b\u202e\u2028\u200b\x00"
    return set(bad) & set(text)


def test_a_failure_is_one_line_that_names_the_channel(recipient):
    recipient.break_it()
    scheme = recipient.url.partition(":")[0].replace("+", r"\+")
    with pytest.raises(FraudError, match=f"^--alert {scheme}:") as refused:
        recipient.channel.send(_message(recipient, "a"))
    assert "\n" not in str(refused.value)
    assert "T0KEN" not in str(refused.value)


def test_check_sends_nothing(recipient):
    recipient.channel.check()
    assert recipient.arrived() == []


def test_the_name_is_the_same_in_every_run_with_any_options(recipient):
    mark = "#" if recipient.url.startswith(("http", "slack")) else "?"
    more = "&" if mark in recipient.url else mark
    channel = parse_channel(f"{recipient.url}{more}most=7&group=90s&rate=5/1h", recipient.stream)
    assert recipient.again().name == channel.name == recipient.channel.name
    assert (channel.policy.most, channel.policy.group) == (7, 90.0)
    assert (channel.policy.rate.messages, channel.policy.rate.seconds) == (5, 3600.0)


def test_neither_name_nor_description_contains_a_secret(recipient):
    assert "T0KEN" not in recipient.channel.name + recipient.channel.describe()
    assert "T0KEN" not in repr(recipient.channel)


def test_it_describes_itself_by_its_kind(recipient):
    assert recipient.channel.describe().startswith(recipient.url.partition(":")[0] + ":")


def test_a_closed_channel_opens_again(recipient):
    recipient.channel.send(_message(recipient, "a"))
    recipient.channel.close()
    recipient.channel.close()
    recipient.channel.send(_message(recipient, "b", delivery="e" * 32))
    assert recipient.ids() == ["a", "b"]


def test_only_the_selected_fields_are_sent(recipient):
    mark = "#" if recipient.url.startswith(("http", "slack")) else "?"
    more = "&" if mark in recipient.url else mark
    recipient.url += f"{more}fields=transaction_id,decision"
    recipient.channel.close()
    recipient.channel = recipient.again()
    alerts = [
        replace(alert, account_id="ACCOUNT", merchant_id="MERCHANT", amount=77.5, score=0.613)
        for alert in _message(recipient, "a", "b").alerts
    ]
    recipient.channel.send(message_of(alerts))
    text = "\n".join(arrived.text for arrived in recipient.arrived())
    assert recipient.ids() == ["a", "b"]
    assert "review" in text
    for hidden in ("ACCOUNT", "MERCHANT", "77.5", "0.61", "V14", "ünusual", "m@1"):
        assert hidden not in text


def test_pseudonyms_replace_every_id(recipient):
    pseudonyms = Pseudonyms(b"k" * 16)
    channel = parse_channel(recipient.url, recipient.stream, pseudonyms=pseudonyms)
    alert = replace(_message(recipient, "TX-1").alerts[0], account_id="ACC-1", merchant_id="MER-1")
    channel.send(message_of([alert]))
    channel.close()
    [arrived] = recipient.arrived()
    assert arrived.ids == [pseudonyms.of("transaction", "TX-1")]
    for hidden in ("TX-1", "ACC-1", "MER-1", alert.alert_id):
        assert hidden not in arrived.text + arrived.key
    assert pseudonyms.of("account", "ACC-1") in arrived.text
    assert pseudonyms.of("merchant", "MER-1") in arrived.text
    assert channel.name == recipient.channel.name
