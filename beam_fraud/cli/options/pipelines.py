"""Options of the commands that run a pipeline, and of those that prepare or check one."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from beam_fraud.cli.options.decisions import (
    BackfillOptions,
    FileScoringOptions,
    KeptInputOptions,
    ModelOptions,
    RuleOptions,
    ScoringOptions,
    ShadowOptions,
)
from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import (
    OBJECT,
    BatchOptions,
    BundleSchemaOptions,
    ComparisonOptions,
    ContinuousOptions,
    DeadShareOptions,
    DryRunOptions,
    FileOptions,
    RunnerOptions,
    SchemaOptions,
    SpanOptions,
)
from beam_fraud.cli.options.monitoring import LiveDriftOptions, OtlpOptions
from beam_fraud.cli.options.topics import TOPIC, KafkaOptions, RegistryOptions, TopicOptions


@options
class FeaturesOptions(SchemaOptions, BatchOptions):
    """Compute the features of files, one column per feature.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str, Option("--out", metavar="DIR", help="Directory of the features.", template=OBJECT)
    ]


@options
class ScoreOptions(BatchOptions, ScoringOptions, FileScoringOptions):
    """Score files and alert people to the suspicious ones.

    Every score goes to Parquet, flagged transactions and alerts where you say.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str, Option("--out", metavar="DIR", help="Directory of the scores.", template=OBJECT)
    ]


@options
class RescoreOptions(
    FileOptions,
    SpanOptions,
    BundleSchemaOptions,
    ModelOptions,
    RuleOptions,
    KeptInputOptions,
    ComparisonOptions,
    BackfillOptions,
    DeadShareOptions,
    DryRunOptions,
    RunnerOptions,
):
    """Score an archive by partitions, and compare models.

    Every partition appears whole in --out. The same call scores what is missing or changed.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str, Option("--out", metavar="DIR", help="Directory or URL of partitions and comparison.")
    ]
    against: Annotated[
        tuple[str, ...],
        Option(
            "--against",
            metavar="BUNDLE",
            help="A model to compare with, scored in the same pass; repeatable.",
        ),
    ] = ()
    against_rules: Annotated[
        str | None,
        Option(
            "--against-rules",
            metavar="FILE",
            help="Rules of what is compared with, without --against the new model; default: "
            "--rules.",
        ),
    ] = None
    partition: Annotated[
        Literal["day", "month"] | None,
        Option(
            "--partition",
            help="Length of partitions by event time; default: the directories, else day.",
        ),
    ] = None
    trust_mtime: Annotated[
        bool,
        Option(
            "--trust-mtime",
            help="Take files of the same size and time for unchanged, without reading them.",
        ),
    ] = False
    workers: Annotated[
        int,
        Option(
            "--workers",
            metavar="N",
            min=1,
            help="Score N partitions, on a runner N ranges of partitions, side by side.",
        ),
    ] = 1
    dedupe: Annotated[
        Literal["file", "run"],
        Option("--dedupe", help="Find repeated ids within each file or over the whole archive."),
    ] = "file"
    block_rows: Annotated[
        int, Option("--block-rows", metavar="N", min=1, help="Rows that are read together.")
    ] = 50_000


