import io

import pytest

from beam_fraud.alerts.console import ConsoleChannel
from beam_fraud.alerts.file import FileChannel
from beam_fraud.alerts.url import parse_channel
from beam_fraud.errors import UsageError


def test_the_console_is_the_callers():
    stream = io.StringIO()
    assert parse_channel("console:", stream) == ConsoleChannel(stream)


def test_a_file_is_absolute_from_then_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    channel = parse_channel("file:alerts.jsonl", io.StringIO())
    assert channel == FileChannel(tmp_path / "alerts.jsonl")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("consle:", "unknown scheme 'consle' (known: console:, file:FILE, "),
        ("fil:x", "unknown scheme 'fil' (known: file:FILE, "),
        ("console", "no scheme"),
        ("console:x", "nothing after the colon"),
        ("file:", "file:FILE"),
        ("file://host/x", "file:FILE"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url, said):
    with pytest.raises(UsageError) as refused:
        parse_channel(url, io.StringIO())
    assert said in str(refused.value)
    assert "--alert" in str(refused.value)


def test_a_password_is_not_repeated():
    with pytest.raises(UsageError) as refused:
        parse_channel("ftp://me:hunter2@host/", io.StringIO())
    assert "hunter2" not in str(refused.value)
