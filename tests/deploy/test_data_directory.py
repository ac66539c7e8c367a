"""A server's directory and port numbers are checked before it starts."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from deploy.data_directory import held
from deploy.ports import count, port


def test_one_server_has_a_directory_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(FraudError, match="another server has it"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_directory_that_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FraudError, match="is a file, give a directory"), held(tmp_path / "file/x"):
        pass


@pytest.mark.parametrize("value", ["0", "65536", "-1", "x", ""])
def test_a_port_is_a_valid_number(value: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        port(value)


def test_a_count_is_at_least_one() -> None:
    assert (count("2"), port("65535")) == (2, 65_535)
    with pytest.raises(argparse.ArgumentTypeError):
        count("0")
