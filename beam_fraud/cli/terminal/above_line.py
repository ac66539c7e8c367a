"""Write text above a redrawn line of the terminal."""

from __future__ import annotations

import io
import sys


class AboveLine(io.TextIOBase):
    """Write to the current standard error, so that lines go above the redrawn one."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        """That of standard error."""
        return sys.stderr.encoding or "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Write whole lines."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
