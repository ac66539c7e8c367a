"""Options of the commands that make, measure and show models, rules and transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from beam_fraud.cli.options.declaration import Option
from beam_fraud.cli.options.groups import (
    BundleSchemaOptions,
    FileOptions,
    KafkaOptions,
    NewBundleOptions,
    SchemaOptions,
    SeedOptions,
    SpanOptions,
)


@dataclass(frozen=True, kw_only=True)
class DemoOptions(SeedOptions):
    """Simulate, train, score and alert in under a minute."""

    out: Annotated[str, Option("--out", metavar="DIR", help="Where all of it goes.")] = "demo"


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(SeedOptions, KafkaOptions):
    """Write labelled transactions to a file or a topic.

    Anyone can reproduce them by the seed.
    """

    out: Annotated[
        str | None, Option("--out", metavar="FILE", help="Ends in .parquet, .csv or .jsonl.")
    ] = None
    kafka: Annotated[
        str | None, Option("--kafka", metavar="HOST:PORT", help="Instead of --out: send messages.")
    ] = None
    topic: Annotated[str | None, Option("--topic", metavar="T", help="Topic to send them to.")] = (
        None
    )
    rate: Annotated[
        float | None,
        Option("--rate", metavar="N", help="Messages a second; default: as fast as it can."),
    ] = None
    days: Annotated[int, Option("--days", metavar="N", min=1, help="Days to simulate.")] = 90
    accounts: Annotated[int, Option("--accounts", metavar="N", min=1, help="Cards in use.")] = 1000
    merchants: Annotated[
        int, Option("--merchants", metavar="N", min=1, help="Terminals to pay at.")
    ] = 2000
    fraud_rate: Annotated[
        float | None,
        Option(
            "--fraud-rate", metavar="X", help="Share of frauds to aim at, above 0 and below 0.5."
        ),
    ] = None
    start: Annotated[str, Option("--start", metavar="DATE", help="First day, ISO 8601.")] = (
        "2024-01-01"
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(FileOptions, SchemaOptions, NewBundleOptions, SpanOptions, SeedOptions):
    """Fit a model, choose its threshold and write the bundle."""

    model: Annotated[
        str,
        Option(
            "--model",
            metavar="KIND",
            help="logistic, forest, extra_trees, hist_gradient_boosting, xgboost, lightgbm, mlp, "
            "keras, isolation_forest, average, rank_average or stacking; members of the last "
            "three may follow, as in average:forest+xgboost.",
        ),
    ]
    valid_from: Annotated[
        str | None,
        Option("--valid-from", metavar="T", help="First validation row; default: the last fifth."),
    ] = None
    split: Annotated[
        Literal["time", "stratified"], Option("--split", help="How validation is split off.")
    ] = "time"
    folds: Annotated[
        int | None,
        Option(
            "--folds",
            metavar="N",
            help="Choose on N folds, each fitted on the rows before it; the rows from --valid-from "
            "on are divided among them. With --split stratified, random folds.",
        ),
    ] = None
    label_delay: Annotated[
        str | None,
        Option(
            "--label-delay",
            metavar="DURATION",
            help="How long labels take, such as 7d: candidates are not fitted on younger rows.",
        ),
    ] = None
    drop_known_cards: Annotated[
        bool,
        Option(
            "--drop-known-cards",
            help="Leave cards with a fraud that is known by then out of the validation rows.",
        ),
    ] = False
    tune: Annotated[
        int | None,
        Option(
            "--tune",
            metavar="N",
            help="Try N settings on the validation rows and take the best; the kind's own are the "
            "first.",
        ),
    ] = None
    tune_budget: Annotated[
        str | None,
        Option(
            "--tune-budget", metavar="DURATION", help="Begin no trial after so long, such as 10m."
        ),
    ] = None
    tune_store: Annotated[
        str | None,
        Option(
            "--tune-store",
            metavar="FILE",
            help="Keep the trials, to try more of them later; default: beside the bundle until "
            "that is there.",
        ),
    ] = None
    threshold: Annotated[
        str,
        Option(
            "--threshold",
            metavar="SPEC",
            help="f1, precision=X, recall=X, budget=N, cost=FN:FP, cost=amount:FP or a number from "
            "0 to 1.",
        ),
    ] = "f1"
    decline: Annotated[
        str | None,
        Option(
            "--decline",
            metavar="SPEC",
            help="How to choose the score from which to decline, as --threshold; none if absent.",
        ),
    ] = None
    calibrate: Annotated[
        Literal["isotonic", "platt"] | None,
        Option("--calibrate", help="How scores are made probabilities; default: they stay."),
    ] = None
    settings: Annotated[
        tuple[str, ...],
        Option("--set", metavar="NAME=VALUE", help="A setting of the kind; repeatable."),
    ] = ()
    resample: Annotated[
        str | None,
        Option(
            "--resample",
            metavar="NAME[=RATIO]",
            help="under, smote, adasyn, tomek, smote-enn or balanced-bagging, to RATIO frauds for "
            "each genuine row; compare tries all and takes one only if it is clearly better.",
        ),
    ] = None
    class_weight: Annotated[
        str | None,
        Option(
            "--class-weight",
            metavar="none|balanced|N",
            help="A fraud weighs as N genuine rows; balanced: all frauds as all genuine rows. "
            "Default: what the kind itself says.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExploreOptions(FileOptions, SchemaOptions, SpanOptions):
    """Show what is in transactions on one page of plots.

    With or without labels; the page begins with advice.
    """

    out: Annotated[str, Option("--out", metavar="HTML", help="The page to write.")]
    png: Annotated[
        str | None, Option("--png", metavar="DIR", help="Every plot as a PNG file, too.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(FileOptions, BundleSchemaOptions, SpanOptions, SeedOptions):
    """Measure a model on labelled rows, or compare several."""

    models: Annotated[
        tuple[str, ...],
        Option("--model", metavar="BUNDLE", help="Directory of a model; several are compared."),
    ]
    threshold: Annotated[
        float | None, Option("--threshold", metavar="X", help="Instead of the bundle's own.")
    ] = None
    protocol: Annotated[
        Literal["handbook"] | None,
        Option("--protocol", help="Rows and figures as the fraud-detection handbook's."),
    ] = None
    out: Annotated[
        tuple[str, ...],
        Option(
            "--out", metavar="FILE", help="Report that ends in .html, .json or .md; repeatable."
        ),
    ] = ()
    png: Annotated[
        str | None, Option("--png", metavar="DIR", help="Plots of the report as PNG files.")
    ] = None
    segments: Annotated[
        tuple[str, ...],
        Option("--segment", metavar="COLUMN", help="Tell figures by its values too; repeatable."),
    ] = ()
    cards: Annotated[
        int, Option("--cards", metavar="K", min=1, help="Cards looked at in a day.")
    ] = 100
    cost: Annotated[
        str, Option("--cost", metavar="FN:FP", help="Of a missed fraud and of a false alarm.")
    ] = "100:1"
    resamples: Annotated[
        int, Option("--resamples", metavar="N", min=20, help="Of the bootstrap, at most.")
    ] = 1000


@dataclass(frozen=True, kw_only=True)
class CheckRulesOptions(SpanOptions):
    """Try rules on transactions: what each fires on and catches."""

    file: Annotated[str, Option("FILE", help="Rules, a TOML file.")]
    on: Annotated[
        tuple[str, ...],
        Option(
            "--on",
            metavar="DATA",
            help="Transactions to try them on, with or without labels: files, directories or "
            "globs; repeatable.",
        ),
    ]
    schema: Annotated[
        str | None,
        Option(
            "--schema",
            metavar="S",
            help="A preset (ulb, handbook, ledger) or a TOML file; the model's own if absent.",
        ),
    ] = None
    model: Annotated[
        str | None, Option("--model", metavar="BUNDLE", help="See what they add to this model.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ListModelsOptions:
    """Show which bundles there are, the newest first."""

    directories: Annotated[
        tuple[str, ...],
        Option("DIR", help="Bundles, or directories with bundles; default: here."),
    ] = (".",)


@dataclass(frozen=True, kw_only=True)
class ShowModelOptions:
    """Show what a bundle says about its model, and its card."""

    bundle: Annotated[str, Option("BUNDLE", help="Directory of the model.")]
    card: Annotated[bool, Option("--card", help="The model card alone, Markdown.")] = False


@dataclass(frozen=True, kw_only=True)
class CompareModelsOptions(BundleSchemaOptions, SpanOptions):
    """Show how models differ and whether it matters.

    Whether it does is measured on labelled rows.
    """

    bundles: Annotated[tuple[str, ...], Option("BUNDLE", help="Directories of two models or more.")]
    on: Annotated[
        tuple[str, ...],
        Option(
            "--on",
            metavar="FILE",
            help="Labelled transactions to measure all of them on; repeatable.",
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class ImportModelOptions(SchemaOptions, NewBundleOptions):
    """Make a bundle of a model that someone else saved."""

    file: Annotated[str, Option("FILE", help="Saved with joblib or pickle.")]
    trust: Annotated[
        bool, Option("--trust", help="Open it: whoever wrote it can run code here.")
    ] = False
    threshold: Annotated[
        float, Option("--threshold", metavar="X", help="Score from which to flag.")
    ] = 0.5
    decline: Annotated[
        float | None, Option("--decline", metavar="X", help="Score from which to decline.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExportModelOptions:
    """Write a bundle's model as ONNX, if its scores stay the same."""

    model: Annotated[str, Option("BUNDLE", help="Directory of the model.")]
    onnx: Annotated[str, Option("--onnx", metavar="FILE", help="File to write.")]
