"""The live page of the analysts: figures that a stream or server wrote, and what people found."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
from starlette.responses import Response

from beam_fraud.monitoring.live_figures import LIVE, LiveFigures
from beam_fraud.review.figures import precision
from beam_fraud.review.http.visit import Visit
from beam_fraud.serve.http.live_page import REFRESH_SECONDS, Precision, live_parts

#: Days of decisions that the page counts.
_DAYS = 30


def live(visit: Visit) -> Response:
    """Show the figures, which load themselves again."""
    since = visit.now - timedelta(days=_DAYS)
    table = visit.site.read(lambda connection: precision(connection, since, visit.now, "model"))
    quality = [
        Precision(
            row["name"], row["fraud"], row["genuine"], row["precision"], row["low"], row["high"]
        )
        for row in table.to_pylist()
    ]
    parts = live_parts(_read(visit.site.live), quality, visit.now)
    return visit.page(
        "live", parts=parts, seconds=REFRESH_SECONDS, watched=visit.site.live is not None
    )


def _read(directory: Path | None) -> LiveFigures | None:
    """Return the last figures; None without any, or of another version."""
    if directory is None:
        return None
    try:
        return msgspec.json.decode((directory / LIVE).read_bytes(), type=LiveFigures)
    except (OSError, msgspec.MsgspecError):
        return None
