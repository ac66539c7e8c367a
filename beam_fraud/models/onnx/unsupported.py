"""What no ONNX file can be made of."""

from __future__ import annotations


class UnsupportedError(Exception):
    """A model, or a part of one, that has no counterpart; the message names it."""
