"""Webhooks to real receivers with every kind of fault."""

import hashlib
import hmac
import io
import logging
import re
import runpy
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from beam_fraud.alerts.channels import http as http_post
from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.channels.webhook import SECRET_VARIABLE
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import FraudError, UsageError
from tests.certificates import certificates
from tests.flagged import alerts_of, flagged_batch, message_of
from tests.http_receiver import Answer, HttpReceiver

README = Path(__file__).resolve().parents[2] / "deploy/webhook/README.md"


@pytest.fixture
def receiver():
    with HttpReceiver() as running:
        yield running


@pytest.fixture
def channel(receiver):
    created = _channel(receiver)
    yield created
    created.close()


def _channel(receiver, options=""):
    return parse_channel(f"{receiver.url}/hook?token=T0KEN#{options}", io.StringIO())


def _message(*ids, delivery="d" * 32, **values):
    return message_of(alerts_of(flagged_batch(ids or ["t0"], **values), ["x"]), delivery)


def _fails(channel, kind=FraudError):
    with pytest.raises(FraudError) as refused:
        channel.send(_message())
    assert type(refused.value) is kind
    assert str(refused.value).startswith(f"--alert {channel.name}: ")
    assert "\n" not in str(refused.value)
    assert "T0KEN" not in str(refused.value)
    return refused.value


def test_a_post_holds_the_whole_message(receiver, channel):
    channel.send(_message("t0", "t1"))
    [post] = receiver.taken
    assert post.path == "/hook?token=T0KEN"
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["Idempotency-Key"] == "d" * 32
    assert (post.json["kind"], post.json["total"], post.json["text"]) == ("alerts", 2, None)
    assert post.json["created_at"] == "2024-05-01T12:00:00.000005Z"
    assert [alert["transaction_id"] for alert in post.json["alerts"]] == ["t0", "t1"]
    assert post.json["alerts"][0]["reasons"][0]["feature"] == "V14"


def test_our_options_never_reach_the_receiver(receiver):
    channel = _channel(receiver, "most=7&fields=score")
    assert channel.policy == Policy(most=7)
    channel.send(_message())
    assert receiver.taken[0].path == "/hook?token=T0KEN"


def test_by_default_every_alert_goes_at_once():
    channel = parse_channel("https://h.example/", io.StringIO())
    assert channel.policy == Policy(group=None, most=1, rate=None)


def test_a_receiver_can_verify_who_sent_it_and_when(receiver, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, "s3cret")
    _channel(receiver).send(_message())
    [post] = receiver.taken
    timestamp = post.headers["X-Beam-Fraud-Timestamp"]
    digest = hmac.new(b"s3cret", timestamp.encode() + b"." + post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-Beam-Fraud-Signature"] == f"sha256={digest}"
    assert abs(time.time() - int(timestamp)) < 60


def test_the_function_of_the_documentation_verifies(receiver, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (tmp_path / "verify.py").write_text(code)
    is_genuine = runpy.run_path(str(tmp_path / "verify.py"))["is_genuine"]
    (tmp_path / "secret").write_text("s3cret\n")
    _channel(receiver, f"secret_file={tmp_path / 'secret'}").send(_message())
    [post] = receiver.taken
    assert is_genuine(b"s3cret", post.headers, post.body)
    assert not is_genuine(b"other", post.headers, post.body)
    assert not is_genuine(b"s3cret", post.headers, post.body + b" ")
    assert not is_genuine(b"s3cret", {}, post.body)
    old = {**post.headers, "X-Beam-Fraud-Timestamp": str(int(time.time()) - 3600)}
    assert not is_genuine(b"s3cret", old, post.body)


def test_without_a_secret_nothing_is_signed(receiver, channel, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    channel.send(_message())
    assert "X-Beam-Fraud-Signature" not in receiver.taken[0].headers


def test_a_missing_secret_is_reported_before_the_run(receiver):
    with pytest.raises(FraudError, match="the variable NOWHERE is not set"):
        _channel(receiver, "secret_env=NOWHERE").check()


def test_tls_with_an_own_authority(tmp_path):
    files = certificates(tmp_path)
    with HttpReceiver(files.context) as receiver:
        channel = _channel(receiver, f"cafile={files.ca_file}")
        channel.check()
        channel.send(_message())
        channel.close()
    assert len(receiver.taken) == 1


def test_an_untrusted_certificate_is_refused_before_and_in_the_run(tmp_path):
    with HttpReceiver(certificates(tmp_path).context) as receiver:
        channel = _channel(receiver)
        with pytest.raises(FraudError, match="certificate is not trusted"):
            channel.check()
        assert "certificate is not trusted" in str(_fails(channel))
    assert receiver.posts == []


def test_the_connection_is_reused(receiver, channel):
    for n in range(5):
        channel.send(_message(delivery=f"{n:032d}"))
    assert receiver.connections == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_temporary_failure_is_retried(receiver, channel, status):
    receiver.answers = [Answer(status)]
    assert f"response is {status}" in str(_fails(channel))
    channel.send(_message())
    assert list(receiver.keys.values()) == [1]


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422, 499])
def test_a_response_about_the_message_refuses_only_this_message(receiver, channel, status):
    receiver.answers = [Answer(status)]
    _fails(channel, MessageRefusedError)
    channel.send(_message(delivery="e" * 32))
    assert len(receiver.taken) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 410])
