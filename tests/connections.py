"""Connections of this process to databases that tests replace and drop."""

from __future__ import annotations

from beam_fraud.storage.database.engines import engine, reading_engine


def close_connections(url: str) -> None:
    """Close the connections that no transaction uses, those that only read too."""
    engine(url).dispose()
    reading_engine(url).dispose()
