import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.alerts.channels.console import ConsoleChannel, alert_line
from beam_fraud.alerts.message import Message
from tests.flagged import alerts_of, flagged_batch, message_of

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def _alert(account="a"):
    return alerts_of(flagged_batch(["t0"], account=account), ["console"])[0]


def test_a_line_describes_the_alert():
    assert alert_line(_alert()) == (
        'ALERT review score=0.9000 amount=12.50 time="2024-05-01 12:00 +00:00" transaction=t0 '
        "account=a rules=large,ünusual reasons=V14(+0.4) model=m@1"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("A\nB", r"account=A\nB "),
        ("\x1b[31mred", r"account=\x1b[31mred "),
        ("\u202eevil", r"account=\u202eevil "),
        ("a b", 'account="a b" '),
        ("x score=0.1", 'account="x score=0.1" '),
        ('"', 'account="\\""'),
        ("\\n", r"account=\\n "),
        ("", 'account="" '),
        ("Zoë", "account=Zoë "),
    ],
)
def test_names_are_quoted_and_escaped(name, shown):
    assert shown in alert_line(_alert(name))


@given(st.text(), st.text())
def test_any_two_names_look_different_and_take_one_line(one, other):
    first, second = alert_line(_alert(one)), alert_line(_alert(other))
    assert first.isprintable()
    assert (first == second) == (one == other)


def test_a_terminal_that_knows_ascii_only_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleChannel(stream).send(message_of([_alert("Zoë")]))
    assert rb"account=Zo\xeb" in raw.getvalue()


def test_only_the_chosen_fields_are_shown():
    line = alert_line(_alert("a"), ("decision", "score"))
    assert line == "ALERT review score=0.9000"


def test_a_notice_is_a_line():
    stream = io.StringIO()
    ConsoleChannel(stream).send(Message("d", "notice", NOW, text="rule\nx is muted"))
    assert stream.getvalue() == "NOTICE rule\\nx is muted\n"


def test_a_digest_has_the_number_of_alerts():
    stream = io.StringIO()
    ConsoleChannel(stream).send(Message("d", "digest", NOW, (_alert(),), 132))
    head, alert = stream.getvalue().splitlines()
    assert head == "DIGEST Fraud alerts: 132, highest score 0.90"
    assert "transaction=t0" in alert
