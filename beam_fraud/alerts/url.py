"""A channel as the user writes it: `--alert URL`."""

from __future__ import annotations

from typing import TextIO

from beam_fraud.alerts.channel import Channel
from beam_fraud.alerts.console import ConsoleChannel
from beam_fraud.alerts.file import FileChannel
from beam_fraud.errors import UsageError
from beam_fraud.urls import local_path, split_scheme

_FORMS = {"console": "console:", "file": "file:FILE"}


def parse_channel(url: str, console: TextIO) -> Channel:
    """The channel that `url` names; nothing is touched yet.

    Args:
      url: `console:` or `file:FILE`.
      console: the stream that `console:` writes to.

    Raises:
      UsageError: the scheme is unknown, or no file is named.
    """
    scheme, rest = split_scheme("--alert", url, _FORMS)
    if scheme == "file":
        return FileChannel(local_path("--alert", rest, _FORMS[scheme]))
    if rest:
        raise UsageError(f"--alert: {_FORMS[scheme]} takes nothing after the colon")
    return ConsoleChannel(console)
