import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.alerts.channels.console import ConsoleChannel
from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.errors import FraudError, UsageError


def test_the_console_is_the_callers():
    stream = io.StringIO()
    assert parse_channel("console:", stream) == ConsoleChannel(stream)


def test_a_file_becomes_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    channel = parse_channel("file:alerts.jsonl", io.StringIO())
    assert channel == FileChannel(tmp_path / "alerts.jsonl")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("consle:", "unknown scheme 'consle' (known: console:, file:FILE, "),
        ("fil:x", "unknown scheme 'fil' (known: file:FILE, "),
        ("console", "no scheme"),
        ("console:x", "without text after the colon"),
        ("file:", "file:FILE"),
        ("file://host/x", "file:FILE"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url, message):
    with pytest.raises(UsageError) as refused:
        parse_channel(url, io.StringIO())
    assert message in str(refused.value)
    assert "--alert" in str(refused.value)


def test_a_password_is_not_repeated():
    with pytest.raises(UsageError) as refused:
        parse_channel("ftp://me:hunter2@host/", io.StringIO())
    assert "hunter2" not in str(refused.value)


SCHEMES = ["smtp://", "smtps://", "https://", "http://", "slack://", "kafka://", "env:", "console:"]
PARTS = ["h", "127.0.0.1", "@", ":", "1", "/", "?", "#", "&", "=", "[", "]", "%", "from=a@b.c"]
PARTS += ["to=a@b.c", "group=", "rate=", "1/1h", "most=", "fields=", "config=", "a=b", ",", " "]


@settings(max_examples=400, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5)), max_size=12),
)
def test_any_url_is_a_channel_or_one_line(scheme, parts):
    message = None
    try:
        channel = parse_channel(scheme + "".join(parts), io.StringIO())
    except FraudError as error:
        message = str(error)
    if message is None:
        assert channel.name.isprintable()
        assert channel.policy.most >= 1
    else:
        assert "\n" not in message
        assert "--alert" in message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kafka://h:9092/", "no brokers and topic"),
        ("kafka://h/topic", "brokers are written HOST:PORT"),
        ("kafka://\nh/topic", r"kafka://\nh/topic: brokers are written HOST:PORT"),
        ("kafka://h:9092/to pic", "no brokers and topic"),
        ("kafka://h:9092/t?config=sasl.password=hunter2", "config sasl.password: other users"),
        ("kafka://h:9092/t?confg=a=b", "did you mean config?"),
        ("console:?rate=1/0s", "rate=60/1h, or none"),
        ("file:x?mot=1", "did you mean most?"),
    ],
)
def test_invalid_options_are_errors(url, message):
    with pytest.raises(UsageError) as refused:
        parse_channel(url, io.StringIO())
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_properties_of_a_topic_are_librdkafkas():
    channel = parse_channel(
        "kafka://h:9092,i:9092/t?config=security.protocol=SSL&config=client.id=x&most=7",
        io.StringIO(),
    )
    assert channel.name == "kafka://h:9092,i:9092/t"
    assert channel.policy.most == 7
    properties = dict(channel.settings.properties)
    assert (properties["security.protocol"], properties["client.id"]) == ("SSL", "x")


@pytest.mark.parametrize(
    ("url", "digest"),
    [
        ("console:", 20),
        ("console:?digest=5", 5),
        ("console:?digest=none", None),
        ("smtp://u@h/?from=a@b.c&to=a@b.c", 20),
        ("slack://h/x", 20),
        ("slack://h/x#digest=7", 7),
        # Whoever says how messages are cut gets them so, of a batch too.
        ("smtp://u@h/?from=a@b.c&to=a@b.c&group=10m", None),
        ("smtp://u@h/?from=a@b.c&to=a@b.c&rate=9/1h", None),
        ("console:?most=1", None),
        ("smtp://u@h/?from=a@b.c&to=a@b.c&group=10m&digest=30", 30),
        # Machines get every alert.
        ("file:x", None),
        ("https://h/x", None),
    ],
)
def test_people_get_a_batch_in_one_message(url, digest):
    assert parse_channel(url, io.StringIO()).policy.digest == digest


@pytest.mark.parametrize("value", ["0", "x", "51"])
def test_a_digest_is_of_a_number_of_alerts(value):
    with pytest.raises(UsageError, match=r"digest=.*: write a number from 1 to 50, or none"):
        parse_channel(f"slack://h/x#digest={value}", io.StringIO())
