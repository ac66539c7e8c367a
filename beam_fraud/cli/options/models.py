"""Options of the commands that show, compare, import and export models."""

from __future__ import annotations

from typing import Annotated

from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import BundleSchemaOptions, NewBundleOptions, SpanOptions


@options
class ListModelsOptions:
    """List bundles, newest first."""

    directories: Annotated[
        tuple[str, ...],
        Option("DIR", help="Bundles, or directories with bundles; default: here."),
    ] = (".",)


@options
class ShowModelOptions:
    """Show a bundle's manifest and model card."""

    bundle: Annotated[str, Option("BUNDLE", help="Directory of the model.")]
    card: Annotated[bool, Option("--card", help="Show the model card alone, in Markdown.")] = False


@options
class CompareModelsOptions(BundleSchemaOptions, SpanOptions):
    """Compare models: manifests, and figures on labelled rows."""

    bundles: Annotated[tuple[str, ...], Option("BUNDLE", help="Directories of two models or more.")]
    on: Annotated[
        tuple[str, ...],
        Option(
            "--on",
            metavar="FILE",
            help="Labelled transactions to measure all of them on; repeatable.",
        ),
    ] = ()


@options
class ImportModelOptions(NewBundleOptions):
    """Create a bundle from a model saved elsewhere."""

    file: Annotated[
        str,
        Option(
            "FILE",
            help="A model of joblib, pickle or skops, a native file of XGBoost, LightGBM or "
            "CatBoost, or ONNX; the directory of an MLflow model, or models:/NAME/VERSION, "
            "models:/NAME@ALIAS or runs:/ID/PATH at MLFLOW_TRACKING_URI.",
        ),
    ]
    schema: Annotated[
        str | None,
        Option(
            "--schema",
            metavar="S",
            help="A preset, such as handbook, or a TOML file; needed unless MLflow's model is an "
            "exported bundle, which has its own.",
        ),
    ] = None
    trust: Annotated[
        bool,
        Option(
            "--trust",
            help="Open a pickle, or types that skops does not trust, although the author can run "
            "code here.",
        ),
    ] = False
    features: Annotated[
        str | None,
        Option(
            "--features",
            metavar="A,B,C",
            help="The model's features in its order, by their names in the schema; needed if the "
            "file does not name them.",
        ),
    ] = None
    positive: Annotated[
        str | None,
        Option(
            "--positive",
            metavar="VALUE",
            help="The model's class that is fraud; needed if its classes are not 0 and 1.",
        ),
    ] = None
    check: Annotated[
        tuple[str, ...],
        Option(
            "--check",
            metavar="FILE",
            help="Labelled transactions: warn if scores rank them worse than chance, and take "
            "categories from them that the file does not hold; repeatable.",
        ),
    ] = ()
    threshold: Annotated[
        float, Option("--threshold", metavar="X", help="Score from which to flag.")
    ] = 0.5
    decline: Annotated[
        float | None, Option("--decline", metavar="X", help="Score from which to decline.")
    ] = None


@options
class ExportModelOptions:
    """Write a bundle's model as ONNX, or as an MLflow model.

    An ONNX file is written only if its scores stay the same.
    """

    model: Annotated[
        str, Option("BUNDLE", help="Directory of the model; with --registry, its name or id there.")
    ]
    onnx: Annotated[str | None, Option("--onnx", metavar="FILE", help="ONNX file to write.")] = None
    mlflow: Annotated[
        str | None,
        Option(
            "--mlflow",
            metavar="DIR_OR_URI",
            help="Directory to write an MLflow model to, or the address of a tracking server or "
            "store (http:, sqlite:, file:) to log it to.",
        ),
    ] = None
    name: Annotated[
        str | None,
        Option(
            "--name",
            metavar="NAME",
            help="Register a version of this name in MLflow's model registry.",
        ),
    ] = None
    registry: Annotated[
        str | None,
        Option(
            "--registry",
            metavar="DIR",
            help="Registry that holds the model; a registered version gets the alias champion or "
            "challenger by its state there.",
        ),
    ] = None
