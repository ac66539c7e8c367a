"""A model file: its format, and what saved it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from sklearn.exceptions import InconsistentVersionWarning

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.manifest import package_version

#: Formats that can be imported.
Format = Literal["pickle", "skops", "xgboost", "lightgbm", "catboost", "onnx"]
#: Module that opens each format, where it is no pickle.
MODULES: dict[Format, str] = {
    "skops": "skops",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "onnx": "onnx",
}
#: Magic bytes of the compressions that joblib knows, and their openers.
_COMPRESSIONS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"x": zlib.decompress,
}
#: Magic bytes of joblib and pickle files, except the oldest pickle protocol.
_PICKLES = (b"\x80", *_COMPRESSIONS)
#: Magic bytes of models of other kinds, and what to do about them.
_OTHERS = {
    b"<?xml": "is XML (PMML), which has no probabilities to rely on; save the model itself",
    b"<PMML": "is PMML, which has no probabilities to rely on; save the model itself",
    b"\x89HDF": "is HDF5 (Keras), which cannot be imported; convert it to ONNX by tf2onnx",
}
#: Pattern of scikit-learn's version in an estimator's pickle, in every protocol.
_SCIKIT_LEARN = re.compile(rb"_sklearn_version.{0,12}?(\d+\.\d+(?:\.[0-9a-z]+)*)", re.DOTALL)
#: Pattern of the same in the JSON of a skops file.
_SKOPS = re.compile(rb'"_sklearn_version": \{[^{}]*?"content": "\\"(\d+\.\d+(?:\.[0-9a-z]+)*)')
#: Pattern of XGBoost's version in JSON, and in UBJSON, where small numbers are a letter and bytes.
_XGBOOST = re.compile(rb'"version"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]')
_XGBOOST_BINARY = re.compile(rb"version\[#L.{7}\x03[iU](.)[iU](.)[iU](.)", re.DOTALL)
#: Pattern of CatBoost's version in its build information.
_CATBOOST = re.compile(rb"tags/v(\d+\.\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class SavedBy:
    """The library that saved a model."""

    #: Its distribution: `scikit-learn`, `xgboost`, `catboost`.
    library: str
    #: Its version.
    version: str

    @property
    def here(self) -> str:
        """The installed version."""
        module = "sklearn" if self.library == "scikit-learn" else self.library
        return package_version(module) or "(not installed)"

    @property
    def differs(self) -> bool:
        """Return whether another version is installed."""
        return self.version != self.here


@dataclass(frozen=True)
class SavedModel:
    """The bytes of a model file, not opened yet."""

    #: The file as the user names it.
    path: str
    #: Contents of the file.
    data: bytes
    #: Names of the model's columns by a description beside the file; () without one.
    columns: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The digest of the contents, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def format(self) -> Format:
        """The format, by the contents; "pickle" if nothing else fits."""
        data = self.data
        if data.startswith(b"PK\x03\x04") and _skops_json(data):
            return "skops"
        if data.startswith(b"CBM1") or (data.startswith(b"{") and b'"oblivious_trees"' in data):
            return "catboost"
        if data.startswith(b"{") and b"learner" in data[:4096]:
            return "xgboost"
        if data.startswith(b"tree") and data[4:].lstrip(b"\r").startswith(b"\n"):
            return "lightgbm"
        # An ONNX file begins with the field 1 of its message, the version, as a number.
        return "onnx" if data.startswith(b"\x08") else "pickle"

    @property
    def runs_code(self) -> bool:
        """Return whether opening the file runs code in it."""
        return self.format == "pickle"

    @property
    def doubt(self) -> str:
        """Begin of a message about a file that cannot be opened: "" if it is of its format."""
        for magic, why in _OTHERS.items():
            if self.data.startswith(magic):
                return f"{why}; "
        if self.data.startswith(b"PK\x03\x04") and self.format == "pickle":
            return "is a ZIP archive, but not of skops, "
        known = self.format != "pickle" or self.data.startswith(_PICKLES)
        return "" if known else "is no file of joblib or pickle, "

    def saved_by(self, caught: Sequence[warnings.WarningMessage]) -> SavedBy | None:
        """Return what saved the model, by its bytes or the warnings of opening it."""
        for warning in caught:
            if isinstance(warning.message, InconsistentVersionWarning):
                return SavedBy("scikit-learn", str(warning.message.original_sklearn_version))
        data = self.data
        if self.format == "skops":
            return _match("scikit-learn", _SKOPS, _skops_json(data))
        if self.format == "xgboost":
            return _match("xgboost", _XGBOOST, data) or _match("xgboost", _XGBOOST_BINARY, data)
        if self.format == "catboost":
            return _match("catboost", _CATBOOST, data)
        for magic, decompress in _COMPRESSIONS.items():
            if data.startswith(magic):
                try:
                    data = decompress(data)
                except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
                    return None  # truncated, or another format with the same magic bytes
        return _match("scikit-learn", _SCIKIT_LEARN, data) or _match(
            "xgboost", _XGBOOST_BINARY, data
        )


def read_model_file(path: str) -> SavedModel:
    """Read a model file without opening it.

    Raises:
      FraudError: the file cannot be read.
    """
    try:
        return SavedModel(path, Path(path).read_bytes())
    except OSError as error:
        raise FraudError(
            f"{path}: can't be read ({error.strerror})", Code.INPUT_UNREADABLE
        ) from None


def _match(library: str, pattern: re.Pattern[bytes], data: bytes) -> SavedBy | None:
    match = pattern.search(data)
    if match is None:
        return None
    if pattern is _XGBOOST_BINARY:
        return SavedBy(library, ".".join(str(part[0]) for part in match.groups()))
    return SavedBy(library, ".".join(part.decode() for part in match.groups()))


def _skops_json(data: bytes) -> bytes:
    """Return the description in a skops file; b"" if it is another file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            described = archive.read("schema.json")
        return described if "_skops_version" in json.loads(described) else b""
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, RuntimeError):
        return b""
