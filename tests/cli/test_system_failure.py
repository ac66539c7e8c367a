"""A refusal of the operating system ends as a line with a fix, never as an internal error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.cli import main
from beam_fraud.cli.terminal import log, outcome
from tests.refused_calls import Call, Ended

#: Numbers that a user can cause.
NUMBERS = (
    *("EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "ENOENT", "ENAMETOOLONG", "ELOOP"),
    *("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EADDRINUSE"),
    *("ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "EAGAIN", "ESTALE", "EXDEV"),
)


def told(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line that ends the command."""
    log.configure()
    capsys.readouterr()
    assert outcome.report(error) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "internal error" not in message
    assert "; " in message, "nothing says what to do"
    return message.removeprefix("beam-fraud: ").rstrip("\n")


@pytest.mark.parametrize("name", NUMBERS)
def test_errors_with_an_errno(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(errno, name)
    message = told(OSError(number, os.strerror(number), "/data/x"), capsys)
    assert message.startswith(f"/data/x: {os.strerror(number)}; ")


def step(kind: str) -> None:
    """Fail in a way that a user can cause."""
    if kind == "permission":
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/x")
    if kind == "full":
        with pa.OSFile("/dev/full", "wb") as file:
            file.write(b"x")
    if kind == "absent":
        pa.OSFile("/data/absent", "rb")
    if kind == "rename":
        Path("/data/absent").rename("/data/y")
    if kind == "memory":
        np.zeros(1 << 55)
    if kind == "arrow's memory":
        pa.allocate_buffer(1 << 60)


SAID = {
    "permission": "/data/x: Permission denied; change its permissions",
    "full": "No space left on device; make room",
    "absent": "/data/absent: No such file or directory; put it back",
    "rename": "/data/absent to /data/y: No such file or directory; put it back",
    "memory": "there is not enough memory; free some",
    "arrow's memory": "there is not enough memory; free some",
}


@pytest.mark.parametrize("kind", SAID)
def test_errors_here_and_in_a_step(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((OSError, MemoryError)) as here:
        step(kind)
    assert told(here.value, capsys).startswith(SAID[kind])
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    _ = pipeline | beam.Create([kind]) | "Write it" >> beam.Map(step)
    with pytest.raises(Exception) as there:  # whatever the runner makes of it
        pipeline.run()
    assert told(there.value, capsys).startswith(f"step 'Write it': {SAID[kind]}")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("OSError: [Errno 28] No space left on device", "No space left on device; make room"),
        (
            "PermissionError: [Errno 13] Permission denied: '/data/x'",
            "/data/x: Permission denied; change",
        ),
        ("RuntimeError: can't start new thread", "no more threads can be started; allow"),
        ("MemoryError", "there is not enough memory"),
        (
            "sqlite3.OperationalError: unable to open database file",
            "a database: unable to open database file; ",
        ),
    ],
)
def test_errors_as_text_of_another_process(
    last: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "java.lang.RuntimeException: Error received from SDK harness for instruction 7: "
        'Traceback (most recent call last):\n  File "a.py", line 7, in step\n    write()\n'
        f"{last} [while running 'Scores/Write']\n\n\tat org.apache.flink.Task.run(Task.java:1)\n"
    )
    assert told(RuntimeError(text), capsys).startswith(f"step 'Scores/Write': {message}")


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(-2, "Name or service not known"),
        sqlite3.OperationalError("database or disk is full"),
        BrokenProcessPool("A process in the process pool was terminated abruptly"),
        OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"),
        RuntimeError("can't start new thread"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_related_errors(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(error, capsys)


def test_a_bug_stays_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    assert outcome.report(KeyError("errno 28")) == 1
    assert "internal error: KeyError" in capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of commands, and places without permission to read or write."""
    data = tmp_path_factory.mktemp("data")
    table = data / "tx.parquet"
    simulated = ["--days", "20", "--accounts", "50", "--merchants", "50", "--fraud-rate", "0.03"]
    assert main(["simulate", "--out", str(table), *simulated]) == 0
    call = ["train", str(table), "--schema", "handbook", "--model", "logistic"]
    assert main([*call, "--out", str(data / "model")]) == 0
    call = ["score", str(table), "--model", str(data / "model"), "--out", str(data / "scored")]
    assert main([*call, "--sink", f"sqlite:///{data}/cards.db"]) == 0
    (data / "rules.toml").write_text(
        '[[rule]]\nname = "large"\nwhen = "amount > 150"\ndecision = "review"\n'
    )
    (data / "file").write_text("in the way")
    (data / "inbox").mkdir()
    (data / "sealed").mkdir()
    for name in ("tx.parquet", "rules.toml", "cards.db"):
        shutil.copy(data / name, data / "sealed")
    for name in ("model", "scored"):
        shutil.copytree(data / name, data / "sealed" / name)
    for entry in (data / "sealed").rglob("*"):
        if entry.is_file():
            entry.chmod(0)
    (data / "sealed").chmod(0o555)
    return data


Calls = Callable[[list[Call]], list[Ended]]


@pytest.fixture(scope="module")
def ended() -> Iterator[Calls]:
    """Run calls without root's right to read and write everything."""
    without = []
    if os.geteuid() == 0:
        dropped = "-dac_override,-dac_read_search"
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root may read and write everything, and setpriv is not here")
        without = [setpriv, "--bounding-set", dropped, "--inh-caps", dropped]

    command = [*without, sys.executable, "-m", "tests.refused_calls"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, said = process.stdin, process.stdout

        def run(calls: list[Call]) -> list[Ended]:
            print(json.dumps(calls), file=asked, flush=True)
            result: list[Ended] = json.loads(said.readline())
            return result

        yield run
        asked.close()
        assert process.wait() == 0


def calls_on(data: Path, place: str) -> list[list[str]]:
    """Return a call of every command with a refused place."""
    there, rows, model = f"{data}/{place}", f"{data}/tx.parquet", f"{data}/model"
    database, schema, out = f"sqlite:///{there}/cards.db", ["--schema", "handbook"], f"{data}/out"
    on = ["--model", model]
    return [
        ["score", f"{there}/tx.parquet", *on, "--out", out],
        ["score", rows, "--history", f"{there}/tx.parquet", *on, "--out", out],
        ["score", rows, "--model", f"{there}/model", "--out", out],
        ["score", rows, *on, "--rules", f"{there}/rules.toml", "--out", out],
        ["score", rows, *on, "--out", f"{there}/new"],
        ["score", rows, *on, "--out", out, "--sink", database],
        ["score", rows, *on, "--out", out, "--sink", f"parquet:{there}/new"],
        ["score", rows, *on, "--out", out, "--alert", f"file:{there}/alerts.jsonl"],
        ["features", f"{there}/tx.parquet", *schema, "--out", out],
        ["features", rows, *schema, "--out", f"{there}/new"],
        ["train", f"{there}/tx.parquet", *schema, "--model", "logistic", "--out", out],
        ["train", rows, *schema, "--model", "logistic", "--out", f"{there}/new"],
        ["evaluate", rows, "--model", f"{there}/model"],
        ["evaluate", rows, *on, "--resamples", "20", "--out", f"{there}/new.html"],
        ["evaluate", rows, *on, "--resamples", "20", "--png", f"{there}/new"],
        ["explore", f"{there}/tx.parquet", *schema, "--out", f"{data}/page.html"],
        ["explore", rows, *schema, "--out", f"{there}/page.html"],
        ["simulate", "--days", "1", "--out", f"{there}/new.parquet"],
        ["simulate", "--days", "1", "--out", f"{there}/new.csv"],
        ["simulate", "--days", "1", "--out", f"{data}/a.csv", "--log-file", f"{there}/new.log"],
        ["demo", "--out", f"{there}/new"],
        ["stream", "--watch", f"{there}/inbox", *on, "--out", out, "--until-idle", "1"],
        ["stream", "--watch", f"{data}/inbox", *on, "--out", f"{there}/new", "--until-idle", "1"],
        ["erase", "--account", "1", "--yes", "--out", f"{there}/scored"],
        ["erase", "--account", "1", "--yes", "--sink", database],
        ["dead-letters", "list", f"{there}/scored"],
        ["dead-letters", "replay", f"{there}/scored", *on, "--out", out],
        ["alerts", "list", "--sink", database],
        ["alerts", "snooze", "--account", "1", "--for", "1h", "--sink", database],
        ["alerts", "resend", "--sink", database, "--alert", "console:"],
        ["alerts", "test", f"file:{there}/alerts.jsonl"],
        ["rules", "check", f"{there}/rules.toml", "--on", rows, *schema],
        ["rules", "check", f"{data}/rules.toml", "--on", f"{there}/tx.parquet", *schema],
        ["models", "show", f"{there}/model"],
        ["models", "compare", f"{there}/model", model],
        ["models", "export", model, "--onnx", f"{there}/new.onnx"],
        ["models", "import", f"{there}/model/model.joblib", *schema, "--trust", "--out", out],
        ["doctor", "--model", f"{there}/model"],
        ["doctor", "--out", f"{there}/new"],
    ]


@pytest.mark.parametrize(
    "place", ["sealed", pytest.param("file", marks=pytest.mark.soak), "n" * 300]
)
def test_every_command_names_the_refused_place(data: Path, ended: Calls, place: str) -> None:
    calls = [Call(args=args, limits={}) for args in calls_on(data, place)]
    for call, came in zip(calls, ended(calls), strict=True):
        shown = f"{call['args']}\n{came['said'][-2_000:]}"
        assert came["exit_code"] in (1, 2), shown
        assert f"{data}/{place}" in came["said"], f"does not name the place\n{shown}"
        assert "internal error" not in came["said"], shown
        assert "Traceback" not in came["said"], shown
        assert "beam-fraud: " in came["said"] or "failed" in came["said"], shown


def test_full_disks_and_few_files_are_one_line(data: Path, ended: Calls) -> None:
    rows, model, out = f"{data}/tx.parquet", f"{data}/model", f"{data}/refused"
    schema = ["--schema", "handbook"]
    commands = [
        ["score", rows, "--model", model, "--out", out, "--sink", f"sqlite:///{out}.db"],
        ["features", rows, *schema, "--out", out],
        ["train", rows, *schema, "--model", "logistic", "--out", out],
        ["train", rows, *schema, "--model", "logistic", "--tune", "2", "--out", f"{out}-tuned"],
        ["explore", rows, *schema, "--out", f"{out}.html"],
        ["simulate", "--days", "1", "--out", f"{out}.parquet"],
        ["stream", "--watch", f"{data}/inbox", "--model", model, "--out", out],
    ]
    calls = [
        Call(args=args, limits=limits)
        for args in commands
        for limits in ({"RLIMIT_FSIZE": 64}, {"RLIMIT_FSIZE": 9_000}, {"RLIMIT_NOFILE": 14})
        # With what it has open before, it would run for ever.
        if args[0] != "stream" or "RLIMIT_FSIZE" in limits
    ]
    for call, came in zip(calls, ended(calls), strict=True):
        shown = f"{call}\n{came['said'][-2_000:]}"
        assert came["exit_code"] in (0, 1), shown
        assert "internal error" not in came["said"], shown
        assert "trying again" not in came["said"], f"waited for\n{shown}"
        assert came["exit_code"] == 0 or "beam-fraud: " in came["said"], shown
