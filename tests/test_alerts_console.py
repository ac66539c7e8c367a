import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.alert import alerts_of
from beam_fraud.alerts.console import ConsoleChannel
from beam_fraud.alerts.line import alert_line
from tests.flagged import flagged_batch


def _alert(account="a"):
    return alerts_of(flagged_batch(["t0"], account=account), ["console"])[0]


def test_a_line_reads_as_what_happened():
    assert alert_line(_alert()) == (
        "ALERT review score=0.9000 amount=12.50 time=2024-05-01T12:00:00Z transaction=t0 "
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
def test_names_are_shown_so_that_they_cannot_be_mistaken(name, shown):
    assert shown in alert_line(_alert(name))


@given(st.text(), st.text())
def test_any_two_names_look_different_and_take_one_line(one, other):
    first, second = alert_line(_alert(one)), alert_line(_alert(other))
    assert first.isprintable()
    assert (first == second) == (one == other)


def test_a_terminal_that_knows_ascii_only_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleChannel(stream).send([_alert("Zoë")])
    assert rb"account=Zo\xeb" in raw.getvalue()
