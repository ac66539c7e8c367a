"""Options that several commands share, in groups of which commands are composed."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.declaration import Option, Pattern, options
from beam_fraud.cli.terminal import log

#: Patterns of values in the Dataflow template, whose launcher runs in an image.
OBJECT = Pattern(r"^gs://[^\n\r]+$", "Give gs://BUCKET/DIR")
OBJECTS = Pattern(r"^gs://[^\n\r;]+(;gs://[^\n\r;]+)*$", "Give gs://BUCKET/PATH")
FILE_OF_IMAGE = Pattern(r"^/opt/beam-fraud/[^\s]+$", "Give /opt/beam-fraud/FILE of the image")
BUNDLE = Pattern(
    r"^(gs://[^\n\r;]+|/opt/beam-fraud/[^\n\r;]+)$",
    "Give gs://BUCKET/DIR, or /opt/beam-fraud/DIR of the image",
)
#: Pattern of a topic in the Dataflow template.
TOPIC = Pattern(r"^[a-zA-Z0-9._-]{1,249}$")
DURATION = Pattern(r"^(0|[1-9][0-9]*)[smhdw]$", "Give a number and s, m, h, d or w")

PORT = Option("--port", metavar="N", min=0, max=65535, help="Port to listen at; 0: any free one.")


@options
class LoggingOptions:
    """What a terminal shows: options of every command."""

    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False
    log_level: Annotated[
        log.Level, Option("--log-level", help="Minimum severity of messages to show.")
    ] = "info"
    log_format: Annotated[log.Format, Option("--log-format", help="Format of messages.")] = "text"
    log_file: Annotated[
        str | None, Option("--log-file", metavar="FILE", help="Also write messages to FILE.")
    ] = None


@options
class RunnerOptions:
    """What runs the pipeline: the arguments that Beam declares, as `--runner=FlinkRunner`."""

    beam_args: tuple[str, ...] = ()


@options
class FileOptions:
    """The files that a command reads."""

    files: Annotated[
        tuple[str, ...],
        Option(
            "FILE",
            help="Parquet, ORC, Avro, CSV or JSON: files, directories, globs or tables.",
            template=OBJECTS,
        ),
    ]


@options
class SchemaOptions:
    """What columns of the files mean."""

    schema: Annotated[
        str,
        Option("--schema", metavar="S", help="A preset, such as handbook, or a TOML file."),
    ]


@options
class BundleSchemaOptions:
    """What columns mean, where a model bundle brings a schema."""

    schema: Annotated[
        str | None,
        Option(
            "--schema", metavar="S", help="A preset or a TOML file; default: the bundle's schema."
        ),
    ] = None


@options
class HistoryOptions:
    """Earlier transactions that a command does not score or report on."""

    history: Annotated[
        tuple[str, ...],
        Option(
            "--history",
            metavar="FILE",
            help="Earlier transactions, which fill the windows of velocity features; repeatable.",
            template=OBJECTS,
        ),
    ] = ()


@options
class SpanOptions(HistoryOptions):
    """The event times of the rows that a command looks at."""

    since: Annotated[
        str | None, Option("--from", metavar="T", help="First event time, ISO 8601.")
    ] = None
    until: Annotated[
        str | None, Option("--until", metavar="T", help="Event time after the last row, ISO 8601.")
    ] = None


@options
class SeedOptions:
    """What makes random choices repeatable."""

    seed: Annotated[
        int,
        Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Same seed, same result."),
    ] = 0


@options
class NewBundleOptions:
    """Where a model bundle is written, and what its model is called."""

    out: Annotated[str, Option("--out", metavar="BUNDLE", help="Directory to write.")]
    name: Annotated[
        str | None, Option("--name", metavar="NAME", help="Name of the model in its model_id.")
    ] = None


@options
class KafkaOptions:
    """How a broker of Kafka is reached, beside its address."""

    kafka_config: Annotated[
        tuple[str, ...],
        Option(
            "--kafka-config",
            metavar="KEY=VALUE",
            help="A property of librdkafka; the value may be env:NAME or file:PATH; repeatable.",
            template=Pattern(
                r"^[^=;]+=[^;]*(;[^=;]+=[^;]*)*$", "Passwords belong into a file of the image"
            ),
        ),
    ] = ()
    kafka_properties: Annotated[
        str | None,
        Option(
            "--kafka-properties",
            metavar="FILE",
            help="Read more properties from a file, one per line.",
            template=FILE_OF_IMAGE,
        ),
    ] = None


@options
class RegistryOptions:
    """Where the schemas of messages are."""

    schema_registry: Annotated[
        str | None,
        Option(
            "--schema-registry",
            metavar="URL",
            help="Schema registry of messages that name their schema: Avro, Protobuf, JSON Schema.",
            template=Pattern(r"^https?://[^\s/@]+(/\S*)?$", "Give http://HOST:PORT"),
        ),
    ] = None
    schema_registry_config: Annotated[
        tuple[str, ...],
        Option(
            "--schema-registry-config",
            metavar="KEY=VALUE",
            help="A property of its client; the value may be env:NAME or file:PATH; repeatable.",
            template=Pattern(
                r"^[^=;]+=[^;]*(;[^=;]+=[^;]*)*$", "Passwords belong into a file of the image"
            ),
        ),
    ] = ()


@options
class TopicOptions(KafkaOptions, RegistryOptions):
    """The topics that are read without end."""

    kafka: Annotated[
        str | None,
        Option(
            "--kafka",
            metavar="HOST:PORT",
            help="Broker to read from.",
            template=Pattern(
                r"^[^\s,:]+:[0-9]+(,[^\s,:]+:[0-9]+)*$",
                "Give HOST:PORT, several with commas between",
            ),
        ),
    ] = None
    topic: Annotated[
        str | None,
        Option(
            "--topic",
            metavar="T",
            help="Read transactions from this topic.",
            template=TOPIC,
        ),
    ] = None
    labels_topic: Annotated[
        str | None,
        Option(
            "--labels-topic",
            metavar="T",
            help="Read labels from this topic.",
            template=TOPIC,
        ),
    ] = None
    start: Annotated[
        str,
        Option(
            "--start",
            metavar="WHERE",
            help="Start of a new stream: earliest, latest, committed or an ISO 8601 time.",
            template=Pattern(r"^(earliest|latest|committed|[0-9]{4}-[0-9]{2}-[0-9]{2}[^\s]*)$"),
        ),
    ] = "committed"


#: Options of the archive of a continuous command; each command sets its own defaults.
ROLL_ROWS = Option("--roll-rows", metavar="N", min=1, help="Rows per Parquet file of the archive.")
ROLL_SECONDS = Option(
    "--roll-seconds", metavar="S", min=0.1, help="Seconds until a Parquet file is finished."
)


@options
class CostOptions:
    """Limit the cost of a model that does not decide yet."""

    max_microseconds: Annotated[
        float | None,
        Option(
            "--max-microseconds",
            metavar="N",
            min=0.0,
            help="Refuse a new champion, and drop a challenger in shadow, that takes more per row.",
            template=False,
        ),
    ] = None


@options
class ContinuousOptions(CostOptions):
    """Options of a continuous command: how long it remembers, how large its files are."""

    warm_up: Annotated[
        str | None,
        Option(
            "--warm-up",
            metavar="SPAN",
            help="Let a new champion decide so long after its windows began to fill (event time); "
            "default: once they are full.",
            template=False,
        ),
    ] = None

    rule_limit: Annotated[
        float,
        Option(
            "--rule-limit",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Share of an hour's rows above which a rule is muted for that hour; 1: never.",
        ),
    ] = 0.2
    lateness: Annotated[
        str,
        Option(
            "--lateness",
            metavar="SPAN",
            help="How late a transaction may be and still see all its windows, such as 15m.",
            template=DURATION,
        ),
    ] = "1h"
    # At most the lateness, or rows may be too late after those that are ahead.
    max_ahead: Annotated[
        str,
        Option(
            "--max-ahead",
            metavar="SPAN",
            help="How far an event may be ahead of its arrival; rows beyond are dead letters.",
            template=DURATION,
        ),
    ] = "1h"
    dedupe_horizon: Annotated[
        str,
        Option(
            "--dedupe-horizon",
            metavar="SPAN",
            help="How long to remember ids.",
            template=DURATION,
        ),
    ] = "1d"
    roll_rows: Annotated[int, ROLL_ROWS] = 1_000_000
    roll_seconds: Annotated[float, ROLL_SECONDS] = 300.0


@options
class DryRunOptions:
    """Whether a command changes anything."""

    dry_run: Annotated[
        bool, Option("--dry-run", help="Check everything, compute nothing.", template=False)
    ] = False


@options
class DeadShareOptions:
    """How many dead letters a run may have."""

    max_dead: Annotated[
        float | None,
        Option(
            "--max-dead",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Fail if more than this share of the records, from 0 to 1, are dead letters.",
            # At the end of a job, where the share is known, the launcher is gone.
            template=False,
        ),
    ] = None


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
class BatchRunOptions(DeadShareOptions, DryRunOptions, RunnerOptions):
    """How a pipeline over files runs."""

    workers: Annotated[
        int, Option("--workers", metavar="N", min=1, help="Use N processes.", template=False)
    ] = 1
    dedupe: Annotated[
        Literal["file", "run"],
        Option("--dedupe", help="Find repeated ids within each file or over the whole run."),
    ] = "file"
    block_rows: Annotated[
        int, Option("--block-rows", metavar="N", min=1, help="Rows per block of the pipeline.")
    ] = 50_000


@options
class BatchOptions(FileOptions, HistoryOptions, BatchRunOptions):
    """What a pipeline over files reads, and how it runs."""

    #: Each command declares its own help.
    out: str
    limit: Annotated[
        int | None, Option("--limit", metavar="N", min=1, help="Read the first N rows only.")
    ] = None


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


@options
class LabelFileOptions:
    """Labels beside the transactions."""

    labels: Annotated[
        str | None,
        Option(
            "--labels",
            metavar="FILE",
            help="Newer labels: transaction_id, label and labelled_at in Parquet, CSV or JSON "
            "lines, as label export writes them.",
        ),
    ] = None


@options
class ComparisonOptions(LabelFileOptions):
    """How a new model or rule set is compared with others, and when that fails."""

    label_maturity: Annotated[
        str | None,
        Option(
            "--label-maturity",
            metavar="DURATION",
            help="Count labels only of rows this much older than the newest label, such as 30d; "
            "default: of all rows, with a warning if many frauds have none yet.",
            template=DURATION,
        ),
    ] = None
    cost: Annotated[
        str,
        Option(
            "--cost",
            metavar="FN:FP",
            help="Costs of a missed fraud and a false alarm; FN may be a share of its amount, as "
            "in 60%:5, or amount.",
        ),
    ] = "100:1"
    segments: Annotated[
        tuple[str, ...],
        Option("--segment", metavar="COLUMN", help="Also show figures by its values; repeatable."),
    ] = ()
    fail_if: Annotated[
        tuple[str, ...],
        Option(
            "--fail-if",
            metavar="COND",
            help='Exit with 3 if this holds, such as "recall < 0.9 * old.recall"; repeatable.',
        ),
    ] = ()
    resamples: Annotated[
        int, Option("--resamples", metavar="N", min=20, help="Maximum of bootstrap resamples.")
    ] = 1000


@options
class ServedOptions:
    """Certificates and the access log of a server."""

    tls_cert: Annotated[
        str | None,
        Option("--tls-cert", metavar="FILE", help="Certificate chain (PEM) of the server."),
    ] = None
    tls_key: Annotated[
        str | None, Option("--tls-key", metavar="FILE", help="Key (PEM) of --tls-cert.")
    ] = None
    tls_client_ca: Annotated[
        str | None,
        Option(
            "--tls-client-ca",
            metavar="FILE",
            help="Accept only clients with a certificate of these authorities (PEM).",
        ),
    ] = None
    access_log: Annotated[
        str | None,
        Option(
            "--access-log",
            metavar="FILE",
            help="Log requests to FILE instead of standard error; none: nowhere.",
        ),
    ] = None
