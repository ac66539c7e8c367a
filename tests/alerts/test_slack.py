"""Messages to Slack respect its limits and syntax, with any names."""

import io
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.channels.slack import MOST_ALERTS, message_blocks
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.samples import SAMPLES, sample_alert
from beam_fraud.errors import FraudError
from tests.flagged import alerts_of, flagged_batch, message_of
from tests.http_receiver import Answer, HttpReceiver


@pytest.fixture
def receiver():
    with HttpReceiver() as running:
        yield running


def _channel(receiver, options=""):
    url = f"slack+http://127.0.0.1:{receiver.port}/services/T0KEN#{options}"
    return parse_channel(url, io.StringIO())


def _message(*ids, **values):
    return message_of(alerts_of(flagged_batch(ids or ["t0"], **values), ["x"]))


def _keeps_to_the_rules(posted):
    assert 1 <= len(posted["blocks"]) <= 50
    for block in posted["blocks"]:
        kind, text = block["type"], block["text"]
        assert set(block) == {"type", "text"}
        assert 1 <= len(text["text"]) <= (150 if kind == "header" else 3_000)
        assert text["type"] == ("plain_text" if kind == "header" else "mrkdwn")
        if kind == "section":
            assert text["verbatim"]
            assert "<" not in text["text"]
            assert ">" not in text["text"]
            bare = text["text"].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
            assert "&" not in bare
    assert "<" not in posted["text"]
    assert len(msgspec.json.encode(posted)) < 100_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_every_kind_of_message_is_valid(sample):
    _keeps_to_the_rules(message_blocks(sample))


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=400), copies=st.integers(1, MOST_ALERTS))
def test_messages_with_any_names_are_valid(name, copies):
    _keeps_to_the_rules(message_blocks(_message(*[name] * copies, account=name)))


def test_many_long_alerts_are_all_shown():
    ids = [f"transaction-{n:03d}-" + "&" * 100 for n in range(MOST_ALERTS)]
    posted = message_blocks(_message(*ids, account="<" * 300))
    _keeps_to_the_rules(posted)
    text = json.dumps(posted)
    assert all(f"transaction-{n:03d}-" in text for n in range(MOST_ALERTS))


def test_no_name_mentions_anyone_nor_links_nor_formats():
    name = "<!channel> @here `*b* <@U1> <http://evil.example|bank>"
    [header, section] = message_blocks(_message(account=name))["blocks"]
    assert header["text"]["type"] == "plain_text"
    shown = "<!channel> @here \N{RIGHT SINGLE QUOTATION MARK}*b* <@U1> <http://evil.example|bank>"
    coded = shown.replace("<", "&lt;").replace(">", "&gt;")
    assert f"Account: `{coded}`" in section["text"]["text"]


def test_reasons_are_in_words():
    text = json.dumps(message_blocks(message_of([sample_alert()])))
    assert "7 transactions of the account in the last hour, usually 1" in text
    assert "usually 38.20 (estimated)" in text


def test_a_message_arrives(receiver):
    channel = _channel(receiver)
    channel.check()
    channel.send(_message())
    [post] = receiver.taken
    assert post.path == "/services/T0KEN"
    assert post.json["text"] == "Fraud alert: review, score 0.90, amount 12.50"
    assert post.json["parse"] == "none"
    channel.close()


def test_only_slacks_error_code_is_shown(receiver):
    channel = _channel(receiver)
    receiver.answers = [
        Answer(400, body=b"invalid_blocks"),
        Answer(429, {"Retry-After": "30"}),
        Answer(404, body=b"no_service"),
        Answer(500, body=b"<html>T0KEN</html>"),
    ]
    for kind, message in [
        (MessageRefusedError, "the response is 400 invalid_blocks"),
        (TryLaterError, "in 30 s"),
        (FraudError, "404 no_service"),
        (FraudError, "the response is 500"),
    ]:
        with pytest.raises(FraudError) as refused:
            channel.send(_message())
        assert type(refused.value) is kind
        assert message in str(refused.value)
        assert "T0KEN" not in str(refused.value)
    channel.close()


def test_a_users_template_is_escaped(receiver, tmp_path):
    template = tmp_path / "slack.txt"
    template.write_text(
        "*{{ total }}* <https://cases.example|open>\n{{ alerts[0].account_id if alerts }}\n"
    )
    channel = _channel(receiver, f"template={template}")
    channel.send(_message(account="<!channel>"))
    [section] = receiver.taken[0].json["blocks"]
    assert section["text"]["text"] == "*1* <https://cases.example|open>\n&lt;!channel&gt;"
    channel.close()
