"""Options with URLs: their scheme and local path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path

from beam_fraud.errors import Code, UsageError

#: A single letter before the colon is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Return whether `path` is a URL for Beam's file systems.

    Example:
      >>> is_url("gs://bucket/x.parquet"), is_url("data/x.parquet")
      (True, False)
    """
    return _URL.match(path) is not None


def split_scheme(option: str, url: str, forms: Mapping[str, str]) -> tuple[str, str]:
    """Split `url` at its scheme.

    Args:
      option: the option with the URL, for messages.
      url: such as `parquet:flagged`.
      forms: known scheme to its form, such as `parquet:DIR`.

    Returns:
      The scheme, and the text after its colon.

    Raises:
      UsageError: the scheme is unknown. The message shows the scheme alone: the rest may hold a
        password.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme in forms:
        return scheme, rest
    said = f"unknown scheme {scheme!r}" if colon else "no scheme"
    nearest = sorted(forms, key=lambda known: -SequenceMatcher(None, scheme, known).ratio())
    raise UsageError(
        f"{option}: {said} (known: {', '.join(forms[known] for known in nearest)})",
        Code.URL_UNUSABLE,
    )


def local_path(option: str, rest: str, form: str) -> Path:
    """Return the absolute path after a scheme's colon: `name`, `/name` or `///name`.

    Raises:
      UsageError: the path is missing, or follows a host.
    """
    path = rest.removeprefix("//")
    if not path or (path != rest and not path.startswith("/")):
        raise UsageError(f"{option}: no local path given, write {form}", Code.URL_UNUSABLE)
    return absolute(Path(path))


def absolute(path: Path) -> Path:
    """Return the absolute `path`, which means the same in every worker process."""
    return Path.cwd() / path.expanduser()
