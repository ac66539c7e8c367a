import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beam_fraud.alert import alerts_of
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.errors import FraudError
from beam_fraud.sinks.connection import sqlite_url, transaction
from beam_fraud.sinks.tables import ALERTS
from tests.flagged import flagged_batch

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def _alerts(*ids, channel="console", **values):
    return alerts_of(flagged_batch(ids, **values), [channel])


def _outbox(path):
    outbox = Outbox(sqlite_url(path / "outbox.db"))
    outbox.begin()
    return outbox


@pytest.fixture
def outbox(tmp_path):
    return _outbox(tmp_path)


def _pending(outbox, channel="console", limit=100):
    return [alert.transaction_id for alert in outbox.pending(channel, limit)]


def test_alerts_wait_in_the_order_of_their_events(outbox):
    outbox.queue(_alerts("late", "early", "middle", minutes=[9, 0, 5]))
    assert _pending(outbox) == ["early", "middle", "late"]
    assert _pending(outbox, limit=2) == ["early", "middle"]


def test_an_alert_comes_back_whole(outbox):
    alerts = _alerts("t0")
    outbox.queue(alerts)
    assert outbox.pending("console", 1) == alerts


def test_channels_are_kept_apart(outbox):
    outbox.queue([*_alerts("a"), *_alerts("a", "b", channel="file:/x")])
    outbox.mark_sent([alert.alert_id for alert in _alerts("a")], NOW)
    assert outbox.counts() == {"console": Counts(0, 1), "file:/x": Counts(2, 0)}
    assert _pending(outbox, "file:/x") == ["a", "b"]


def test_what_was_sent_is_never_queued_again_by_any_model(outbox):
    outbox.queue(_alerts("a"))
    outbox.mark_sent([alert.alert_id for alert in _alerts("a")], NOW)
    outbox.queue(_alerts("a", model_id="other@2"))
    assert _pending(outbox) == []


def test_a_waiting_alert_takes_the_newest_scoring(outbox):
    outbox.queue(_alerts("a", score=0.7))
    outbox.queue(_alerts("a", score=0.9))
    assert [alert.score for alert in outbox.pending("console", 9)] == [0.9]


def test_it_travels_to_a_worker(outbox):
    pickle.loads(pickle.dumps(outbox)).queue(_alerts("a"))
    assert _pending(outbox) == ["a"]


def test_nothing_is_a_fine_thing_to_queue_or_mark(outbox):
    outbox.queue([])
    outbox.mark_sent([], NOW)
    assert outbox.counts() == {}


def test_an_outbox_without_tables_is_one_line(tmp_path):
    with pytest.raises(FraudError, match="no such table") as refused:
        Outbox(sqlite_url(tmp_path / "x.db")).queue(_alerts("a"))
    assert "\n" not in str(refused.value)


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["queue", "send"]), st.lists(st.sampled_from("abcde"))),
        max_size=8,
    ),
    again=st.data(),
)
def test_any_history_leaves_each_alert_once_and_sent_ones_sent(tmp_path_factory, steps, again):
    outbox = _outbox(tmp_path_factory.mktemp("o"))
    queued, sent = set(), set()
    for kind, ids in steps:
        for _ in range(again.draw(st.integers(1, 2))):
            if kind == "queue":
                outbox.queue(_alerts(*ids))
                queued |= set(ids)
            else:
                outbox.mark_sent([alert.alert_id for alert in _alerts(*ids)], NOW)
                sent |= set(ids) & queued
    assert sorted(_pending(outbox)) == sorted(queued - sent)
    assert outbox.counts().get("console", Counts()) == Counts(len(queued - sent), len(sent))


def test_a_sent_alert_still_says_what_was_sent(outbox):
    outbox.queue(_alerts("a", score=0.7))
    outbox.mark_sent([alert.alert_id for alert in _alerts("a")], NOW)
    outbox.queue(_alerts("a", score=0.9))
    with transaction(outbox.url) as connection:
        assert connection.execute(select(ALERTS.c.score, ALERTS.c.sent_at)).all() == [(0.7, NOW)]
