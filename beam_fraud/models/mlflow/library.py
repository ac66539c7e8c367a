"""MLflow's own library, which stores and fetches models."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beam_fraud.errors import Code, FraudError, UsageError, extra_module
from beam_fraud.models.foreign import reason_of
from beam_fraud.models.mlflow.directory import MlflowModel, read_mlflow_model

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
#: How an argument names a model of a tracking server or a registry.
_MODEL_URI = re.compile(r"(models|runs):/")
#: How MLflow addresses its servers and stores.
_STORE_URI = re.compile(
    r"(https?|file|sqlite|postgresql|mysql|mssql|databricks)(\+\w+)?:|databricks$"
)
#: Variables of MLflow that apply unless the user sets them.
_DEFAULTS = {
    # It reports usage to its authors.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It writes to standard output, which may be JSON here.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Seven attempts with growing pauses take four minutes where no server answers.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
#: User and password in a URL.
_SECRET = re.compile(r"(?<=://)[^/\s@]+@")


@contextmanager
def mlflow_library(what: str, tracking: str | None = None) -> Iterator[Any]:
    """Give the module `mlflow`, and raise its exceptions as one line.

    Args:
      what: what needs it, for messages; it may hold a password.
      tracking: the tracking store to use meanwhile; None for that of `MLFLOW_TRACKING_URI`.

    Raises:
      FraudError: the extra is missing, or the body raised an exception of MLflow, of its store or
        its server.
    """
    before = _variables()
    os.environ.update({**_DEFAULTS, **before})
    if tracking is not None:
        os.environ[TRACKING_VARIABLE] = tracking
    try:
        extra_module("mlflow.pyfunc", masked(what))
        yield extra_module("mlflow", masked(what))
    except FraudError:
        raise
    except Exception as error:  # its stores and clients raise what their libraries raise
        raise FraudError(
            f"{masked(what)}: MLflow fails ({masked(reason_of(error))}); correct the address or "
            "the name, or start the server",
            Code.MLFLOW_FAILED,
        ) from None
    finally:
        # MLflow sets some itself.
        for name in _variables().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


@contextmanager
def mlflow_model(argument: str) -> Iterator[MlflowModel | None]:
    """Give the MLflow model that an argument names; None if it names a file.

    A model at `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/ID/PATH` is fetched for as
    long as the body runs.

    Raises:
      UsageError: the URI needs a tracking store, and none is set.
      FraudError: the model cannot be fetched or read, or the extra is missing.
    """
    if not is_model_uri(argument):
        directory = Path(argument)
        yield read_mlflow_model(directory, argument) if directory.is_dir() else None
        return
    with mlflow_library(argument) as mlflow:
        if not os.environ.get(TRACKING_VARIABLE):
            raise UsageError(
                f"{argument}: the variable {TRACKING_VARIABLE} is not set; it names the tracking "
                "server or store, such as http://localhost:5000 or sqlite:///mlflow.db",
                Code.VARIABLE_UNSET,
            )
        fetched = tempfile.TemporaryDirectory(prefix="beam-fraud-mlflow-")
        try:
            path = mlflow.artifacts.download_artifacts(artifact_uri=argument, dst_path=fetched.name)
        except BaseException:
            fetched.cleanup()
            raise
    with fetched:
        yield read_mlflow_model(Path(path), argument)


def is_model_uri(text: str) -> bool:
    """Return whether a text is the URI of a model in MLflow's registry or in a run.

    Example:
      >>> [is_model_uri(text) for text in ("models:/fraud@champion", "runs/model.pkl")]
      [True, False]
    """
    return _MODEL_URI.match(text) is not None


def is_store(text: str) -> bool:
    """Return whether a text is the address of a tracking server or store, and no directory.

    Example:
      >>> [is_store(text) for text in ("http://localhost:5000", "sqlite:///m.db", "exports/m")]
      [True, True, False]
    """
    return _STORE_URI.match(text) is not None


def masked(text: str) -> str:
    """Return a text without users and passwords in its URLs.

    Example:
      >>> masked("http://ann:secret@host:5000")
      'http://***@host:5000'
    """
    return _SECRET.sub("***@", text)
