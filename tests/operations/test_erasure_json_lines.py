"""Erasing removes an account's alerts from a file of JSON lines, and no others."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path

import pytest

from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.message import Message
from beam_fraud.errors import FraudError
from tests.erasing import GONE, NOW, STAYS, run
from tests.flagged import alerts_of, flagged_batch


def test_a_file_of_alerts_keeps_its_other_lines_and_permissions(tmp_path: Path) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_text(f"not json, of {GONE}\n" + '{"alert_id": "2", "account_id": "z"}\n')
    file.chmod(0o640)
    assert run(files=(str(file),))["total"] == 1
    assert file.read_text() == '{"alert_id": "2", "account_id": "z"}\n'
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_without_json_lines_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "transactions.csv"
    file.write_text(f"id,fraud\n{GONE},0\n{STAYS},1\n")
    before = file.read_bytes()
    with pytest.raises(FraudError, match=r"^--file .*transactions\.csv: holds no JSON lines; give"):
        run(files=(str(file),))
    assert file.read_bytes() == before
    file.write_text("\n")
    assert run(files=(str(file),))["total"] == 0


@pytest.mark.parametrize("first", ["", '{"alert_id": "1", "account_id": "z"}\n'])
def test_a_line_that_nests_too_deeply_is_text(tmp_path: Path, first: str) -> None:
    file = tmp_path / "alerts.jsonl"
    deep = "[" * 10_000
    file.write_text(f'{first}{deep}"{GONE}"\n{deep}"{STAYS}"\n{{}}\n')
    assert run(files=(str(file),))["total"] == 1
    assert file.read_text() == f'{first}{deep}"{STAYS}"\n{{}}\n'


def test_only_the_alerts_of_the_account_leave_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "alerts.jsonl"
    digest = {"kind": "digest", "total": 9, "alerts": [{"account_id": GONE}, {"account_id": STAYS}]}
    chosen = {"kind": "digest", "alerts": [{"amount": 1, "transaction_id": GONE}]}
    file.write_text("".join(json.dumps(line) + "\n" for line in (digest, chosen)))
    assert run(files=(str(file),))["total"] == 2
    first, second = map(json.loads, file.read_text().splitlines())
    assert first == digest | {"alerts": [{"account_id": STAYS}]}
    assert second["alerts"] == []


def test_an_alert_during_the_erasure_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text("old\n")
    channel = FileChannel(path)
    alerts = tuple(alerts_of(flagged_batch(["t1"]), [channel.name]))
    message = Message("d", "alerts", NOW, alerts, 1)
    with open(path, "rb") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        sender = threading.Thread(target=channel.send, args=(message,))
        sender.start()
        # As an erasure does while the sender waits for the lock, or before it opens the file.
        (tmp_path / "new").write_text("new\n")
        (tmp_path / "new").rename(path)
    sender.join(30)
    first, second = path.read_text().splitlines()
    assert (first, json.loads(second)["transaction_id"]) == ("new", "t1")
