"""Limits of a server: sizes, numbers and times of requests."""

from __future__ import annotations

from dataclasses import dataclass, fields

from beam_fraud.errors import Code, UsageError


@dataclass(frozen=True)
class Limits:
    """Limits of a client; a request that exceeds one is refused and has no effect.

    Raises:
      UsageError: a limit is not positive.
    """

    #: Bytes of a body.
    body_bytes: int = 4 * 1024 * 1024
    #: Rows of a body, an array or an Arrow stream.
    rows: int = 10_000
    #: Predictions that are answered at a time.
    concurrency: int = 512
    #: Open connections.
    connections: int = 2_000
    #: Bytes of the request line and headers of a request.
    head_bytes: int = 16 * 1024
    #: Seconds from the first byte of a request, or from the connection, to the end of its headers.
    head_seconds: float = 5.0
    #: Seconds from the end of the headers to the end of the body.
    body_seconds: float = 10.0
    #: Seconds that an idle connection is kept open.
    idle_seconds: float = 75.0
    #: Seconds that an answer may wait for a client that does not read it.
    write_seconds: float = 10.0
    #: Seconds that requests have to end after a signal to stop.
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check that each is positive."""
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:
                raise UsageError(
                    f"limit {limit.name} must be above 0, not {getattr(self, limit.name)}",
                    Code.OPTION_VALUE,
                )
