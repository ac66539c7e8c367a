import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.alerts.alert import Alert, Reason, alert_id
from beam_fraud.schema.stages import SCORED
from tests.flagged import START, alerts_of, flagged_batch


def test_every_flagged_row_has_one_alert_a_channel():
    alerts = alerts_of(flagged_batch(["t0", "t1"]), ["console", "file:/x"])
    assert [(a.transaction_id, a.channel) for a in alerts] == [
        ("t0", "console"),
        ("t0", "file:/x"),
        ("t1", "console"),
        ("t1", "file:/x"),
    ]
    assert len({a.alert_id for a in alerts}) == 4


def test_an_alert_has_the_values_of_its_row():
    [alert] = alerts_of(flagged_batch(["t0"]), ["console"])
    assert (alert.event_time, alert.amount, alert.merchant_id) == (START, 12.5, None)
    assert alert.rules == ("large", "ünusual")
    assert alert.reasons == (Reason("V14", -3.5, 0.4),)


def test_another_model_gives_the_same_alert():
    one, other = (
        alerts_of(flagged_batch(["t"], model_id=model), ["console"])[0] for model in ("a", "b")
    )
    assert one.alert_id == other.alert_id


def test_ids_do_not_change_between_versions():
    assert alert_id("t0", "console") == "24b40ec2be37ea0235cc485202a74df7"


@given(st.text(), st.text(), st.sampled_from(["console", "file:/a"]))
def test_ids_of_transactions_differ(one, other, channel):
    assert (alert_id(one, channel) == alert_id(other, channel)) == (one == other)


def test_lists_that_are_absent_are_empty():
    row = flagged_batch(["t"]).to_pylist()[0] | {"rules": None, "reasons": None}
    [alert] = alerts_of(pa.RecordBatch.from_pylist([row], schema=SCORED), ["console"])
    assert (alert.rules, alert.reasons) == ((), ())


def test_a_row_of_the_outbox_comes_back_as_the_alert():
    [alert] = alerts_of(flagged_batch(["t"]), ["console"])
    assert Alert.from_row({**alert.row(), "sent_at": None}) == alert
