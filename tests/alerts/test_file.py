import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.errors import FraudError
from tests.flagged import alerts_of, flagged_batch, message_of
from tests.full_disk import full_disk


def _alerts(*ids, account="a"):
    return message_of(alerts_of(flagged_batch(ids, account=account), ["file:x"]))


def _ids(path):
    return [json.loads(line)["transaction_id"] for line in path.read_text().splitlines()]


def test_a_line_holds_the_whole_alert(tmp_path):
    channel = FileChannel(tmp_path / "alerts.jsonl")
    channel.send(_alerts("t0"))
    line = json.loads(channel.path.read_text())
    assert line["event_time"] == "2024-05-01T12:00:00.000005Z"
    [reason] = line["reasons"]
    assert (reason["feature"], reason["value"], reason["contribution"]) == ("V14", -3.5, 0.4)
    assert line["merchant_id"] is None
    assert line["rules"] == ["large", "ünusual"]


def test_a_line_has_only_the_selected_fields(tmp_path):
    channel = FileChannel(tmp_path / "alerts.jsonl", fields=("score", "transaction_id"))
    channel.send(_alerts("t0"))
    assert channel.path.read_text() == '{"score":0.9,"transaction_id":"t0"}\n'


def test_earlier_lines_stay(tmp_path):
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"transaction_id": "before"}\n')
    FileChannel(path).check()
    FileChannel(path).send(_alerts("after"))
    assert _ids(path) == ["before", "after"]


def test_a_torn_last_line_does_not_damage_the_next_alert(tmp_path):
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"transaction_id": "to')
    FileChannel(path).send(_alerts("whole"))
    assert json.loads(path.read_text().splitlines()[-1])["transaction_id"] == "whole"


def _send_many(path, name, start):
    start.wait()
    for block in range(25):
        long_name = "x" * 20_000
        FileChannel(path).send(
            _alerts(*(f"{name}{block}-{i}" for i in range(8)), account=long_name)
        )


def test_two_processes_append_whole_lines(tmp_path):
    path = tmp_path / "alerts.jsonl"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    senders = [context.Process(target=_send_many, args=(path, n, start)) for n in ("p", "q")]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    ids = _ids(path)
    assert len(ids) == len(set(ids)) == 2 * 25 * 8


def test_a_disk_that_fills_up_leaves_no_part_of_a_batch(tmp_path):
    path = tmp_path / "alerts.jsonl"
    FileChannel(path).send(_alerts("first"))
    size = path.stat().st_size
    if (child := os.fork()) == 0:
        # A limit on the file's size stands for the full disk: the kernel takes what fits.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with full_disk(size + 100):
                FileChannel(path).send(_alerts("a", "b", "c"))
        except FraudError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert path.stat().st_size == size


def test_devices_accept_alerts(tmp_path):
    channel = FileChannel(Path("/dev/null"))
    channel.check()
    channel.send(_alerts("t0"))


def test_a_name_that_is_too_long_is_refused_before_the_run(tmp_path):
    with pytest.raises(FraudError, match="File name too long"):
        FileChannel(tmp_path / ("x" * 300)).check()


def test_a_directory_by_that_name_is_refused_before_the_run(tmp_path):
    with pytest.raises(FraudError, match="Is a directory"):
        FileChannel(tmp_path).check()


def test_a_file_on_the_way_is_refused_before_the_run(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(FraudError, match="x is a file"):
        FileChannel(tmp_path / "x" / "alerts.jsonl").check()
