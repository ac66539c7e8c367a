import pickle
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from beam_fraud.alerts.alert import Alert
from beam_fraud.alerts.deliveries import due_deliveries, mark_refused, mark_sent
from beam_fraud.alerts.fixing import fix
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import AS_THEY_COME, Policy, Rate
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.alerts.snoozes import Snooze, snooze
from beam_fraud.errors import FraudError
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.engines import engine
from beam_fraud.storage.database.tables import ALERTS
from tests.flagged import alerts_of, flagged_batch

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def _queue(outbox, *ids, channel="console", **values):
    queue_flagged(outbox.url, flagged_batch(ids, **values), [channel])


@pytest.fixture
def outbox(database):
    outbox = Outbox(database)
    outbox.begin()
    return outbox


def _fix(outbox, channel="console"):
    """Put pending alerts into deliveries; return the deliveries."""
    with engine(outbox.url).connect() as connection:
        fix(outbox.url, connection, channel, Policy(), NOW)
    with transaction(outbox.url) as connection:
        return due_deliveries(connection, channel, NOW, AS_THEY_COME)


def _send(outbox, channel="console"):
    for delivery in _fix(outbox, channel):
        with writing(outbox.url) as connection:
            mark_sent(connection, {delivery.message.delivery_id: NOW})


def _told(outbox, channel="console"):
    return [a.transaction_id for d in _fix(outbox, channel) for a in d.message.alerts]


def test_alerts_come_in_the_order_of_their_events(outbox):
    _queue(outbox, "late", "early", "middle", minutes=[9, 0, 5])
    assert _told(outbox) == ["early", "middle", "late"]


def test_an_alert_comes_back_whole(outbox):
    alerts = alerts_of(flagged_batch(["t0"]), ["console"])
    _queue(outbox, "t0")
    assert [list(delivery.message.alerts) for delivery in _fix(outbox)] == [alerts]


def test_channels_are_separate(outbox):
    _queue(outbox, "a")
    _queue(outbox, "a", "b", channel="file:/x")
    _send(outbox)
    assert outbox.counts() == {"console": Counts(0, 1), "file:/x": Counts(2, 0)}
    assert _told(outbox, "file:/x") == ["a", "b"]


def test_a_sent_alert_is_never_queued_again(outbox):
    _queue(outbox, "a", score=0.7)
    _send(outbox)
    _queue(outbox, "a", score=0.9, model_id="other@2")
    assert _told(outbox) == []
    with transaction(outbox.url) as connection:
        # It still says what was sent.
        assert connection.execute(select(ALERTS.c.score, ALERTS.c.sent_at)).all() == [(0.7, NOW)]


def test_a_waiting_alert_takes_the_newest_scoring_until_it_is_in_a_message(outbox):
    _queue(outbox, "a", score=0.7)
    _queue(outbox, "a", score=0.8)
    first = _fix(outbox)
    _queue(outbox, "a", score=0.9)
    assert _fix(outbox) == first
    assert [alert.score for alert in first[0].message.alerts] == [0.8]


def test_counts_distinguish_pending_snoozed_and_failed_alerts(outbox):
    _queue(outbox, "a")
    [delivery] = _fix(outbox)
    _queue(outbox, "b", "c", account="quiet")
    _queue(outbox, "d", account="other")
    until = NOW + timedelta(hours=1)
    with writing(outbox.url) as connection:
        mark_refused(connection, delivery.message.delivery_id, "no", None)
        snooze(connection, [Snooze("account", "quiet", until)], NOW)
    assert outbox.counts(NOW) == {"console": Counts(pending=1, sent=0, failed=1, snoozed=2)}
    assert outbox.counts(until) == {"console": Counts(pending=3, sent=0, failed=1, snoozed=0)}


def test_it_travels_to_a_worker(outbox):
    _queue(pickle.loads(pickle.dumps(outbox)), "a")
    assert _told(outbox) == ["a"]


def test_an_empty_batch_queues_nothing(outbox):
    _queue(outbox)
    assert outbox.counts() == {}


def test_an_outbox_without_tables_is_one_line(tmp_path):
    with pytest.raises(FraudError, match="no such table") as refused:
        _queue(Outbox(sqlite_url(tmp_path / "x.db")), "a")
    assert "\n" not in str(refused.value)


def test_a_digest_is_counts_and_the_highest_scores(outbox):
    for number in range(30):
        _queue(outbox, f"t{number}", account=f"a{number}", score=number / 100)
    with engine(outbox.url).connect() as connection:
        fix(outbox.url, connection, "console", Policy(group=60, rate=Rate(1, 60)), NOW)
    with transaction(outbox.url) as connection:
        [delivery] = due_deliveries(connection, "console", NOW, AS_THEY_COME)
    message = delivery.message
    assert (message.kind, message.total) == ("digest", 30)
    assert message.text == (
        "30 alerts: 30 review. These 20 have the highest scores; "
        "`beam-fraud alerts list` shows all."
    )
    assert [alert.score for alert in message.alerts] == [n / 100 for n in range(29, 9, -1)]
    assert isinstance(message.alerts[0], Alert)
