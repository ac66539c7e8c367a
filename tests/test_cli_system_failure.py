"""What the operating system refuses is a line that says what to do, and never an internal error."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.commandline import failure, log

#: Numbers that a user can cause.
NUMBERS = (
    *("EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "ENOENT", "ENAMETOOLONG", "ELOOP"),
    *("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EADDRINUSE"),
    *("ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "EAGAIN", "ESTALE", "EXDEV"),
)


def told(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command ends with."""
    log.configure()
    capsys.readouterr()
    assert failure.report(error) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "internal error" not in said
    assert "; " in said, "nothing says what to do"
    return said.removeprefix("beam-fraud: ").rstrip("\n")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_the_system(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(errno, name)
    said = told(OSError(number, os.strerror(number), "/data/x"), capsys)
    assert said.startswith(f"/data/x: {os.strerror(number)}; ")


def step(kind: str) -> None:
    """Fails in a way that a user can cause."""
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
def test_here_and_in_a_step(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((OSError, MemoryError)) as here:
        step(kind)
    assert told(here.value, capsys).startswith(SAID[kind])
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    _ = pipeline | beam.Create([kind]) | "Write it" >> beam.Map(step)
    with pytest.raises(Exception) as there:  # whatever the runner makes of it
        pipeline.run()
    assert told(there.value, capsys).startswith(f"step 'Write it': {SAID[kind]}")


@pytest.mark.parametrize(
    ("last", "said"),
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
def test_a_text_of_another_process(
    last: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "java.lang.RuntimeException: Error received from SDK harness for instruction 7: "
        'Traceback (most recent call last):\n  File "a.py", line 7, in step\n    write()\n'
        f"{last} [while running 'Scores/Write']\n\n\tat org.apache.flink.Task.run(Task.java:1)\n"
    )
    assert told(RuntimeError(text), capsys).startswith(f"step 'Scores/Write': {said}")


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
def test_kin(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(error, capsys)


def test_a_bug_stays_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    assert failure.report(KeyError("errno 28")) == 1
    assert "internal error: KeyError" in capsys.readouterr().err
