"""`beam-fraud models export`: export a bundle's model for other runtimes."""

from __future__ import annotations

from beam_fraud.cli.options import ExportModelOptions
from beam_fraud.errors import Code, UsageError, need_extras
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.models.mlflow.directory import MLMODEL_FILE
from beam_fraud.models.mlflow.export import export_directory, export_to_store
from beam_fraud.models.mlflow.library import is_store, masked
from beam_fraud.models.onnx.export import export_onnx
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.models.storage import check_directory
from beam_fraud.monitoring.activity import doing
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place


def run(options: ExportModelOptions) -> dict[str, object]:
    """Write the model as an ONNX file or an MLflow model.

    Raises:
      UsageError: not one form is chosen, or an option does not belong to it.
      FraudError: the model cannot be exported, or the place not be written to.
    """
    if (options.onnx is None) == (options.mlflow is None):
        raise UsageError("give --onnx FILE or --mlflow DIR_OR_URI", Code.OPTION_MISSING)
    if options.onnx is not None:
        if options.name is not None:
            raise UsageError(
                "--name: belongs to --mlflow; an ONNX file is not registered", Code.OPTION_CONFLICT
            )
        return _onnx(options, options.onnx)
    assert options.mlflow is not None
    need_extras(["mlflow"], "--mlflow")
    if is_store(options.mlflow):
        return _store(options, options.mlflow)
    return _directory(options, Place.parse(options.mlflow))


def _opened(options: ExportModelOptions) -> tuple[Bundle, Registry | None]:
    if options.registry is None:
        return open_bundle(Place.parse(options.model)), None
    registry = open_registry(Place.parse(options.registry))
    return registry.bundle(registry.find(options.model, "model").id), registry


def _onnx(options: ExportModelOptions, path: str) -> dict[str, object]:
    with sole_writer("--onnx", Place.parse(path)):
        bundle, _ = _opened(options)
        with doing(f"converting {bundle.model_id} and comparing its scores"):
            exported = export_onnx(bundle, path)
    return {
        **_exported(bundle, exported.path),
        "bytes": exported.size,
        "rows_compared": exported.rows_compared,
        "largest_difference": exported.largest_difference,
    }


def _directory(options: ExportModelOptions, place: Place) -> dict[str, object]:
    if options.name is not None:
        raise UsageError(
            f"--name: a directory registers nothing; give the address of a tracking server or "
            f"store by --mlflow in place of {place.shown}",
            Code.OPTION_CONFLICT,
        )
    if place.local is None:
        raise UsageError(
            f"--mlflow {masked(place.shown)}: is neither a directory nor an address of MLflow",
            Code.URL_UNUSABLE,
        )
    with sole_writer("--mlflow", place):
        check_directory(place, MLMODEL_FILE)
        bundle, _ = _opened(options)
        with doing(f"writing {bundle.model_id} as an MLflow model"):
            size = export_directory(bundle, place)
    return {**_exported(bundle, place.name), "bytes": size}


def _store(options: ExportModelOptions, uri: str) -> dict[str, object]:
    bundle, registry = _opened(options)
    alias, history = None, {}
    if registry is not None and options.name is not None:
        state = registry.standing.state_of(bundle.model_id)
        alias = state if state in ("champion", "challenger") else None
    if registry is not None:
        history = _history(registry, bundle.model_id)
    with doing(f"logging {bundle.model_id} to {masked(uri)}"):
        logged = export_to_store(bundle, uri, options.name, alias, history)
    return {
        **_exported(bundle, masked(uri)),
        "run_id": logged.run_id,
        "uri": logged.uri,
        "name": options.name,
        "version": logged.version,
        "alias": alias,
    }


def _exported(bundle: Bundle, out: str) -> dict[str, object]:
    """Return what the result of every form begins with."""
    return {"model_id": bundle.model_id, "out": out, "kind": bundle.manifest.kind}


def _history(registry: Registry, model_id: str) -> dict[str, str]:
    """Return the state of a model in its registry, and its last change, as tags."""
    last = [entry for entry in registry.log.entries if entry.id == model_id][-1]
    return {
        "state": registry.standing.state_of(model_id),
        "last_change": last.action,
        "changed_at": last.at,
        "changed_by": last.who,
        **({} if last.why is None else {"why": last.why}),
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    if "rows_compared" in result:
        return (
            f"{result['model_id']} is in {result['out']} ({result['bytes']:,} bytes)\n"
            f"its scores differ by {result['largest_difference']:.2g} at most on "
            f"{result['rows_compared']:,} sample rows"
        )
    if "run_id" not in result:
        return (
            f"{result['model_id']} is in {result['out']} ({result['bytes']:,} bytes), an MLflow "
            "model"
        )
    lines = [f"{result['model_id']} is at {result['out']}: {result['uri']}, run {result['run_id']}"]
    if result["name"] is not None:
        alias = "" if result["alias"] is None else f", alias {result['alias']}"
        lines.append(f"registered as {result['name']}, version {result['version']}{alias}")
    return "\n".join(lines)
