"""Standard error of worker processes."""

import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys
from beam_fraud.cli.terminal import log
from beam_fraud.cli.terminal.worker_output import worker_output_logged
log.configure(sys.argv[1])
with worker_output_logged():
    print("mine", file=sys.stderr)
    subprocess.run("echo theirs >&2", shell=True, check=True)
    print("mine too", file=sys.stderr)
print("mine again", file=sys.stderr)
subprocess.run("echo theirs again >&2", shell=True, check=True)
"""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_output_of_workers_is_logged_at_level_debug_only(level: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, level], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    logged = [line for line in lines if "worker_output: theirs" in line]
    assert len(logged) == (level == "debug")
    others = [line for line in lines if line not in logged]
    assert others == ["mine", "mine too", "mine again", "theirs again"]


def test_a_failure_restores_standard_error() -> None:
    program = PROGRAM.replace('print("mine too", file=sys.stderr)', "raise SystemExit('gone')")
    done = subprocess.run([sys.executable, "-c", program, "info"], capture_output=True, text=True)
    assert done.stderr.splitlines() == ["mine", "gone"]
