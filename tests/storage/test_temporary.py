"""Temporary directories outlive no run: the next one removes those of a killed process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from beam_fraud.storage.temporary import temporary_directory

HOLD = """
from beam_fraud.storage.temporary import temporary_directory
with temporary_directory() as directory:
    (directory / "rows.parquet").write_text("rows")
    print(directory, flush=True)
    input()
"""


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    elsewhere = tmp_path / "kept"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / "beam-fraud-held-link").symlink_to(elsewhere)
    call = [sys.executable, "-c", HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(call, **pipes) as other:  # type: ignore[call-overload]
        left = Path(other.stdout.readline().strip())
        with temporary_directory() as own:
            assert left.parent == own.parent == tmp_path
            assert (left / "rows.parquet").exists()
            other.kill()
            other.wait()
            with temporary_directory():
                assert not left.exists()
                assert own.exists()
        assert not own.exists()
    assert (elsewhere / "file").exists()
