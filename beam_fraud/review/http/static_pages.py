"""Files of the pages, and whether the server lives."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from beam_fraud.review.errors import MissingError
from beam_fraud.review.http.templating import MEDIA, static_file
from beam_fraud.review.http.visit import Visit


def static(visit: Visit) -> Response:
    """Return a file; its address names its content, so a browser keeps it."""
    name = visit.parts["name"]
    if name not in MEDIA:
        raise missing_page()
    kept = "public, max-age=31536000, immutable"
    return Response(static_file(name), media_type=MEDIA[name], headers={"cache-control": kept})


def healthz(visit: Visit) -> Response:
    """Return that the server answers and reaches its database."""
    visit.site.read(lambda connection: connection.exec_driver_sql("SELECT 1"))
    return PlainTextResponse("ok\n")


def missing_page() -> MissingError:
    """Return the error for an address without a page."""
    return MissingError("There is no such page.")
