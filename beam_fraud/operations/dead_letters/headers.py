"""Headers of CSV files, stored beside their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.csv import header_of
from beam_fraud.sources.segment import InputFile
from beam_fraud.storage.staging import HEADERS


def note_headers(directory: Path, files: Sequence[InputFile]) -> None:
    """Write the headers of the CSV files among `files` into a directory of dead letters.

    Files with equal headers share its text, for example a year of days.
    """
    numbers: dict[str, int] = {}
    sources = {
        file.name: numbers.setdefault(header_of(file.csv), len(numbers))
        for file in files
        if file.csv is not None
    }
    if sources:
        noted = {"headers": list(numbers), "sources": sources}
        (directory / HEADERS).write_bytes(msgspec.json.encode(noted))


def read_headers(directory: Path) -> dict[str, str]:
    """Return the stored header of each source.

    Raises:
      FraudError: the file was changed and cannot be read.
    """
    path = directory / HEADERS
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
        return {source: noted.headers[number] for source, number in noted.sources.items()}
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, IndexError):
        raise FraudError(
            f"{path}: cannot be read; remove it and give --header", Code.CSV_COLUMNS_UNKNOWN
        ) from None


class _Noted(msgspec.Struct):
    headers: list[str]
    sources: dict[str, int]
