"""Options of the monitor of drift, and of the comparison of archives."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.decisions import AlertOptions
from beam_fraud.cli.options.declaration import Option, options


@options
class DriftOptions:
    """The segments watched for drift, and the rate of false alarms."""

    segments: Annotated[
        tuple[str, ...],
        Option(
            "--segment",
            metavar="COLUMN",
            help="Also watch the rows of each of its nine most frequent values; repeatable.",
            template=False,
        ),
    ] = ()
    false_alarms: Annotated[
        str,
        Option(
            "--false-alarms",
            metavar="1/SPAN",
            help="One false alarm in this span is accepted, over everything together.",
            template=False,
        ),
    ] = "1/30d"


@options
class OtlpOptions:
    """Where metrics are sent, beside being read."""

    otlp: Annotated[
        str | None,
        Option(
            "--otlp",
            metavar="URL",
            help="Send metrics to this collector of OpenTelemetry, such as http://localhost:4318; "
            "default: OTEL_EXPORTER_OTLP_ENDPOINT.",
            template=False,
        ),
    ] = None


@options
class LiveDriftOptions(DriftOptions):
    """The monitor inside a stream or server."""

    monitor: Annotated[
        bool,
        Option(
            "--monitor",
            help="Count what is scored for the monitor of drift, and send its alarms to --alert as "
            "days end.",
            template=False,
        ),
    ] = False


@options
class MonitorOptions(DriftOptions, OtlpOptions, AlertOptions):
    """Find what has changed, and how good the model is.

    Each day is compared with the same weekday of earlier weeks, and the last days with the training
    rows. Weekends, pay days and steady growth raise no alarm. Precision and recall of each week are
    estimated from the scores, and measured as labels come.
    """

    directory: Annotated[
        str | None,
        Option(
            "DIR",
            help="--out of score, stream or rescore, or --state of serve; or the directory monitor "
            "in one, which --monitor leaves.",
        ),
    ] = None
    database: Annotated[
        str | None,
        Option(
            "--database",
            metavar="URL",
            help="Instead of DIR, the database of --sink: it has the flagged and audited rows.",
        ),
    ] = None
    model: Annotated[
        str, Option("--model", metavar="BUNDLE", help="Bundle of the model that scored the rows.")
    ]
    labels: Annotated[
        str | None,
        Option(
            "--labels",
            metavar="FILE|URL",
            help="Labels that have come: a file as label export writes it, or a database.",
        ),
    ] = None
    out: Annotated[
        str | None, Option("--out", metavar="FILE", help="Report with plots; ends in .html.")
    ] = None
    also: Annotated[
        tuple[str, ...],
        Option(
            "--also",
            metavar="DIR",
            help="Another such directory with rows of other days or places; repeatable.",
        ),
    ] = ()
    since: Annotated[
        str | None,
        Option("--from", metavar="DAY", help="First day to judge; default: after five weeks."),
    ] = None
    until: Annotated[
        str | None,
        Option(
            "--until",
            metavar="TIME",
            help="Time up to which rows are in the archive, or now: hours without rows before it "
            "are an outage; default: the last row's.",
        ),
    ] = None
    fail_if: Annotated[
        Literal["alarms"] | None,
        Option("--fail-if", help="Exit with 3 if an alarm goes on at the last judged day."),
    ] = None
    metrics: Annotated[
        str | None,
        Option(
            "--metrics",
            metavar="FILE",
            help="Gauges for Prometheus' node_exporter; ends in .prom.",
        ),
    ] = None
    sink: Annotated[
        str | None,
        Option(
            "--sink",
            metavar="URL",
            help="Database in which alerts wait and snoozes are; default: outbox.db in DIR.",
        ),
    ] = None


@options
class SkewOptions:
    """Compare the rows of two archives, column by column.

    Such as what a server answered with what a batch computes of the same day. Rows are joined by
    their ids; features are compared where both archives keep them.
    """

    first: Annotated[
        str, Option("FIRST", help="--out of score, stream or rescore, or --state of serve.")
    ]
    second: Annotated[str, Option("SECOND", help="The archive to compare it with.")]
    model: Annotated[
        str | None,
        Option(
            "--model",
            metavar="ID",
            help="Rows of this model alone, also where rescore only compares it; default: the rows "
            "that decided.",
        ),
    ] = None
    since: Annotated[
        str | None, Option("--from", metavar="TIME", help="First event time of the rows.")
    ] = None
    until: Annotated[
        str | None, Option("--until", metavar="TIME", help="First event time after the rows.")
    ] = None
    tolerance: Annotated[
        float,
        Option(
            "--tolerance",
            metavar="X",
            help="Differences of numbers up to X, times the larger where that is above one, do not "
            "count; 0 for none.",
        ),
    ] = 1e-9
    out: Annotated[
        tuple[str, ...],
        Option(
            "--out", metavar="FILE", help="Report file ending in .html, .json or .md; repeatable."
        ),
    ] = ()
    rows: Annotated[
        str | None,
        Option(
            "--rows",
            metavar="FILE",
            help="Parquet file of the values that differ, with ids; ends in .parquet.",
        ),
    ] = None
    fail_if: Annotated[
        tuple[str, ...],
        Option(
            "--fail-if",
            metavar="COND",
            help='Exit with 3 if this holds, such as "rows_differ_share > 0.001"; repeatable.',
        ),
    ] = ()
