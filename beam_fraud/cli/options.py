"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import typer

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Parquet, CSV or JSON lines: files, directories or globs.",
        show_default=False,
    ),
]
SchemaName = typer.Option(
    "--schema", metavar="S", help="A preset (ulb, handbook, ledger) or a TOML file."
)
SchemaOfBundle = Annotated[
    str | None,
    typer.Option(
        "--schema", metavar="S", help="Instead of the bundle's own: a preset or a TOML file."
    ),
]
Bundle = Annotated[str, typer.Option("--model", metavar="BUNDLE", help="Directory of the model.")]
NewBundle = Annotated[str, typer.Option("--out", metavar="BUNDLE", help="Directory to write.")]
Since = Annotated[
    str | None, typer.Option("--from", metavar="T", help="First event time, ISO 8601.")
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="T", help="Event time to stop before, ISO 8601.")
]
History = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        metavar="FILE",
        help="Earlier transactions, which fill the windows of velocity features; repeatable.",
    ),
]
Sink = Annotated[
    str | None,
    typer.Option(
        "--sink",
        metavar="URL",
        help="Flagged ones: sqlite:///FILE, postgresql://USER@HOST/DATABASE, parquet:DIR, "
        "bigquery:PROJECT.DATASET[.TABLE] or env:NAME, a variable that holds one of these.",
    ),
]
Alerts = Annotated[
    list[str] | None,
    typer.Option(
        "--alert",
        metavar="URL",
        help="Alerts: console:, file:FILE, smtp://..., https://..., slack://... or kafka://...; "
        "repeatable.",
    ),
]
SinkPatience = Annotated[
    str,
    typer.Option(
        "--sink-patience",
        metavar="SPAN",
        help="How long a database that is down is waited for before rows are kept on disk.",
    ),
]
AlertPatience = Annotated[
    str,
    typer.Option(
        "--alert-patience",
        metavar="SPAN",
        help="How long a channel that fails is tried again before the run fails.",
    ),
]
Pseudonymise = Annotated[
    bool,
    typer.Option(
        "--pseudonymise",
        help="Alerts carry keyed hashes of ids; the key is in BEAM_FRAUD_PSEUDONYM_KEY.",
    ),
]
Rules = Annotated[
    str | None,
    typer.Option("--rules", metavar="FILE", help="Rules beside the model, a TOML file."),
]
Reasons = Annotated[
    int,
    typer.Option(
        "--reasons", metavar="N", min=0, max=10, help="Reasons of a flagged row at most; 0: none."
    ),
]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Use N processes.")]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Read the first N rows only.")
]
Dedupe = Annotated[
    Literal["file", "run"],
    typer.Option("--dedupe", help="Look for repeated ids in one file or across all."),
]
BlockRows = Annotated[
    int, typer.Option("--block-rows", metavar="N", min=1, help="Rows of a block of the pipeline.")
]
MaxDead = Annotated[
    float | None,
    typer.Option(
        "--max-dead",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help="Fail if more of the records than this share, from 0 to 1, are no transactions.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, compute nothing.")]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Same seed, same result.")
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the model in its model_id.")
]
KafkaConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--kafka-config",
        metavar="KEY=VALUE",
        help="A property of librdkafka; the value may be env:NAME or file:PATH; repeatable.",
    ),
]
KafkaProperties = Annotated[
    str | None,
    typer.Option(
        "--kafka-properties", metavar="FILE", help="Read more of them from a file, a line each."
    ),
]


@dataclass(frozen=True, kw_only=True)
class ScoringChoices:
    """How files are scored, and where results go: the options of `score` and of all like it.

    Each is called as in `commands.score.ScoreOptions`.
    """

    schema: SchemaOfBundle = None
    sink: Sink = None
    sink_patience: SinkPatience = "5m"
    alerts: Alerts = None
    alert_patience: AlertPatience = "1m"
    pseudonymise: Pseudonymise = False
    rules: Rules = None
    reasons: Reasons = 5
    history: History = None
    workers: Workers = 1
    dedupe: Dedupe = "file"
    block_rows: BlockRows = 50_000
    max_dead: MaxDead = None
    dry_run: DryRun = False

    def given(self) -> dict[str, Any]:
        """Arguments of `ScoreOptions`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {name: tuple(values[name] or ()) for name in ("alerts", "history")}
