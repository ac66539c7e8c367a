"""Options of the server of predictions."""

from __future__ import annotations

from typing import Annotated, Literal

from beam_fraud.cli.options.decisions import ScoringOptions, ShadowOptions
from beam_fraud.cli.options.declaration import Option, options
from beam_fraud.cli.options.groups import (
    PORT,
    ROLL_ROWS,
    ROLL_SECONDS,
    ContinuousOptions,
    ServedOptions,
)
from beam_fraud.cli.options.monitoring import LiveDriftOptions, OtlpOptions
from beam_fraud.cli.options.topics import TopicOptions


@options
class ServeOptions(
    ScoringOptions,
    TopicOptions,
    ContinuousOptions,
    ServedOptions,
    ShadowOptions,
    LiveDriftOptions,
    OtlpOptions,
):
    """Answer transactions over HTTP.

    The scores and decisions are those of a stream.

    POST /predict takes one transaction or an array; /docs describes it. Ctrl-C or SIGTERM stops the
    server cleanly; the same call continues with its state.
    """

    state: Annotated[
        str,
        Option("--state", metavar="DIR", help="Directory of the windows, ids and answers."),
    ]
    host: Annotated[
        str,
        Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen at; beyond this machine clients need tokens "
            "(BEAM_FRAUD_TOKENS_FILE).",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, PORT] = 8000
    workers: Annotated[
        int,
        Option(
            "--workers",
            metavar="N",
            min=1,
            help="Run N servers at --port and the ports after it, each with the state of some "
            "accounts (docs/serve.md).",
        ),
    ] = 1
    deadline: Annotated[
        str | None,
        Option(
            "--deadline",
            metavar="SPAN",
            help="Answer by --on-timeout after this time, such as 50ms; default: wait.",
        ),
    ] = None
    on_timeout: Annotated[
        str,
        Option(
            "--on-timeout",
            metavar="DECISION",
            help="approve, review or decline, or by amount: approve<100,else=review.",
        ),
    ] = "review"
    max_staleness: Annotated[
        str | None,
        Option(
            "--max-staleness",
            metavar="SPAN",
            help="Age from which windows are not used: time without a server, or the delay of "
            "--kafka.",
        ),
    ] = None
    on_stale: Annotated[
        Literal["score", "refuse"],
        Option("--on-stale", help="Score without windows, or refuse, once they are too old."),
    ] = "score"
    max_rows: Annotated[
        int, Option("--max-rows", metavar="N", min=1, help="Maximum of rows per request.")
    ] = 10_000
    max_waiting: Annotated[
        int,
        Option(
            "--max-waiting",
            metavar="N",
            min=1,
            help="Rows that may wait for an answer; requests beyond get 503.",
        ),
    ] = 20_000
    awake: Annotated[
        bool,
        Option(
            "--awake",
            help="Keep the processors of this machine from sleeping: answers take less time, the "
            "machine more power. Needs the right to open /dev/cpu_dma_latency.",
        ),
    ] = False
    review: Annotated[
        str | None,
        Option(
            "--review",
            metavar="URL",
            help="Also show this database's flagged transactions to analysts, as the command "
            "review does.",
        ),
    ] = None
    review_host: Annotated[
        str, Option("--review-host", metavar="ADDRESS", help="Address of the analysts' pages.")
    ] = "127.0.0.1"
    review_port: Annotated[
        int,
        Option(
            "--review-port", metavar="N", min=0, max=65_535, help="Port of the analysts' pages."
        ),
    ] = 8080
    review_settings: Annotated[
        str | None,
        Option(
            "--review-settings",
            metavar="FILE",
            help="TOML file of the analysts' pages: --settings of review.",
        ),
    ] = None
    roll_rows: Annotated[int, ROLL_ROWS] = 100_000
    roll_seconds: Annotated[float, ROLL_SECONDS] = 60.0

    #: `--state` of all servers of `--workers` for one of them; None for a server by itself.
    among: str | None = None

    # A server writes no topic.
    out_topic = None
    dead_letter_topic = None

    @property
    def out_format(self) -> Literal["json", "avro"]:
        """Form of a topic that is not written."""
        return "json"
