"""Options of how transactions are scored and decided, and where flagged ones go."""

from __future__ import annotations

from typing import Annotated

from beam_fraud.cli.options.declaration import Option, Pattern, options
from beam_fraud.cli.options.groups import (
    BUNDLE,
    DURATION,
    FILE_OF_IMAGE,
    BatchRunOptions,
    BundleSchemaOptions,
    CostOptions,
    HistoryOptions,
)
from beam_fraud.cli.options.topics import KafkaOptions


@options
class SinkOptions:
    """Where flagged transactions go."""

    sink: Annotated[
        str | None,
        Option(
            "--sink",
            metavar="URL",
            help="Sink of flagged rows: sqlite:///FILE, postgresql://USER@HOST/DATABASE, "
            "parquet:DIR, bigquery:PROJECT.DATASET[.TABLE], "
            "iceberg:[CATALOG/]NAMESPACE.TABLE (files only) or env:NAME, a variable that holds one "
            "of these.",
            template=Pattern(
                r"^(postgresql://|bigquery:|env:)[^\s]+$",
                "In the template of a stream alone, and on no disk",
            ),
        ),
    ] = None
    sink_patience: Annotated[
        str,
        Option(
            "--sink-patience",
            metavar="SPAN",
            help="How long to wait for a database that is down before rows are written to disk.",
            template=DURATION,
        ),
    ] = "5m"


@options
class AlertOptions:
    """Whom flagged transactions are reported to."""

    alerts: Annotated[
        tuple[str, ...],
        Option(
            "--alert",
            metavar="URL",
            help="Alerts: console:, file:FILE, smtp://..., https://..., slack://... or "
            "kafka://...; repeatable.",
            # Sent by the command, which a template's job lacks.
            template=False,
        ),
    ] = ()
    pseudonymise: Annotated[
        bool,
        Option(
            "--pseudonymise",
            help="Alerts carry keyed hashes of ids; the key is in BEAM_FRAUD_PSEUDONYM_KEY.",
            template=False,
        ),
    ] = False


@options
class LiveListOptions:
    """The lists that people change while rules name them."""

    lists: Annotated[
        str | None,
        Option(
            "--lists",
            metavar="DIR",
            help="Directory of the lists that rules name as @name; default: that of --registry.",
            template=FILE_OF_IMAGE,
        ),
    ] = None


@options
class BackfillOptions(SinkOptions, AlertOptions, KafkaOptions):
    """Where the scores of an archive are written beside its directory, and how fast."""

    kafka: Annotated[
        str | None,
        Option("--kafka", metavar="HOST:PORT", help="Broker of --out-topic."),
    ] = None
    out_topic: Annotated[
        str | None,
        Option("--out-topic", metavar="T", help="Topic that takes every scored row, exactly once."),
    ] = None
    max_rows_per_second: Annotated[
        float | None,
        Option(
            "--max-rows-per-second",
            metavar="N",
            help="Rows per second that a database or topic takes at most; default: no limit.",
        ),
    ] = None


@options
class RuleOptions:
    """How transactions are decided beside the model."""

    rules: Annotated[
        str | None,
        Option(
            "--rules",
            metavar="FILE",
            help="A TOML file of rules beside the model.",
            template=FILE_OF_IMAGE,
        ),
    ] = None
    reasons: Annotated[
        int,
        Option(
            "--reasons",
            metavar="N",
            min=0,
            max=10,
            help="Maximum of reasons per flagged row; 0: none.",
        ),
    ] = 5


@options
class KeptInputOptions:
    """Choose whether an archive keeps the inputs of decisions."""

    keep_features: Annotated[
        bool,
        Option(
            "--keep-features",
            help="Keep beside each score what the model and the rules saw, so that audit can "
            "compute the decision again.",
        ),
    ] = False


@options
class AuditLaneOptions:
    """Choose which unflagged transactions people see as well."""

    audit_share: Annotated[
        str | None,
        Option(
            "--audit-share",
            metavar="SHARE",
            help="Also write a random share of the unflagged rows, such as 0.2%, to the database "
            "of --sink, for people to label.",
            template=Pattern(r"^([0-9]+(\.[0-9]+)?|\.[0-9]+)%?$", "Give a share such as 0.2%"),
        ),
    ] = None


@options
class LinkOptions:
    """Choose the columns that link cases of the review."""

    links: Annotated[
        tuple[str, ...],
        Option(
            "--link",
            metavar="COLUMN",
            help="Also write a column of flagged and audited rows, such as device_id, to the "
            "database of --sink: the review links cases by its values; repeatable.",
            template=False,
        ),
    ] = ()


@options
class DecisionOptions(
    HistoryOptions,
    BundleSchemaOptions,
    SinkOptions,
    AuditLaneOptions,
    LinkOptions,
    AlertOptions,
    RuleOptions,
    LiveListOptions,
    KeptInputOptions,
):
    """How transactions are scored and decided beside the model, and where flagged ones go."""


@options
class ModelOptions:
    """The model that scores."""

    model: Annotated[
        str | None,
        Option(
            "--model",
            metavar="BUNDLE",
            help="Directory of the model; give this or --registry.",
            template=BUNDLE,
        ),
    ] = None
    registry: Annotated[
        str | None,
        Option(
            "--registry",
            metavar="DIR",
            help="Registry whose champion scores, beside its rules unless --rules gives others.",
            template=BUNDLE,
        ),
    ] = None


@options
class ShadowOptions(CostOptions):
    """Name the challengers that score beside the champion and never decide."""

    shadow: Annotated[
        tuple[str, ...],
        Option(
            "--shadow",
            metavar="WHAT",
            help="Also score by a bundle, a rules file or a NAME of --registry, or by all its "
            "challengers; their scores go to shadow/ beside scores/, decide nothing; repeatable.",
            template=False,
        ),
    ] = ()


@options
class ScoringOptions(DecisionOptions, ModelOptions):
    """By what transactions are scored and decided, and where flagged ones go."""


@options
class FileScoringOptions(DecisionOptions, ModelOptions, ShadowOptions, BatchRunOptions):
    """How files are scored: the options of `score` and of all commands like it."""

    archive: Annotated[
        str | None,
        Option(
            "--archive",
            metavar="URL",
            help="Also write all scores to a table: iceberg:[CATALOG/]NAMESPACE.TABLE.",
            # Committed by the command, which a template's job lacks.
            template=False,
        ),
    ] = None
    alert_patience: Annotated[
        str,
        Option(
            "--alert-patience",
            metavar="SPAN",
            help="How long to retry a failing channel before the run fails.",
            template=False,
        ),
    ] = "1m"