def test_a_response_about_the_receiver_gives_no_message_up(receiver, channel, status):
    receiver.answers = [Answer(status, {"Location": f"{receiver.url}/elsewhere"})]
    _fails(channel)
    assert len(receiver.posts) == 1


def test_the_receiver_sets_the_time_of_the_retry(receiver, channel):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    for value, least, most in [
        ("7", 7, 7),
        (soon, 50, 61),
        (past, 0, 0),
        ("9" * 5_000, 3600, 3600),
    ]:
        for status in (429, 503):
            receiver.answers = [Answer(status, {"Retry-After": value})]
            assert least <= _fails(channel, TryLaterError).seconds <= most


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e9", "\u0667"])
def test_an_unreadable_retry_time_is_ignored(receiver, channel, value):
    receiver.answers = [Answer(429, {"Retry-After": value.encode().decode("latin-1")})]
    _fails(channel)


def test_a_receiver_that_drops_the_connection(receiver, channel):
    receiver.answers = [Answer(how="drop")]
    assert "connection was lost" in str(_fails(channel))
    channel.send(_message())
    assert list(receiver.keys.values()) == [1]


def test_a_receiver_that_is_down_is_reported_before_the_run(receiver, channel):
    receiver.stop()
    with pytest.raises(FraudError, match="Connection refused"):
        channel.check()
    assert "Connection refused" in str(_fails(channel))
    receiver.start()
    channel.send(_message())
    assert len(receiver.taken) == 1


def test_a_stalled_receiver_is_abandoned(receiver, channel, monkeypatch):
    monkeypatch.setattr(http_post, "READ_SECONDS", 0.2)
    receiver.answers = [Answer(how="stall")]
    assert "no response in time" in str(_fails(channel))


def test_a_receiver_that_responds_byte_by_byte_is_abandoned(receiver, channel, monkeypatch):
    monkeypatch.setattr(http_post, "WHOLE_SECONDS", 0.5)
    receiver.answers = [Answer(how="drip", headers={"X-Long": "x" * 2_000})]
    begun = time.monotonic()
    assert "no complete response" in str(_fails(channel))
    assert time.monotonic() - begun < 5
    channel.send(_message())


def test_a_receiver_that_responds_byte_by_byte_over_tls_is_abandoned(tmp_path, monkeypatch):
    monkeypatch.setattr(http_post, "WHOLE_SECONDS", 1.0)
    files = certificates(tmp_path)
    with HttpReceiver(files.context) as receiver:
        channel = _channel(receiver, f"cafile={files.ca_file}")
        receiver.answers = [Answer(how="drip", headers={"X-Long": "x" * 2_000})]
        assert "no complete response" in str(_fails(channel))
        channel.close()


