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
DURATION = Pattern(r"^(0|[1-9][0-9]*)[smhdw]$", "Give a number and s, m, h, d or w")

PORT = Option("--port", metavar="N", min=0, max=65535, help="Port to listen at; 0: any free one.")


@options
class LoggingOptions:
    """Output and messages on a terminal: options of every command."""

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
    """The runner of the pipeline: arguments that Beam declares, as `--runner=FlinkRunner`."""

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
    """The schema of the files."""

    schema: Annotated[
        str,
        Option("--schema", metavar="S", help="A preset, such as handbook, or a TOML file."),
    ]


@options
class BundleSchemaOptions:
    """The schema of the files, where a model bundle has one as well."""

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
    """The seed of random choices."""

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
    """The option to show what a command would change, and change nothing."""

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
    """The input of a pipeline over files, and how it runs."""

    #: Each command declares its own help.
    out: str
    limit: Annotated[
        int | None, Option("--limit", metavar="N", min=1, help="Read the first N rows only.")
    ] = None


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
