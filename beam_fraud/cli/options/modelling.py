"""Options of the commands that make transactions, models and schemas, and measure rules."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.decisions import LiveListOptions
from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import (
    BundleSchemaOptions,
    ComparisonOptions,
    FileOptions,
    LabelFileOptions,
    NewBundleOptions,
    SchemaOptions,
    SeedOptions,
    SpanOptions,
)
from beam_fraud.cli.options.registry import AuthorOptions
from beam_fraud.cli.options.topics import KafkaOptions


@options
class DemoOptions(SeedOptions):
    """Simulate, train, score and alert in under a minute."""

    out: Annotated[str, Option("--out", metavar="DIR", help="Directory of all outputs.")] = "demo"
    serve: Annotated[
        bool,
        Option(
            "--serve",
            help="Then answer transactions over HTTP by the model, and print a call; until Ctrl-C.",
        ),
    ] = False
    port: Annotated[
        int,
        Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Port of --serve or --review; 0: any free one.",
        ),
    ] = 0
    review: Annotated[
        bool,
        Option(
            "--review",
            help="Then show the alerts to an analyst in a browser, and print a log-in; until "
            "Ctrl-C.",
        ),
    ] = False


@options
class SimulateOptions(SeedOptions, KafkaOptions):
    """Write labelled transactions to a file or a topic.

    Anyone can reproduce them by the seed.
    """

    out: Annotated[
        str | None,
        Option(
            "--out",
            metavar="FILE",
            help="Ends in .parquet, .csv or .jsonl; a directory with --partition.",
        ),
    ] = None
    partition: Annotated[
        Literal["day", "month"] | None,
        Option("--partition", help="Write Parquet files date=DAY/... or month=MONTH/... in --out."),
    ] = None
    kafka: Annotated[
        str | None,
        Option(
            "--kafka", metavar="HOST:PORT", help="Send messages to this broker instead of --out."
        ),
    ] = None
    topic: Annotated[str | None, Option("--topic", metavar="T", help="Topic of the messages.")] = (
        None
    )
    rate: Annotated[
        float | None,
        Option("--rate", metavar="N", help="Messages per second; default: no limit."),
    ] = None
    days: Annotated[int, Option("--days", metavar="N", min=1, help="Days to simulate.")] = 90
    accounts: Annotated[int, Option("--accounts", metavar="N", min=1, help="Cards in use.")] = 1000
    merchants: Annotated[
        int, Option("--merchants", metavar="N", min=1, help="Terminals to pay at.")
    ] = 2000
    fraud_rate: Annotated[
        float | None,
        Option("--fraud-rate", metavar="X", help="Target share of frauds, above 0 and below 0.5."),
    ] = None
    start: Annotated[str, Option("--start", metavar="DATE", help="First day, ISO 8601.")] = (
        "2024-01-01"
    )
    label_delay: Annotated[
        str | None,
        Option(
            "--label-delay",
            metavar="SPEC",
            help="Delay of labels, such as median=7d,sigma=1 (log-normal), the same for all "
            "frauds of a compromised card or terminal; default: every label is known.",
        ),
    ] = None
    weekend: Annotated[
        float,
        Option("--weekend", metavar="X", help="Factor of the volume on Saturdays and Sundays."),
    ] = 1.0
    pay_days: Annotated[
        float,
        Option(
            "--pay-days",
            metavar="X",
            help="Factor of volume and amounts on the 25th to 27th of each month.",
        ),
    ] = 1.0
    growth: Annotated[
        float,
        Option(
            "--growth",
            metavar="X",
            help="Growth of the number of accounts a week, such as 0.02; --accounts are those of "
            "the last day.",
        ),
    ] = 0.0
    merchant_types: Annotated[
        int | None,
        Option(
            "--merchant-types",
            metavar="N",
            min=1,
            help="Write a column TERMINAL_TYPE with N types of terminals.",
        ),
    ] = None
    new_fraud: Annotated[
        str | None,
        Option(
            "--new-fraud",
            metavar="DATE",
            help="From this day on, all frauds are small amounts at new terminals (scenario 4).",
        ),
    ] = None


@options
class TuningOptions:
    """Settings of a kind of model, given or tried."""

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
            "--tune-budget", metavar="DURATION", help="Start no trial after this time, such as 10m."
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
    settings: Annotated[
        tuple[str, ...],
        Option("--set", metavar="NAME=VALUE", help="A setting of the kind; repeatable."),
    ] = ()


@options
class KnownCardOptions:
    """Options that choose the validation rows."""

    drop_known_cards: Annotated[
        bool,
        Option(
            "--drop-known-cards",
            help="Drop validation rows of cards whose fraud is known by then.",
        ),
    ] = False


@options
class TrainOptions(
    FileOptions,
    SchemaOptions,
    NewBundleOptions,
    SpanOptions,
    SeedOptions,
    LabelFileOptions,
    KnownCardOptions,
    TuningOptions,
):
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
        Literal["time", "stratified"], Option("--split", help="How to choose the validation rows.")
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
            help="Label delay, such as 7d: candidates are not fitted on younger rows.",
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
            help="Rule of the decline threshold, as --threshold; default: decline nothing.",
        ),
    ] = None
    calibrate: Annotated[
        Literal["isotonic", "platt"] | None,
        Option("--calibrate", help="Calibrate scores to probabilities; default: no calibration."),
    ] = None
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


@options
class RetrainOptions(
    FileOptions,
    BundleSchemaOptions,
    AuthorOptions,
    SpanOptions,
    SeedOptions,
    ComparisonOptions,
    KnownCardOptions,
    TuningOptions,
):
    """Fit a challenger on new labels, compare and register it.

    It learns from an archive and the labels that have come since, and is compared with the champion
    of a registry on the newest mature rows. Without new data, nothing is done.
    """

    out: Annotated[
        str,
        Option("--out", metavar="DIR", help="Directory of the models and their comparison."),
    ]
    database: Annotated[
        str | None,
        Option(
            "--database",
            metavar="URL",
            help="Database with the labels, in place of --labels; a copy is kept in --out.",
        ),
    ] = None
    label_maturity: Annotated[
        str | None,
        Option(
            "--label-maturity",
            metavar="DURATION",
            help="Learn and compare only rows this much older than the newest label or row, such "
            "as 30d; default: what 95 % of the frauds' labels need, estimated.",
        ),
    ] = None
    compare: Annotated[
        str,
        Option(
            "--compare",
            metavar="DURATION",
            help="Compare on the newest mature rows of this time, as far as the champion was not "
            "fitted on them.",
        ),
    ] = "30d"
    register: Annotated[
        Literal["refit", "compared", "weighted"],
        Option(
            "--register",
            help="Register the recipe fitted again on all mature rows, the model that was "
            "compared, or the recipe fitted on younger rows too, whose frauds weigh more.",
        ),
    ] = "refit"
    promote_if: Annotated[
        tuple[str, ...],
        Option(
            "--promote-if",
            metavar="COND",
            help='Promote the challenger if this holds, such as "recall >= old.recall"; '
            "repeatable: all must hold.",
        ),
    ] = ()
    model: Annotated[
        str | None,
        Option(
            "--model",
            metavar="KIND",
            help="Kind of the challenger, as in train; default: the champion's, with its settings.",
        ),
    ] = None
    threshold: Annotated[
        str | None,
        Option(
            "--threshold",
            metavar="SPEC",
            help="Rule of the threshold, as in train; default: as many alerts a day as the "
            "champion.",
        ),
    ] = None
    decline: Annotated[
        str | None,
        Option(
            "--decline",
            metavar="SPEC",
            help="Rule of the decline threshold; default: as many a day as the champion, if any.",
        ),
    ] = None
    calibrate: Annotated[
        Literal["isotonic", "platt", "none"] | None,
        Option("--calibrate", help="Calibrate scores to probabilities; default: as the champion."),
    ] = None


@options
class ExploreOptions(FileOptions, SchemaOptions, SpanOptions):
    """Explore transactions on one page of plots.

    With or without labels; the page begins with advice.
    """

    out: Annotated[str, Option("--out", metavar="HTML", help="Page to write.")]
    png: Annotated[
        str | None, Option("--png", metavar="DIR", help="Also write every plot as a PNG file.")
    ] = None


@options
class EvaluateOptions(BundleSchemaOptions, SpanOptions, SeedOptions, LabelFileOptions):
    """Measure a model on labelled rows, or compare several.

    With --from-labels: estimate the figures of all traffic from what people saw and labelled.
    """

    files: Annotated[
        tuple[str, ...],
        Option(
            "FILE", help="Parquet, ORC, Avro, CSV or JSON: files, directories, globs or tables."
        ),
    ] = ()
    models: Annotated[
        tuple[str, ...],
        Option(
            "--model",
            metavar="BUNDLE",
            help="Directory of a model; repeat it to compare. With --from-labels also a model_id; "
            "default: every model in the database.",
        ),
    ] = ()
    from_labels: Annotated[
        bool,
        Option(
            "--from-labels",
            help="Estimate the figures of all traffic from the labels of flagged and audited "
            "transactions in --database, without FILE.",
        ),
    ] = False
    database: Annotated[
        str | None,
        Option("--database", metavar="URL", help="Database of --sink, for --from-labels."),
    ] = None
    threshold: Annotated[
        float | None,
        Option("--threshold", metavar="X", help="Threshold; default: the bundle's own."),
    ] = None
    protocol: Annotated[
        Literal["handbook"] | None,
        Option("--protocol", help="Use the rows and figures of the fraud-detection handbook."),
    ] = None
    out: Annotated[
        tuple[str, ...],
        Option(
            "--out", metavar="FILE", help="Report file ending in .html, .json or .md; repeatable."
        ),
    ] = ()
    png: Annotated[
        str | None, Option("--png", metavar="DIR", help="Also write the plots as PNG files.")
    ] = None
    segments: Annotated[
        tuple[str, ...],
        Option("--segment", metavar="COLUMN", help="Also show figures by its values; repeatable."),
    ] = ()
    cards: Annotated[int, Option("--cards", metavar="K", min=1, help="Cards checked per day.")] = (
        100
    )
    cost: Annotated[
        str, Option("--cost", metavar="FN:FP", help="Costs of a missed fraud and a false alarm.")
    ] = "100:1"
    resamples: Annotated[
        int, Option("--resamples", metavar="N", min=20, help="Maximum of bootstrap resamples.")
    ] = 1000


@options
class TriedRowsOptions(SpanOptions, LiveListOptions):
    """Read transactions to try rules on."""

    on: Annotated[
        tuple[str, ...],
        Option(
            "--on",
            metavar="DATA",
            help="Transactions to try the rules on, with or without labels: files, directories or "
            "globs; repeatable.",
        ),
    ]
    model: Annotated[
        str | None,
        Option("--model", metavar="BUNDLE", help="The model that decides beside the rules."),
    ] = None
    schema: Annotated[
        str | None,
        Option(
            "--schema",
            metavar="S",
            help="A preset or a TOML file; the model's own if absent.",
        ),
    ] = None


@options
class CheckRulesOptions(TriedRowsOptions):
    """Try rules on transactions: what each fires on and catches."""

    file: Annotated[str, Option("FILE", help="Rules, a TOML file.")]


@options
class DiffRulesOptions(TriedRowsOptions):
    """Show which transactions two rule sets decide otherwise.

    With the rules that differ, and what each change does alone.
    """

    old: Annotated[
        str,
        Option("OLD", help="Rules: a TOML file, a rule set of --registry by name or id, or none."),
    ]
    new: Annotated[str, Option("NEW", help="The same: the rules that shall decide next.")]
    registry: Annotated[
        str | None,
        Option(
            "--registry",
            metavar="DIR",
            help="Registry with the rule sets; its champion is the model without --model.",
        ),
    ] = None
    out: Annotated[
        tuple[str, ...],
        Option(
            "--out", metavar="FILE", help="Report file ending in .html, .json or .md; repeatable."
        ),
    ] = ()


@options
class InferSchemaOptions(FileOptions):
    """Draft a schema by the first rows of files.

    What cannot be told is a comment that begins with "# ?". The label is never guessed.
    """

    out: Annotated[
        str | None,
        Option("--out", metavar="TOML", help="File to write; default: standard output."),
    ] = None


@options
class CheckSchemaOptions(FileOptions, SchemaOptions):
    """Count what a schema reads of each column.

    With examples of what it does not read.
    """
