"""Text for people while a line on the terminal is redrawn."""

from __future__ import annotations

import io
import sys


class AboveLine(io.TextIOBase):
    """Writes to what standard error is at that moment, so that lines go above the redrawn one."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        """That of standard error."""
        return sys.stderr.encoding or "utf-8"

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Write whole lines."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush standard error."""
        sys.stderr.flush()