def test_no_log_holds_the_url(receiver, channel, caplog):
    receiver.answers = [Answer(200, {"\x0b bad header": "x", "": ""})]
    with caplog.at_level(logging.DEBUG):
        channel.send(_message())
        receiver.stop()
        _fails(channel)
    assert "T0KEN" not in caplog.text


def test_the_body_after_an_acceptance_does_not_matter(receiver, channel, monkeypatch):
    monkeypatch.setattr(http_post, "WHOLE_SECONDS", 0.5)
    receiver.answers = [Answer(200, body=b"x" * 2_000, how="drip body")]
    channel.send(_message())
    receiver.answers = [Answer(200, body=b"x" * 10_000_000)]
    channel.send(_message())
    channel.send(_message())
    assert len(receiver.posts) == 3


def test_a_huge_refusal_is_not_read_nor_shown(receiver, channel):
    receiver.answers = [Answer(422, body=b"<html>" * 2_000_000)]
    assert len(str(_fails(channel, MessageRefusedError))) < 200


def test_a_receiver_that_fails_at_random_gets_every_message(receiver, channel):
    receiver.fails = 0.4
    for n in range(60):
        message = _message(delivery=f"{n:032d}")
        for _ in range(50):
            try:
                channel.send(message)
                break
            except FraudError:
                continue
    assert len(receiver.keys) == 60
    # A repeat is of one that was taken without an answer, and carries the same key.
    assert sum(receiver.keys.values()) > 60


def test_no_login_of_netrc_is_sent(receiver, channel, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    channel.send(_message())
    assert "Authorization" not in receiver.taken[0].headers


def test_the_proxy_of_the_environment_is_used(receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "")
    channel = parse_channel("http://hooks.example/T0KEN#plain=yes", io.StringIO())
    channel.check()
    channel.send(_message())
    assert receiver.taken[0].path == "http://hooks.example/T0KEN"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h.example/x", "unencrypted; write https:, or #plain=yes"),
        ("slack+http://h.example/x", "unencrypted"),
        ("https://u:hunter2@h.example/", "other users can read a login in the URL"),
        ("https://h.example/#secret=hunter2", "unknown option 'secret'; did you mean secret_env?"),
        ("https://h.example/#rat=1/1h", "unknown option 'rat'; did you mean rate?"),
        ("https://h.example/#most=100000", "a number from 1 to 10,000"),
        ("slack://h.example/x#most=51", "a number from 1 to 50"),
        ("https:///x", "no valid server and port"),
        ("https:x", "no valid server and port"),
        ("https://h\x00.example/x", "no valid server and port"),
        ("https://[::1/x", "no valid server and port"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url, message):
    with pytest.raises(UsageError) as refused:
        parse_channel(url, io.StringIO())
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_two_urls_of_one_host_are_two_channels():
    one, other, same = (
        parse_channel(f"https://h.example/{path}", io.StringIO()).name
        for path in ("a", "b", "a#most=3")
    )
    assert one != other
    assert one == same
    assert re.fullmatch(r"https://h\.example/\*\*\*[0-9a-f]{12}", one)


def test_a_url_that_is_a_secret_may_be_in_the_environment(receiver, monkeypatch):
    monkeypatch.setenv("HOOK", f"{receiver.url}/T0KEN")
    channel = parse_channel("env:HOOK", io.StringIO())
    channel.send(_message())
    assert receiver.taken[0].path == "/T0KEN"
    assert channel.name == parse_channel(f"{receiver.url}/T0KEN", io.StringIO()).name
    with pytest.raises(FraudError, match="NOWHERE: the variable is not set"):
        parse_channel("env:NOWHERE", io.StringIO())
