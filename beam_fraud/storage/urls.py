"""Places as options name them: a path on this machine, or a URL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from beam_fraud.errors import Code, UsageError

#: A single letter before the colon is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Place:
    """A file or a directory, on this machine or at a URL of Beam's file systems.

    Example:
      >>> [Place.parse(text).local for text in ("gs://bucket/x.parquet", "/data/x.parquet")]
      [None, PosixPath('/data/x.parquet')]
    """

    #: The absolute path, or the URL: it means the same in every worker process.
    name: str
    #: The absolute path on this machine; None at a URL.
    local: Path | None
    #: What the option says; "" if no option names the place.
    text: str = field(default="", compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that `text`, the value of an option, names."""
        if _URL.match(text) is not None:
            return cls(text, None, text)
        path = absolute(Path(text))
        return cls(str(path), path, text)

    @classmethod
    def parse_all(cls, texts: Iterable[str]) -> tuple[Place, ...]:
        """Return the places that several texts name."""
        return tuple(map(cls.parse, texts))

    @classmethod
    def of(cls, place: str | Path | Place) -> Place:
        """Return the place of an argument of the public API."""
        return place if isinstance(place, Place) else cls.parse(str(place))

    @classmethod
    def at(cls, path: Path) -> Place:
        """Return the place of an absolute path."""
        return cls(str(path), path)

    @property
    def shown(self) -> str:
        """The place as the option names it, for messages."""
        return self.text or self.name

    def __str__(self) -> str:
        """Return the absolute path, or the URL."""
        return self.name


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
    problem = f"unknown scheme {scheme!r}" if colon else "no scheme"
    nearest = sorted(forms, key=lambda known: -SequenceMatcher(None, scheme, known).ratio())
    raise UsageError(
        f"{option}: {problem} (known: {', '.join(forms[known] for known in nearest)})",
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
