"""Options of the commands that run a pipeline, and of those that prepare or check one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from beam_fraud.cli.options.declaration import Option, Pattern
from beam_fraud.cli.options.groups import (
    DURATION,
    OBJECT,
    BatchOptions,
    DeadShareOptions,
    FileScoringOptions,
    KafkaOptions,
    RunnerOptions,
    SchemaOptions,
    ScoringOptions,
)

#: Pattern of a topic in the Dataflow template.
_TOPIC = Pattern(r"^[a-zA-Z0-9._-]{1,249}$")


@dataclass(frozen=True, kw_only=True)
class FeaturesOptions(SchemaOptions, BatchOptions):
    """Compute the features of files, a column each.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str, Option("--out", metavar="DIR", help="Where the features go.", template=OBJECT)
    ]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(BatchOptions, ScoringOptions, FileScoringOptions):
    """Score files and alert people to the suspicious ones.

    Every score goes to Parquet, flagged transactions and alerts where you say.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str, Option("--out", metavar="DIR", help="Where the scores go.", template=OBJECT)
    ]


@dataclass(frozen=True, kw_only=True)
class StreamOptions(ScoringOptions, KafkaOptions, DeadShareOptions, RunnerOptions):
    """Score a topic of Kafka, or files as they arrive.

    Ctrl-C or SIGTERM ends it in good order; the same call goes on where it stopped.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str,
        Option("--out", metavar="DIR", help="Where scores and the state go.", template=OBJECT),
    ]
    kafka: Annotated[
        str | None,
        Option(
            "--kafka",
            metavar="HOST:PORT",
            help="The broker to read from.",
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
            help="Read transactions from this topic, as JSON.",
            template=_TOPIC,
        ),
    ] = None
    watch: Annotated[
        str | None,
        Option(
            "--watch",
            metavar="DIR",
            help="Score files as they come there, instead of a topic.",
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
            help="Share of an hour's rows beyond which a rule is muted for that hour; 1: never.",
        ),
    ] = 0.2
    labels_topic: Annotated[
        str | None,
        Option(
            "--labels-topic",
            metavar="T",
            help="Read labels from this topic, as JSON.",
            template=_TOPIC,
        ),
    ] = None
    out_topic: Annotated[
        str | None,
        Option(
            "--out-topic",
            metavar="T",
            help="Send all scores to this topic, as JSON.",
            template=_TOPIC,
        ),
    ] = None
    dead_letter_topic: Annotated[
        str | None,
        Option(
            "--dead-letter-topic",
            metavar="T",
            help="Send what is no transaction to this topic.",
            template=_TOPIC,
        ),
    ] = None
    start: Annotated[
        str,
        Option(
            "--start",
            metavar="WHERE",
            help="Where a new stream begins: earliest, latest, committed or an ISO 8601 time.",
            template=Pattern(r"^(earliest|latest|committed|[0-9]{4}-[0-9]{2}-[0-9]{2}[^\s]*)$"),
        ),
    ] = "committed"
    reorder: Annotated[
        int | None,
        Option(
            "--reorder",
            metavar="MS",
            min=1,
            help="Let rows wait for older ones of other partitions, at most so long.",
        ),
    ] = None
    lateness: Annotated[
        str,
        Option(
            "--lateness",
            metavar="SPAN",
            help="How late a transaction may be and still see all of its windows, as in 15m.",
            template=DURATION,
        ),
    ] = "1h"
    # At most the lateness, or rows may be too late after those that are ahead.
    max_ahead: Annotated[
        str,
        Option(
            "--max-ahead",
            metavar="SPAN",
            help="How far an event time may be after its arrival; later ones are dead letters.",
            template=DURATION,
        ),
    ] = "1h"
    dedupe_horizon: Annotated[
        str,
        Option(
            "--dedupe-horizon",
            metavar="SPAN",
            help="How far back ids are remembered.",
            template=DURATION,
        ),
    ] = "1d"
    metrics_port: Annotated[
        int | None,
        Option(
            "--metrics-port",
            metavar="N",
            min=0,
            max=65535,
            help="Serve metrics for Prometheus on the loopback interface; 0 takes a free port.",
            template=False,
        ),
    ] = None
    until_idle: Annotated[
        float | None,
        Option(
            "--until-idle",
            metavar="S",
            min=0.0,
            help="End when nothing has come for S seconds.",
            template=False,
        ),
    ] = None
    roll_rows: Annotated[
        int,
        Option("--roll-rows", metavar="N", min=1, help="Rows of a Parquet file of the archive."),
    ] = 1_000_000
    roll_seconds: Annotated[
        float,
        Option(
            "--roll-seconds", metavar="S", min=0.1, help="Seconds until such a file is finished."
        ),
    ] = 300.0
    shards: Annotated[
        int | None,
        Option(
            "--shards",
            metavar="N",
            min=1,
            max=256,
            help="Parts of the state; 1 on this machine, else 16.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DeadLetterOptions:
    """The run that made dead letters, and which of them are meant."""

    out: Annotated[
        str | None, Option("OUT", help="--out of the score or stream that made them.")
    ] = None
    reason: Annotated[
        str | None, Option("--reason", metavar="R", help="Only those of this reason.")
    ] = None
    source: Annotated[
        str | None,
        Option("--source", metavar="S", help="Only those of this file or TOPIC:PARTITION."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class StoredDeadLetterOptions(DeadLetterOptions):
    """The same, where a database may hold them."""

    sink: Annotated[
        str | None,
        Option("--sink", metavar="URL", help="Instead of OUT: the database that holds them."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ListDeadLettersOptions(StoredDeadLetterOptions):
    """Count the records that are no transactions, and show the first."""

    limit: Annotated[int, Option("--limit", metavar="N", min=0, help="Rows to show at most.")] = 20
    payload: Annotated[
        bool, Option("--payload", help="Show the records, which are personal data.")
    ] = False
    all: Annotated[bool, Option("--all", help="Those as well that were put through again.")] = False


@dataclass(frozen=True, kw_only=True)
class ExportDeadLettersOptions(StoredDeadLetterOptions):
    """Write the records to a file in which they can be repaired."""

    to: Annotated[str, Option("--to", metavar="FILE", help="A new file of JSON lines.")]


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(DeadLetterOptions, FileScoringOptions, KafkaOptions):
    """Put repaired records through again.

    They are scored as by `score`, or sent to a stream's topic.

    With OUT and --sink alone: write the rows to the database that it did not take before.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    from_sink: Annotated[
        str | None, Option("--from-sink", metavar="URL", help="Instead of OUT: a database.")
    ] = None
    repaired: Annotated[
        str | None,
        Option("--from", metavar="FILE", help="Repaired records; default: as they are."),
    ] = None
    header: Annotated[
        str | None, Option("--header", metavar="FILE", help="Of CSV: the file, or its first line.")
    ] = None
    limit: Annotated[int | None, Option("--limit", metavar="N", min=1, help="Records at most.")] = (
        None
    )
    model: Annotated[
        str | None, Option("--model", metavar="BUNDLE", help="Directory of the model.")
    ] = None
    results: Annotated[
        str | None, Option("--out", metavar="DIR", help="A new directory for the results.")
    ] = None
    topic: Annotated[
        str | None,
        Option("--to-topic", metavar="T", help="Instead of --model: send them to a stream."),
    ] = None
    kafka: Annotated[
        str | None, Option("--kafka", metavar="HOST:PORT", help="The broker of --to-topic.")
    ] = None

    def scoring(self, files: tuple[str, ...], model: str, out: str) -> ScoreOptions:
        """Return the options of `score` that replay `files` into `out`."""
        shared: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in fields(FileScoringOptions)
        }
        return ScoreOptions(files=files, model=model, out=out, **shared)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(KafkaOptions, RunnerOptions):
    """Check whether this machine, or a runner, is ready.

    The exit code is 1 if it is not.

    Options of Beam's runners, such as --runner or --flink_master, say which runner.
    """

    model: Annotated[
        str | None, Option("--model", metavar="BUNDLE", help="A model that has to open.")
    ] = None
    schema: Annotated[
        str | None, Option("--schema", metavar="S", help="A schema that has to be readable.")
    ] = None
    out: Annotated[str | None, Option("--out", metavar="DIR", help="Where results are to go.")] = (
        None
    )
    kafka: Annotated[
        str | None,
        Option("--kafka", metavar="HOST:PORT", help="The broker; a stream is meant."),
    ] = None
    topics: Annotated[
        tuple[str, ...],
        Option("--topic", metavar="T", help="A topic that has to be there; repeatable."),
    ] = ()
    no_probe: Annotated[
        bool, Option("--no-probe", help="Run no pipeline to look at the workers.")
    ] = False
    probe_seconds: Annotated[
        float,
        Option("--probe-seconds", metavar="S", min=1.0, help="How long that pipeline may take."),
    ] = 120.0


@dataclass(frozen=True, kw_only=True)
class WorkersOptions:
    """Start Python workers for a Flink cluster.

    They serve its jobs of `--environment_type=EXTERNAL`.
    """

    port: Annotated[
        int,
        Option("--port", metavar="N", min=0, max=65535, help="Where it listens; 0: any free port."),
    ] = 50000
    host: Annotated[
        str,
        Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen at. Whoever reaches it can run code here: 0.0.0.0 only in a "
            "network of its own.",
        ),
    ] = "127.0.0.1"
