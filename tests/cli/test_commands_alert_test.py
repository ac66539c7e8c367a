"""`beam-fraud alerts test` reports in one line whether a channel works."""

import json

import pytest

from beam_fraud.alerts.pseudonym import KEY_VARIABLE
from beam_fraud.cli import main
from tests.smtp_server import SmtpServer


@pytest.mark.parametrize("group", ["alerts", "alert"])
def test_one_sample_alert_arrives(tmp_path, capsys, group):
    path = tmp_path / "alerts.jsonl"
    assert main([group, "test", f"file:{path}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"sent to file:{path} in 0.")
    assert out.count("\n") == 1
    [line] = path.read_text().splitlines()
    record = json.loads(line)
    assert record["kind"] == "test"
    assert "made up" in record["text"]
    assert record["delivery_id"] in out


def test_a_failing_channel_is_reported_and_does_not_stop_the_others(tmp_path, capsys):
    server = SmtpServer()
    url = f"smtp://127.0.0.1:{server.port}/?from=a@b.c&to=d@e.f"
    assert main(["alerts", "test", url, f"file:{tmp_path / 'x'}"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert "Connection refused" in line
    assert f"sent to file:{tmp_path / 'x'}" in line


def test_a_wrong_url_is_a_wrong_call_and_sends_nothing(tmp_path, capsys):
    assert main(["alerts", "test", f"file:{tmp_path / 'x'}", "smpt://h/"]) == 2
    assert "unknown scheme 'smpt'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_result_is_json_with_the_option(tmp_path, capsys):
    assert main(["alerts", "test", f"file:{tmp_path / 'x'}", "--json"]) == 0
    [sent] = json.loads(capsys.readouterr().out)["channels"]
    assert sent["channel"] == f"file:{tmp_path / 'x'}"


def test_pseudonyms_with_the_option(tmp_path, capsys, monkeypatch):
    call = ["alerts", "test", f"file:{tmp_path / 'x'}", "--pseudonymise"]
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert main(call) == 1
    assert KEY_VARIABLE in capsys.readouterr().err
    monkeypatch.setenv(KEY_VARIABLE, "k" * 16)
    assert main(call) == 0
    assert "test-account" not in (tmp_path / "x").read_text()
