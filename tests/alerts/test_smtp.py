"""E-mail through real servers with every kind of fault."""

import io
import logging
import re
import socket
import threading
import time
from contextlib import suppress
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.alerts.channels import smtp_session
from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.smtp import PASSWORD_VARIABLE
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.message import Message
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.wording import printable
from tests.certificates import certificates
from tests.flagged import START, alerts_of, flagged_batch, message_of
from tests.recipients import LETTER_HEADERS
from tests.smtp_server import SmtpServer


@pytest.fixture
def server():
    with SmtpServer() as running:
        yield running


def _channel(server, *, scheme="smtp", user="", more="starttls=no", to="c@d.example"):
    url = f"{scheme}://{user}127.0.0.1:{server.port}/?from=a@b.example&to={to}&{more}"
    return parse_channel(url, io.StringIO())


def _message(*ids, delivery="d" * 32, **values):
    return message_of(alerts_of(flagged_batch(ids or ["t0"], **values), ["x"]), delivery)


def _fails(channel, message=None, kind=FraudError):
    with pytest.raises(FraudError) as refused:
        channel.send(message or _message())
    assert type(refused.value) is kind
    assert str(refused.value).startswith(f"--alert {channel.name}: ")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("smtps", [False, True])
def test_emails_are_encrypted_and_sent_with_a_login(tmp_path, monkeypatch, smtps):
    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter2")
    files = certificates(tmp_path)
    with SmtpServer(files.context, smtps=smtps, login=("me@b.example", "hunter2")) as server:
        scheme = "smtps" if smtps else "smtp"
        more = f"cafile={files.ca_file}"
        channel = _channel(server, scheme=scheme, user="me@b.example@", more=more)
        channel.check()
        channel.send(_message())
        channel.close()
    [letter] = server.letters
    assert letter.tls
    assert letter.recipients == ["c@d.example"]


def test_the_password_may_be_in_a_file(tmp_path):
    (tmp_path / "secret").write_text("hunter2\n")
    with SmtpServer(login=("me", "hunter2")) as server:
        more = f"starttls=no&password_file={tmp_path / 'secret'}"
        _channel(server, user="me@", more=more).send(_message())
    assert len(server.letters) == 1


