"""The dispatcher beside a stream: threads, killed processes, unreachable databases."""

import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.dispatch import Dispatcher
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.connection import sqlite_url, writing
from tests.flagged import flagged_batch
from tests.postman import Postman
from tests.snoozing import snoozed_for_an_hour


@pytest.fixture
def outbox(database):
    outbox = Outbox(database)
    outbox.begin()
    return outbox


def queue(outbox, ids, *channels, **values):
    """Queue flagged transactions, a minute apart."""
    queue_flagged(outbox.url, flagged_batch(list(ids), **values), [c.name for c in channels])


def wait_until(said, seconds=30.0):
    """Wait for another thread or process."""
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_alerts_queued_during_the_run_are_sent_soon(outbox):
    postman = Postman()
    dispatcher = Dispatcher(outbox, [postman])
    with dispatcher.running():
        for number, name in enumerate("abc"):
            queue(outbox, name, postman)
            wait_until(lambda number=number: len(postman.delivered) == number + 1)
    assert postman.ids() == ["a", "b", "c"]
    assert (dispatcher.sent, dispatcher.waiting()) == (3, {"postman": 0})
    assert postman.closed


def test_the_end_ignores_spans(outbox):
    postman = Postman(policy=Policy(group=3600))
    dispatcher = Dispatcher(outbox, [postman])
    with dispatcher.running():
        queue(outbox, "a", postman)
        wait_until(lambda: postman.delivered)
        queue(outbox, "bc", postman)
    assert postman.ids() == ["a", "bc"]
    assert sum(dispatcher.waiting().values()) == 0


def test_snoozed_alerts_are_no_failure(outbox):
    snoozed_for_an_hour(outbox, "a")
    postman = Postman()
    dispatcher = Dispatcher(outbox, [postman])
    with dispatcher.running():
        queue(outbox, "xy", postman, account="a")
    assert postman.delivered == []
    assert (dispatcher.waiting(), dispatcher.snoozed()) == ({"postman": 0}, {"postman": 2})


def test_stalled_and_failing_channels_do_not_delay_the_others(outbox):
    go = threading.Event()
    stalled, ill, well = Postman("stalled"), Postman("ill"), Postman("well")
    stalled.trouble = lambda message: (
        None if go.wait(30) else FraudError("nobody came", Code.CHANNEL_FAILED)
    )
    ill.trouble = lambda message: FraudError("ill", Code.CHANNEL_FAILED)
    dispatcher = Dispatcher(outbox, [stalled, ill, well])
    with dispatcher.running():
        for number, name in enumerate("abc"):
            queue(outbox, name, stalled, ill, well)
            wait_until(lambda number=number: len(well.delivered) == number + 1)
        go.set()
    assert sorted("".join(stalled.ids())) == ["a", "b", "c"]
    assert dispatcher.states["ill"].error == "ill"
    assert dispatcher.waiting() == {"stalled": 0, "ill": 3, "well": 0}


def test_a_bug_in_a_channel_does_not_end_its_thread(outbox):
    postman = Postman(policy=Policy(most=1))
    bad = {"a"}
    postman.trouble = lambda m: ValueError("bug") if m.alerts[0].transaction_id in bad else None
    with Dispatcher(outbox, [postman]).running():
        queue(outbox, "ab", postman)
        wait_until(lambda: postman.ids() == ["b"])
        bad.clear()
    assert postman.ids() == ["b", "a"]


def test_of_two_dispatchers_one_sends_and_the_other_takes_over(outbox):
    one, other = Postman(), Postman()
    first = Dispatcher(outbox, [one]).running()
    first.__enter__()
    queue(outbox, "a", one)
    wait_until(lambda: one.delivered)
    with Dispatcher(outbox, [other]).running():
        queue(outbox, "b", one)
        wait_until(lambda: len(one.delivered) == 2)
        first.__exit__(None, None, None)
        queue(outbox, "c", one)
        wait_until(lambda: other.delivered)
    assert (one.ids(), other.ids()) == (["a", "b"], ["c"])


