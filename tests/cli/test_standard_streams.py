"""Standard streams that are full, closed or of a small encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import demo

FULL = "/dev/full"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which $P is this Python."""
    return subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "P": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not Path(FULL).exists(), reason="no such device here")
@pytest.mark.parametrize("args", ["--help", "score --help", "--version"])
def test_unprintable_output_is_one_line(args: str) -> None:
    done = shell(f'"$P" -m beam_fraud {args} > {FULL}')
    message = "beam-fraud: standard output cannot be written (No space left on device) [BF221]\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.skipif(not Path(FULL).exists(), reason="no such device here")
def test_a_result_that_cannot_be_printed_is_one_line() -> None:
    program = "from beam_fraud.cli import *; sys.exit(outcome.print_result('x' * 99_999))"
    done = shell(f'"$P" -c "{program}" > {FULL}')
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_without_standard_error_a_command_works() -> None:
    program = (
        "import sys; from beam_fraud.cli import main;"
        "from beam_fraud.cli.terminal.worker_output import worker_output_logged as quiet;"
        "main(['--version']); quiet().__enter__(); print('a message', file=sys.stderr)"
    )
    done = shell(f'"$P" -c "{program}" 2>&-')
    assert done.returncode == 0
    assert done.stdout.startswith("beam-fraud ")


def test_characters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(demo, "run", lambda options: {})
    monkeypatch.setattr(demo, "render", lambda result: "0.24 µs a row")
    assert main(["demo"]) == 0
    assert written.getvalue() == b"0.24 \\xb5s a row\n"
