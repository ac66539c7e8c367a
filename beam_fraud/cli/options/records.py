"""Options of the commands over what runs have left: alerts, and personal data to erase."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.decisions import LiveListOptions
from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import DeadShareOptions, DryRunOptions, FileOptions
from beam_fraud.cli.options.topics import KafkaOptions


@options
class OutboxOptions:
    """Database or directory of the alerts."""

    sink: Annotated[
        str | None, Option("--sink", metavar="URL", help="The database with the alerts.")
    ] = None
    out: Annotated[
        str | None,
        Option(
            "--out", metavar="DIR", help="--out of a run without a database, instead of --sink."
        ),
    ] = None


@options
class SubjectOptions:
    """Whose alerts are meant."""

    account_id: Annotated[
        str | None, Option("--account", metavar="ID", help="Alerts of this account.")
    ] = None
    merchant_id: Annotated[
        str | None, Option("--merchant", metavar="ID", help="Alerts of this merchant.")
    ] = None


@options
class ListAlertsOptions(OutboxOptions, SubjectOptions):
    """Show alerts with their states, channels and snoozes."""

    state: Annotated[
        Literal["waiting", "sent", "failed", "snoozed"] | None,
        Option("--state", help="Show alerts of this state."),
    ] = None
    channel: Annotated[
        str | None,
        Option(
            "--channel",
            metavar="URL",
            help="A channel in the form of --alert, or its scheme alone, such as smtp.",
        ),
    ] = None
    limit: Annotated[int, Option("--limit", min=0, metavar="N", help="Show the newest N.")] = 50


@options
class ResendAlertsOptions(OutboxOptions):
    """Send alerts that wait or were given up now, or named ones again."""

    alerts: Annotated[
        tuple[str, ...],
        Option("--alert", metavar="URL", help="The channel, as for the run; repeatable."),
    ]
    ids: Annotated[
        tuple[str, ...],
        Option(
            "--id", metavar="ALERT_ID", help="Send this alert, even if sent before; repeatable."
        ),
    ] = ()
    failed: Annotated[bool, Option("--failed", help="Send given-up alerts only.")] = False
    waiting: Annotated[bool, Option("--waiting", help="Send waiting alerts only.")] = False
    #: Default seconds of retries for a failing channel.
    patience: float = 10.0


@options
class SnoozeAlertsOptions(OutboxOptions, SubjectOptions):
    """Snooze an account, a merchant, or a figure of monitor.

    No alert is lost: they are sent together when the snooze ends.
    """

    figure: Annotated[
        str | None,
        Option(
            "--figure",
            metavar="NAME",
            help="Alarms of this figure, as monitor names it, or of all figures of this feature.",
        ),
    ] = None
    span: Annotated[str | None, Option("--for", metavar="TIME", help="Duration, such as 8h.")] = (
        None
    )
    until: Annotated[
        str | None, Option("--until", metavar="DAY", help="End of the snooze, instead of --for.")
    ] = None
    lift: Annotated[bool, Option("--lift", help="End the snooze now.")] = False


@options
class AlertTestOptions:
    """Send a test alert through every channel."""

    urls: Annotated[
        tuple[str, ...], Option("URL", help="A channel in the form of --alert; repeatable.")
    ]
    pseudonymise: Annotated[
        bool,
        Option("--pseudonymise", help="Keyed hashes for ids, by BEAM_FRAUD_PSEUDONYM_KEY."),
    ] = False


@options
class AuditOptions(LiveListOptions):
    """Show a decision as it was recorded, and compute it again.

    The exit code is 0 if everything agrees bit for bit, else 1.
    """

    transaction_id: Annotated[
        str, Option("TRANSACTION_ID", help="The transaction, or the pseudonym of an alert.")
    ]
    out: Annotated[
        str,
        Option(
            "--out", metavar="DIR", help="--out of score, stream or rescore, or --state of serve."
        ),
    ]
    registry: Annotated[
        str | None,
        Option(
            "--registry", metavar="DIR", help="Registry with the models and rules that decided."
        ),
    ] = None
    model: Annotated[
        str | None,
        Option("--model", metavar="BUNDLE", help="The model that decided, instead of --registry."),
    ] = None
    rules: Annotated[
        str | None,
        Option(
            "--rules",
            metavar="FILE",
            help="The rules that decided; default: those in --out or --registry.",
        ),
    ] = None


@options
class LabelDatabaseOptions:
    """The database of labels."""

    database: Annotated[
        str,
        Option(
            "--database",
            metavar="URL",
            help="Database of --sink: sqlite:///FILE, postgresql://USER@HOST/DATABASE or env:NAME.",
        ),
    ]


@options
class ImportLabelsOptions(FileOptions, LabelDatabaseOptions, KafkaOptions, DeadShareOptions):
    """Import labels of files, such as charge-backs.

    They go into the table of labels. Conflicting labels are kept; the latest counts. The same file
    again changes nothing.
    """

    mapping: Annotated[
        str | None,
        Option(
            "--mapping",
            metavar="FILE",
            help="What the columns mean, in the form of a schema: [roles], [time], [label], [ids], "
            "[source], timezone.",
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...],
        Option(
            "--column",
            metavar="ROLE=NAME",
            help="Column of a role: transaction_id, label, labelled_at, labelled_by, reason, "
            "event_time, account_id or merchant_id; default: the role's name; repeatable.",
        ),
    ] = ()
    fraud: Annotated[
        tuple[str, ...],
        Option(
            "--fraud",
            metavar="VALUE",
            help="Value of the label's column that means fraud, every other means genuine; "
            "repeatable; default: 1 and true.",
        ),
    ] = ()
    label: Annotated[
        Literal["fraud", "genuine"] | None,
        Option("--label", help="Label of every row of files that have no column for it."),
    ] = None
    labelled_at: Annotated[
        str | None,
        Option(
            "--labelled-at",
            metavar="T",
            help="When rows were labelled that do not say so, ISO 8601.",
        ),
    ] = None
    who: Annotated[
        str | None,
        Option(
            "--who",
            metavar="NAME",
            help="Who labelled rows that do not say so; default: this user and host.",
        ),
    ] = None
    scores: Annotated[
        tuple[str, ...],
        Option(
            "--scores",
            metavar="DIR",
            help="Archive of scores (OUT/scores) with the time, account and merchant of "
            "transactions that were neither flagged nor audited; repeatable.",
        ),
    ] = ()
    kafka: Annotated[
        str | None,
        Option("--kafka", metavar="HOST:PORT", help="Broker of --labels-topic."),
    ] = None
    labels_topic: Annotated[
        str | None,
        Option(
            "--labels-topic", metavar="T", help="Also send the labels to this topic of a stream."
        ),
    ] = None


@options
class ExportLabelsOptions(LabelDatabaseOptions):
    """Export the latest label of each transaction.

    The file is one for --labels of train, evaluate and rescore.
    """

    out: Annotated[
        str,
        Option("--out", metavar="FILE", help="File ending in .parquet, .csv or .jsonl."),
    ]
    history: Annotated[
        bool, Option("--history", help="Export every label, also those that others followed.")
    ] = False
    since: Annotated[
        str | None,
        Option("--since", metavar="T", help="Only labels from this time on, ISO 8601."),
    ] = None


@options
class EraseOptions(DryRunOptions):
    """Erase accounts, or everything older than a time."""

    accounts: Annotated[
        tuple[str, ...],
        Option("--account", metavar="ID", help="Erase everything of this account; repeatable."),
    ] = ()
    older_than: Annotated[
        str | None,
        Option(
            "--older-than", metavar="SPAN", help="Erase everything older than this, such as 400d."
        ),
    ] = None
    sinks: Annotated[
        tuple[str, ...],
        Option(
            "--sink", metavar="URL", help="A database, iceberg: table or parquet:DIR; repeatable."
        ),
    ] = ()
    outs: Annotated[
        tuple[str, ...],
        Option("--out", metavar="DIR", help="--out of a score or stream; repeatable."),
    ] = ()
    files: Annotated[
        tuple[str, ...],
        Option("--file", metavar="FILE", help="A file of alerts, JSON lines; repeatable."),
    ] = ()
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False
