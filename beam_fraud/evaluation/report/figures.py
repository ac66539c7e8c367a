"""Reports as JSON: every figure, those behind the plots included."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from beam_fraud.evaluation.evaluation import Report


def json_report(report: Report) -> bytes:
    """A report as JSON; what is not defined is null."""
    encoded = msgspec.json.encode(report, enc_hook=_plain)
    return msgspec.json.format(encoded, indent=1) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")
