"""Reasons in an alert's line."""

from dataclasses import replace

from beam_fraud.alerts.alert import Alert, Reason
from beam_fraud.alerts.channels.console import alert_line
from tests.flagged import alerts_of, flagged_batch


def alert(*reasons: Reason) -> Alert:
    return replace(alerts_of(flagged_batch(["t0"]), ["console"])[0], reasons=reasons)


FAST = Reason("account_count_1h", 7.0, 1.5, "7 transactions of the account in 1 hour", False)
LARGE = Reason("amount", 2310.0, 0.5, "amount 2,310.00, usually 21.50", False)


def test_reasons_are_in_words() -> None:
    shown = '"7 transactions of the account in 1 hour","amount 2,310.00, usually 21.50"'
    assert f" reasons={shown} model=" in alert_line(alert(FAST, LARGE))


def test_estimates_are_marked() -> None:
    assert " approximate_reasons=" in alert_line(alert(replace(FAST, approximate=True)))


def test_a_reason_without_words_is_its_feature() -> None:
    assert " reasons=V14(+0.4) " in alert_line(alert(Reason("V14", -3.5, 0.4)))


def test_reasons_cannot_imitate_other_fields() -> None:
    hostile = replace(FAST, text='mcc x" score=0.1\n\x1b[31m')
    assert r' reasons="mcc x\" score=0.1\n\x1b[31m" model=' in alert_line(alert(hostile))
