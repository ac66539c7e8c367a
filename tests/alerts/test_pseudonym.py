"""Pseudonyms replace ids and reveal nothing about them."""

from dataclasses import replace

import pytest

from beam_fraud.alerts.alert import Reason
from beam_fraud.alerts.pseudonym import KEY_VARIABLE, Pseudonyms
from beam_fraud.alerts.samples import sample_alert
from beam_fraud.errors import FraudError

NAMES = Pseudonyms(b"k" * 16)


def test_an_id_has_one_pseudonym_for_a_key_and_kind():
    one = NAMES.of("account", "a")
    assert one == Pseudonyms(b"k" * 16).of("account", "a")
    others = [
        NAMES.of("account", "b"),
        NAMES.of("merchant", "a"),
        Pseudonyms(b"l" * 16).of("account", "a"),
    ]
    assert len({one, *others}) == 4
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in (one, *others))


def test_all_ids_of_an_alert_are_replaced_and_nothing_else():
    alert = sample_alert()
    hidden = NAMES.alert(alert)
    changed = {
        name for name in alert.__dataclass_fields__ if getattr(alert, name) != getattr(hidden, name)
    }
    assert changed == {"alert_id", "transaction_id", "account_id", "merchant_id"}


def test_texts_that_contain_an_id_are_left_out():
    named = Reason("merchant", 3.0, 0.2, "merchant test-merchant, usually bakery")
    other = Reason("mcc", 3.0, 0.2, "mcc 5411, usually 7995")
    hidden = NAMES.alert(replace(sample_alert(), reasons=(named, other)))
    assert hidden.reasons == (replace(named, text=None), other)


def test_the_key_is_shown_nowhere():
    assert "kkkk" not in repr(NAMES)


@pytest.mark.parametrize(
    ("key", "message"), [(None, "need a key"), ("", "need a key"), ("x", "16")]
)
def test_a_missing_or_short_key_is_an_error(monkeypatch, key, message):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(FraudError, match=message) as refused:
        Pseudonyms.from_environment()
    assert KEY_VARIABLE in str(refused.value)


def test_any_text_has_a_pseudonym():
    assert NAMES.of("account", "") != NAMES.of("account", "\x00")
    assert NAMES.of("account", "\ud800")
