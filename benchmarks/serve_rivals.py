"""Serve a bundle's model the usual ways: a request has the features, and the answer a score.

Runs in an environment of its own (`benchmarks.serve`), which has neither beam-fraud nor Beam.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import joblib
import pandas as pd


def flask(model: Any, port: int) -> None:
    """Flask and joblib on one process of waitress."""
    import waitress
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> Any:
        rows = request.get_json()
        frame = pd.DataFrame(rows if isinstance(rows, list) else [rows])
        scores = model.predict_proba(frame.to_numpy())[:, 1].tolist()
        return jsonify([{"score": score} for score in scores])

    waitress.serve(app, host="127.0.0.1", port=port, threads=8)


def fastapi(model: Any, port: int) -> None:
    """FastAPI on one process of uvicorn with uvloop and httptools."""
    import uvicorn
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/predict")
    def predict(rows: Any = Body()) -> list[dict[str, float]]:  # noqa: B008  # as FastAPI has it
        frame = pd.DataFrame(rows if isinstance(rows, list) else [rows])
        scores = model.predict_proba(frame.to_numpy())[:, 1].tolist()
        return [{"score": score} for score in scores]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def mlflow(model: Any, port: int, directory: str) -> None:
    """MLflow's own server of models, as `mlflow models serve --workers 1` runs it."""
    import uvicorn
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server
    from mlflow.sklearn import save_model

    way = {"pyfunc_predict_fn": "predict_proba", "serialization_format": "cloudpickle"}
    save_model(model, directory, **way)
    app = scoring_server.init(pyfunc.load_model(directory))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("flask", "fastapi", "mlflow"))
    parser.add_argument("--model", required=True, help="model.joblib of a bundle")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work", default="", help="directory of MLflow's model")
    options = parser.parse_args()
    model = joblib.load(options.model)
    if options.way == "flask":
        flask(model, options.port)
    elif options.way == "fastapi":
        fastapi(model, options.port)
    else:
        mlflow(model, options.port, options.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