def test_a_wrong_password_is_reported_before_the_run_and_not_shown(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter3")
    with SmtpServer(login=("me", "hunter2")) as server:
        channel = _channel(server, user="me@")
        with pytest.raises(FraudError, match="the login was refused") as refused:
            channel.check()
    assert "hunter3" not in str(refused.value)


def test_a_missing_password_names_the_variable(server, monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(FraudError, match=PASSWORD_VARIABLE):
        _channel(server, user="me@").check()


def test_a_server_without_login_is_an_error(server, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    assert "login" in _fails(_channel(server, user="me@"))


def test_nothing_is_sent_unencrypted_without_starttls(server, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    assert "no STARTTLS" in _fails(_channel(server, user="me@", more="most=9"))
    assert server.letters == []


@pytest.mark.parametrize("hosts", [(), ("elsewhere.example",)])
def test_an_untrusted_or_foreign_certificate_is_refused(tmp_path, hosts):
    files = certificates(tmp_path, *hosts)
    with SmtpServer(files.context) as server:
        more = f"cafile={files.ca_file}" if hosts else "most=9"
        assert "certificate is not trusted" in _fails(_channel(server, more=more))
    assert server.letters == []


def test_a_server_that_speaks_no_tls_is_one_line(server):
    assert _fails(_channel(server, scheme="smtps", more="most=9"))


def test_an_email_has_text_and_html(server):
    _channel(server, to="Fr%C3%A4nk <c@d.example>,e@f.example").send(_message("t0", "t1"))
    [letter] = server.letters
    mail = letter.mail
    assert mail["Message-ID"] == f"<{'d' * 32}@b.example>"
    assert mail["Date"].datetime == START.replace(microsecond=0)
    assert mail["Subject"] == "Fraud alerts: 2 of account a, highest score 0.90"
    assert mail["To"] == "Fränk <c@d.example>, e@f.example"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert letter.recipients == ["c@d.example", "e@f.example"]
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "review, score 0.90, amount 12.50" in text
    assert "Rules:       large, ünusual" in text
    assert "- V14 is -3.5" in text
    assert "large, ünusual" in html
    assert letter.content.isascii()
    assert max(map(len, letter.content.split(b"\r\n"))) <= 78


def test_every_attempt_sends_the_same_bytes(server):
    channel = _channel(server)
    for _ in range(2):
        channel.send(_message())
        channel.close()
    one, other = server.letters
    assert one.content == other.content


def test_a_long_domain_leaves_the_message_id_whole(server):
    domain = ".".join(["x" * 60] * 3)
    url = f"smtp://127.0.0.1:{server.port}/?from=a@{domain}&to=c@d.example&starttls=no"
    parse_channel(url, io.StringIO()).send(_message())
    assert server.letters[0].mail["Message-ID"] == f"<{'d' * 32}@{domain}>"
    assert f"<{'d' * 32}@{domain}>".encode() in server.letters[0].content


@settings(max_examples=60, deadline=None)
@given(name=st.text(max_size=300))
def test_no_name_adds_a_header_or_markup(name):
    channel = parse_channel("smtp://h/?from=a@b.example&to=c@d.example", io.StringIO())
    letter = channel.form.letter(_message(account=name))
    mail = message_from_bytes(letter, policy=default)
    assert sorted(mail.keys()) == LETTER_HEADERS
    assert b"\r" not in letter.replace(b"\r\n", b"")
    text, html = (part.get_content() for part in mail.iter_parts())
    assert f"Account:     {printable(name, 120)}\r\n" in text or not name
    assert re.findall("<[^>]*>", html) == _tags(channel, empty=not name)


def _tags(channel, *, empty):
    mail = message_from_bytes(channel.form.letter(_message(account="" if empty else "a")))
    return re.findall("<[^>]*>", mail.get_payload(1).get_payload(decode=True).decode())


def test_the_connection_is_reused_for_emails(server):
    channel = _channel(server)
    for n in range(5):
        channel.send(_message(delivery=f"{n:032d}"))
    assert len(server.connections) == 1
    channel.close()


def test_a_server_that_was_restarted_between_letters_is_no_failure(server):
    channel = _channel(server)
    channel.send(_message())
    server.stop()
    server.start()
    channel.send(_message(delivery="e" * 32))
    assert len(server.letters) == 2
    channel.close()


def test_emails_are_sent_when_the_server_is_back(server):
    channel = _channel(server)
    server.stop()
    assert "Connection refused" in _fails(channel)
    server.start()
    channel.send(_message())
    assert len(server.letters) == 1
    channel.close()


def test_a_greylisted_letter_goes_through_later(server):
    channel = _channel(server)
    server.recipients[""] = "451 4.7.1 greylisted, try again later"
    assert "451 4.7.1 greylisted" in _fails(channel)
    del server.recipients[""]
    channel.send(_message())
    assert list(server.ids.values()) == [1]
    channel.close()


@pytest.mark.parametrize("answer", ["451 4.3.0 later", "452 4.2.2 full", "421 4.3.2 closing"])
def test_a_temporarily_refused_email_is_retried(server, answer):
    server.answers = [answer]
    channel = _channel(server)
    assert answer in _fails(channel)
    channel.send(_message())
    assert len(server.letters) == 1
    channel.close()


def test_a_refused_email_does_not_stop_the_next(server):
    server.answers = ["554 5.7.1 no such content"]
    channel = _channel(server)
    assert "554 5.7.1" in _fails(channel, kind=MessageRefusedError)
    channel.send(_message(delivery="e" * 32))
    assert len(server.letters) == 1
    channel.close()


def test_an_email_is_repeated_if_the_connection_breaks_after_it(server):
    server.answers = ["drop"]
    channel = _channel(server)
    assert "connection was lost" in _fails(channel)
    channel.send(_message())
    assert list(server.ids.values()) == [2]
    channel.close()


def test_a_stalled_server_is_abandoned(server, monkeypatch):
    monkeypatch.setattr(smtp_session, "ANSWER_SECONDS", 0.3)
    server.answers = ["stall"]
    channel = _channel(server)
    assert "no response in time" in _fails(channel)
    channel.close()


def test_a_server_that_responds_byte_by_byte_is_abandoned(monkeypatch):
    monkeypatch.setattr(smtp_session, "LETTER_SECONDS", 0.5)
    done = threading.Event()

    def drip(listening):
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while not done.wait(0.02):
                connection.sendall(b"2")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        url = f"smtp://127.0.0.1:{listening.getsockname()[1]}/?from=a@b.c&to=d@e.f"
        begun = time.monotonic()
        assert "no response in time" in _fails(parse_channel(url, io.StringIO()))
        assert time.monotonic() - begun < 5
        done.set()
        thread.join()


def test_an_email_is_refused_if_all_recipients_are(server):
    server.recipients = {"c@d.example": "550 no such user", "e@f.example": "550 nor this"}
    message = _fails(_channel(server, to="c@d.example,e@f.example"), kind=MessageRefusedError)
    assert "c@d.example and 1 more (550 no such user)" in message
    assert server.letters == []


def test_one_refused_recipient_does_not_stop_the_others(server, caplog):
    server.recipients = {"c@d.example": "550 no such user"}
    with caplog.at_level(logging.WARNING):
        _channel(server, to="c@d.example,e@f.example").send(_message())
    assert [letter.recipients for letter in server.letters] == [["e@f.example"]]
    [warning] = caplog.messages
    assert "c@d.example gets no alerts (550 no such user)" in warning


def test_a_temporarily_refused_recipient_is_retried_alone(server):
    server.recipients = {"c@d.example": "452 mailbox full"}
    channel = _channel(server, to="c@d.example,e@f.example")
    assert "452 mailbox full" in _fails(channel)
    assert "452 mailbox full" in _fails(channel)
    del server.recipients["c@d.example"]
    channel.send(_message())
    channel.send(_message(delivery="e" * 32))
    got = [letter.recipients for letter in server.letters]
    assert got == [["e@f.example"], ["c@d.example"], ["c@d.example", "e@f.example"]]
    assert list(server.ids.values()) == [2, 1]
    channel.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("smtp://h/?to=a@b.c", "from is missing"),
        ("smtp://h/?from=a@b.c", "to is missing"),
        ("smtp://h/?from=ab&to=a@b.c", "from=ab: write addresses"),
        ("smtp://h/?from=a@b.c&to=a@b.c,c", "to=a@b.c,c: write addresses"),
        ("smtp://h/?from=a@b.c,d@e.f&to=a@b.c", "from: give one address"),
        ("smtp://h/?from=a@b.c&to=a@b.c%0d%0aBcc:x@y", "write addresses"),
        (
            "smtp://h/?from=a@b.c&to=a@b.c&starttls=no",
            "unencrypted, which is allowed to this machine",
        ),
        ("smtp://h/?from=a@b.c&to=a@b.c&starttls=maybe", "write yes or no"),
        ("smtps://h/?from=a@b.c&to=a@b.c&starttls=yes", "works with smtp:"),
        ("smtp://h/?from=a@b.c&to=a@b.c&cafile=/nowhere", "the file does not exist"),
        ("smtp://h/?from=a@b.c&to=a@b.c&grup=1m", "unknown option 'grup'; did you mean group?"),
        ("smtp://h/?from=a@b.c&to=a@b.c&group=0s", "group=10m, or none"),
        ("smtp://h/?from=a@b.c&to=a@b.c&rate=60", "rate=60/1h, or none"),
        ("smtp://h/?from=a@b.c&to=a@b.c&most=0", "a number from 1"),
        ("smtp://h/?from=a@b.c&to=a@b.c&fields=scor", "no field 'scor'; did you mean score?"),
        ("smtp://h/?from=a@b.c&to=a@b.c&to=d@e.f", "to is given twice"),
        ("smtp://h/path?from=a@b.c&to=a@b.c", "write the options after a question mark"),
        ("smtp://u:hunter2@h/?from=a@b.c&to=a@b.c", "a password on the command line"),
        ("smtp:///?from=a@b.c&to=a@b.c", "no valid server and port"),
        ("smtp://h:x/?from=a@b.c&to=a@b.c", "no valid server and port"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url, message):
    with pytest.raises(UsageError) as refused:
        parse_channel(url, io.StringIO())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_plus_sign_in_an_address_stays_one():
    channel = parse_channel("smtp://h/?from=a%2Bb@b.c&to=a+x@b.c", io.StringIO())
    assert channel.form.sender.addr_spec == "a+b@b.c"
    assert channel.form.recipients[0].addr_spec == "a+x@b.c"


def test_the_name_contains_the_receiver():
    def name(url):
        return parse_channel(url, io.StringIO()).name

    value = name("smtp://me@H.example/?from=a@b.c&to=z@b.c,a@b.c")
    assert value == "smtp://me@h.example:587/?to=a@b.c,z@b.c"
    assert value == name("smtp://me@h.example:587?to=a@b.c,z@b.c&from=x@y.z&most=3")
    assert name("smtps://h/?from=a@b.c&to=a@b.c") == "smtps://h:465/?to=a@b.c"


def test_a_notice_has_its_text(server):
    channel = _channel(server)
    channel.send(Message("n" * 32, "notice", START, text="rule 'x' is muted"))
    mail = server.letters[0].mail
    assert mail["Subject"] == "Fraud scoring: rule 'x' is muted"
    assert mail["X-Beam-Fraud-Kind"] == "notice"
    channel.close()