@options
class StreamOptions(
    ScoringOptions,
    TopicOptions,
    ContinuousOptions,
    ShadowOptions,
    LiveDriftOptions,
    OtlpOptions,
    DeadShareOptions,
    RunnerOptions,
):
    """Score a topic of Kafka, or files as they arrive.

    Ctrl-C or SIGTERM stops the stream cleanly; the same call resumes it.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    out: Annotated[
        str,
        Option(
            "--out", metavar="DIR", help="Directory of the scores and the state.", template=OBJECT
        ),
    ]
    watch: Annotated[
        str | None,
        Option(
            "--watch",
            metavar="DIR",
            help="Score new files of a directory, instead of a topic.",
            template=False,
        ),
    ] = None
    out_topic: Annotated[
        str | None,
        Option(
            "--out-topic",
            metavar="T",
            help="Send all scores to this topic.",
            template=TOPIC,
        ),
    ] = None
    out_format: Annotated[
        Literal["json", "avro"],
        Option(
            "--out-format",
            help="Form of the messages of --out-topic; avro registers its schema.",
        ),
    ] = "json"
    dead_letter_topic: Annotated[
        str | None,
        Option(
            "--dead-letter-topic",
            metavar="T",
            help="Send dead letters to this topic.",
            template=TOPIC,
        ),
    ] = None
    reorder: Annotated[
        int | None,
        Option(
            "--reorder",
            metavar="MS",
            min=1,
            help="Maximum time that rows wait for older ones of other partitions.",
        ),
    ] = None
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
            help="End after S seconds without new rows.",
            template=False,
        ),
    ] = None
    shards: Annotated[
        int | None,
        Option(
            "--shards",
            metavar="N",
            min=1,
            max=256,
            help="Shards of the state; default: 1 on this machine, else 16.",
        ),
    ] = None


@options
class DeadLetterOptions:
    """The run that made dead letters, and which of them are meant."""

    out: Annotated[
        str | None, Option("OUT", help="--out of the score or stream that wrote them.")
    ] = None
    reason: Annotated[
        str | None, Option("--reason", metavar="R", help="Only those of this reason.")
    ] = None
    source: Annotated[
        str | None,
        Option("--source", metavar="S", help="Only those of this file or TOPIC:PARTITION."),
    ] = None


@options
class StoredDeadLetterOptions(DeadLetterOptions):
    """The same, where a database may hold them."""

    sink: Annotated[
        str | None,
        Option("--sink", metavar="URL", help="Database with the dead letters, instead of OUT."),
    ] = None


@options
class ListDeadLettersOptions(StoredDeadLetterOptions):
    """Count dead letters, and show the first."""

    limit: Annotated[
        int, Option("--limit", metavar="N", min=0, help="Maximum of rows to show.")
    ] = 20
    payload: Annotated[
        bool, Option("--payload", help="Show the records, which are personal data.")
    ] = False
    all: Annotated[bool, Option("--all", help="Include replayed ones.")] = False


@options
class ExportDeadLettersOptions(StoredDeadLetterOptions):
    """Export the records to a file for repair."""

    to: Annotated[str, Option("--to", metavar="FILE", help="A new file of JSON lines.")]


@options
class ReplayOptions(DeadLetterOptions, FileScoringOptions, KafkaOptions, RegistryOptions):
    """Replay dead letters.

    Records are scored as by `score`, or sent to a stream's topic.

    With OUT and --sink alone: write the flagged rows that the database did not take before.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """

    from_sink: Annotated[
        str | None,
        Option(
            "--from-sink", metavar="URL", help="Database with the dead letters, instead of OUT."
        ),
    ] = None
    repaired: Annotated[
        str | None,
        Option(
            "--from",
            metavar="FILE",
            help="File of repaired records; default: the original records.",
        ),
    ] = None
    header: Annotated[
        str | None,
        Option(
            "--header", metavar="FILE", help="Header of CSV records: their file, or its first line."
        ),
    ] = None
    limit: Annotated[
        int | None, Option("--limit", metavar="N", min=1, help="Maximum of records.")
    ] = None
    results: Annotated[
        str | None, Option("--out", metavar="DIR", help="A new directory for the results.")
    ] = None
    topic: Annotated[
        str | None,
        Option(
            "--to-topic",
            metavar="T",
            help="Send records to this topic of a stream, instead of --model.",
        ),
    ] = None
    kafka: Annotated[
        str | None, Option("--kafka", metavar="HOST:PORT", help="The broker of --to-topic.")
    ] = None

    def scoring(self, files: tuple[str, ...], out: str) -> ScoreOptions:
        """Return the options of `score` that replay `files` into `out`."""
        shared: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in fields(FileScoringOptions)
        }
        return ScoreOptions(files=files, out=out, **shared)


@options
class DoctorOptions(KafkaOptions, RegistryOptions, RunnerOptions):
    """Check whether this machine, or a runner, is ready.

    The exit code is 1 if it is not.

    Options of Beam's runners, such as --runner or --flink_master, say which runner.
    """

    model: Annotated[
        str | None, Option("--model", metavar="BUNDLE", help="Check that this model opens.")
    ] = None
    schema: Annotated[
        str | None, Option("--schema", metavar="S", help="Check that this schema can be read.")
    ] = None
    out: Annotated[
        str | None, Option("--out", metavar="DIR", help="Check that results can be written here.")
    ] = None
    kafka: Annotated[
        str | None,
        Option("--kafka", metavar="HOST:PORT", help="Check this broker, for a stream."),
    ] = None
    topics: Annotated[
        tuple[str, ...],
        Option("--topic", metavar="T", help="Check that this topic exists; repeatable."),
    ] = ()
    no_probe: Annotated[
        bool, Option("--no-probe", help="Do not check the workers by a pipeline.")
    ] = False
    probe_seconds: Annotated[
        float,
        Option("--probe-seconds", metavar="S", min=1.0, help="Time limit of that pipeline."),
    ] = 120.0


@options
class WorkersOptions:
    """Start Python workers for a Flink cluster.

    They serve its jobs of `--environment_type=EXTERNAL`.
    """

    port: Annotated[
        int,
        Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0: any free port."
        ),
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