def _dispatch_many(url, path, number, start):
    outbox, channel = Outbox(url), FileChannel(path)
    dispatcher = Dispatcher(outbox, [channel])
    start.wait()
    with dispatcher.running():
        for page in range(10):
            queue(outbox, [f"{number}-{page}-{row}" for row in range(20)], channel)


def test_processes_that_share_an_outbox_send_each_alert_once(outbox, tmp_path):
    path = tmp_path / "alerts.jsonl"
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    senders = [
        context.Process(target=_dispatch_many, args=(outbox.url, path, n, start)) for n in range(3)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    # Whoever ended last may have found another one sending.
    with Dispatcher(outbox, [FileChannel(path)]).running():
        pass
    lines = path.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 600
    assert outbox.counts() == {f"file:{path}": Counts(0, 600)}


class _Receiver(Postman):
    """Write each received id to a file; die if another file asks for it."""

    def __init__(self, path: Path):
        super().__init__("receiver", Policy(most=1))
        self.path = path

    def send(self, message):
        with self.path.open("a") as file:
            file.write(f"{message.delivery_id} {message.alerts[0].transaction_id}\n")
        if len(self.path.read_text().splitlines()) == 3:
            os._exit(9)


def _receive(url, path):
    with Dispatcher(Outbox(url), [_Receiver(path)]).running():
        time.sleep(0.1)


def test_a_message_accepted_before_a_kill_is_repeated_with_the_same_id(outbox, tmp_path):
    path = tmp_path / "taken"
    queue(outbox, "abcdef", _Receiver(path))
    context = multiprocessing.get_context("spawn")
    for code in (9, 0):
        process = context.Process(target=_receive, args=(outbox.url, path))
        process.start()
        process.join()
        assert process.exitcode == code
    accepted = [line.split() for line in path.read_text().splitlines()]
    names = dict(accepted)
    assert sorted(names.values()) == list("abcdef")
    # Those of the last moment before the kill, and no other.
    again = {key for key, times in Counter(key for key, _ in accepted).items() if times == 2}
    assert {names[key] for key in again} <= set("abc")
    assert "c" in {names[key] for key in again}
    assert outbox.counts() == {"receiver": Counts(0, 6)}


def test_a_lost_database_is_waited_for(tmp_path, caplog):
    outbox, postman = Outbox(sqlite_url(tmp_path / "outbox.db")), Postman()
    outbox.begin()
    with caplog.at_level(logging.INFO), Dispatcher(outbox, [postman]).running():
        queue(outbox, "a", postman)
        wait_until(lambda: postman.delivered)
        with writing(outbox.url) as connection:
            connection.exec_driver_sql("ALTER TABLE alerts RENAME TO gone")
        wait_until(lambda: "cannot be used now" in caplog.text)
        with writing(outbox.url) as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO alerts")
        queue(outbox, "b", postman)
        wait_until(lambda: len(postman.delivered) == 2)
    assert "the outbox is back" in caplog.text
    assert postman.ids() == ["a", "b"]


def test_a_restarted_server_loses_no_alert_and_repeats_none(own_postgres):
    name = f"restarts{os.getpid()}"
    outbox, postman = Outbox(own_postgres.create_database(name)), Postman(policy=Policy(most=1))
    outbox.begin()
    with Dispatcher(outbox, [postman]).running():
        for round_ in range(3):
            queue(outbox, [f"{round_}-{row}" for row in range(30)], postman)
            wait_until(lambda round_=round_: len(postman.delivered) > 30 * round_ + 5)
            own_postgres.restart()
        wait_until(lambda: len(postman.delivered) >= 90)
    report = [alert.transaction_id for message in postman.delivered for alert in message.alerts]
    assert len(report) == len(set(report)) == 90
    assert outbox.counts() == {"postman": Counts(0, 90)}
