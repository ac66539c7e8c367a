"""The commands over files: what each is called, which options it has, what it runs.

Every command imports its module when it is called, so that `--help` need not wait for Beam.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.beam_options import BEAM_ARGS, BeamCommand
from beam_fraud.cli.options import (
    BlockRows,
    Bundle,
    Dedupe,
    DryRun,
    Files,
    History,
    KafkaConfig,
    KafkaProperties,
    Limit,
    MaxDead,
    Name,
    NewBundle,
    SchemaName,
    SchemaOfBundle,
    ScoringChoices,
    Seed,
    Since,
    Until,
    Workers,
)
from beam_fraud.cli.terminal.command import Outcome, command
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.cli.terminal.worker_output import worker_output_logged
from beam_fraud.cli.training_options import (
    ClassWeight,
    DropKnownCards,
    Folds,
    LabelDelay,
    Resample,
    Tune,
    TuneBudget,
    TuneStore,
)


@command(app, "demo")
def demo(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where all of it goes.")
    ] = "demo",
    seed: Seed = 0,
) -> Outcome:
    """Simulate, train, score and alert in under a minute."""
    from beam_fraud.cli.commands.demo import DemoOptions, render, run

    return Outcome(run(DemoOptions(out=out, seed=seed)), render)


@command(app, "simulate")
def simulate(
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Ends in .parquet, .csv or .jsonl."),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option("--kafka", metavar="HOST:PORT", help="Instead of --out: send messages."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="T", help="Topic to send them to.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Messages a second; default: as fast as it can."),
    ] = None,
    kafka_config: KafkaConfig = None,
    kafka_properties: KafkaProperties = None,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, help="Days to simulate.")] = 90,
    accounts: Annotated[
        int, typer.Option("--accounts", metavar="N", min=1, help="Cards in use.")
    ] = 1000,
    merchants: Annotated[
        int, typer.Option("--merchants", metavar="N", min=1, help="Terminals to pay at.")
    ] = 2000,
    seed: Seed = 0,
    fraud_rate: Annotated[
        float | None,
        typer.Option(
            "--fraud-rate", metavar="X", help="Share of frauds to aim at, above 0 and below 0.5."
        ),
    ] = None,
    start: Annotated[
        str, typer.Option("--start", metavar="DATE", help="First day, ISO 8601.")
    ] = "2024-01-01",
) -> Outcome:
    """Write labelled transactions to a file or a topic.

    Anyone can reproduce them by the seed.
    """
    from beam_fraud.cli.commands.simulate import SimulateOptions, render, run

    options = SimulateOptions(
        out=out,
        days=days,
        accounts=accounts,
        merchants=merchants,
        seed=seed,
        fraud_rate=fraud_rate,
        start=start,
        kafka=kafka,
        topic=topic,
        rate=rate,
        kafka_config=tuple(kafka_config or ()),
        kafka_properties=kafka_properties,
    )
    return Outcome(run(options), render)


@command(app, "train")
def train(
    files: Files,
    schema: Annotated[str, SchemaName],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="KIND",
            help="logistic, forest, extra_trees, hist_gradient_boosting, xgboost, lightgbm, mlp, "
            "keras, isolation_forest, average, rank_average or stacking; members of the last "
            "three may follow, as in average:forest+xgboost.",
        ),
    ],
    out: NewBundle,
    since: Since = None,
    valid_from: Annotated[
        str | None,
        typer.Option(
            "--valid-from", metavar="T", help="First validation row; default: the last fifth."
        ),
    ] = None,
    until: Until = None,
    history: History = None,
    split: Annotated[
        Literal["time", "stratified"], typer.Option("--split", help="How validation is split off.")
    ] = "time",
    folds: Folds = None,
    label_delay: LabelDelay = None,
    drop_known_cards: DropKnownCards = False,
    tune: Tune = None,
    tune_budget: TuneBudget = None,
    tune_store: TuneStore = None,
    seed: Seed = 0,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="SPEC",
            help="f1, precision=X, recall=X, budget=N, cost=FN:FP, cost=amount:FP or a number from "
            "0 to 1.",
        ),
    ] = "f1",
    decline: Annotated[
        str | None,
        typer.Option(
            "--decline",
            metavar="SPEC",
            help="How to choose the score from which to decline, as --threshold; none if absent.",
        ),
    ] = None,
    calibrate: Annotated[
        Literal["isotonic", "platt"] | None,
        typer.Option("--calibrate", help="How scores are made probabilities; default: they stay."),
    ] = None,
    name: Name = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the kind; repeatable."),
    ] = None,
    resample: Resample = None,
    class_weight: ClassWeight = None,
) -> Outcome:
    """Fit a model, choose its threshold and write the bundle."""
    from beam_fraud.cli.commands.train import TrainOptions, render, run

    options = TrainOptions(
        files=tuple(files),
        schema=schema,
        model=model,
        out=out,
        since=since,
        valid_from=valid_from,
        until=until,
        history=tuple(history or ()),
        split=split,
        folds=folds,
        label_delay=label_delay,
        drop_known_cards=drop_known_cards,
        tune=tune,
        tune_budget=tune_budget,
        tune_store=tune_store,
        seed=seed,
        threshold=threshold,
        decline=decline,
        calibrate=calibrate,
        name=name,
        settings=tuple(set_ or ()),
        resample=resample,
        class_weight=class_weight,
    )
    return Outcome(run(options), render)


@command(app, "explore")
def explore(
    files: Files,
    schema: Annotated[str, SchemaName],
    out: Annotated[str, typer.Option("--out", metavar="HTML", help="The page to write.")],
    since: Since = None,
    until: Until = None,
    history: History = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="DIR", help="Every plot as a PNG file, too.")
    ] = None,
) -> Outcome:
    """Show what is in transactions on one page of plots.

    With or without labels; the page begins with advice.
    """
    from beam_fraud.cli.commands.explore import ExploreOptions, render, run

    options = ExploreOptions(
        files=tuple(files),
        schema=schema,
        out=out,
        since=since,
        until=until,
        history=tuple(history or ()),
        png=png,
    )
    return Outcome(run(options), render)


@command(app, "evaluate")
def evaluate(
    files: Files,
    model: Annotated[
        list[str],
        typer.Option(
            "--model", metavar="BUNDLE", help="Directory of a model; several are compared."
        ),
    ],
    schema: SchemaOfBundle = None,
    since: Since = None,
    until: Until = None,
    history: History = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="X", help="Instead of the bundle's own."),
    ] = None,
    protocol: Annotated[
        Literal["handbook"] | None,
        typer.Option("--protocol", help="Rows and figures as the fraud-detection handbook's."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out", metavar="FILE", help="Report that ends in .html, .json or .md; repeatable."
        ),
    ] = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="DIR", help="Plots of the report as PNG files.")
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            "--segment", metavar="COLUMN", help="Tell figures by its values too; repeatable."
        ),
    ] = None,
    cards: Annotated[
        int, typer.Option("--cards", metavar="K", min=1, help="Cards looked at in a day.")
    ] = 100,
    cost: Annotated[
        str,
        typer.Option("--cost", metavar="FN:FP", help="Of a missed fraud and of a false alarm."),
    ] = "100:1",
    resamples: Annotated[
        int, typer.Option("--resamples", metavar="N", min=20, help="Of the bootstrap, at most.")
    ] = 1000,
    seed: Seed = 0,
) -> Outcome:
    """Measure a model on labelled rows, or compare several."""
    from beam_fraud.cli.commands.evaluate import EvaluateOptions, render, run

    options = EvaluateOptions(
        files=tuple(files),
        model=model[0],
        others=tuple(model[1:]),
        schema=schema,
        since=since,
        until=until,
        history=tuple(history or ()),
        threshold=threshold,
        protocol=protocol,
        out=tuple(out or ()),
        png=png,
        segments=tuple(segment or ()),
        cards=cards,
        cost=cost,
        resamples=resamples,
        seed=seed,
    )
    return Outcome(run(options), render)


@command(app, "features", cls=BeamCommand)
def features(
    context: typer.Context,
    files: Files,
    schema: Annotated[str, SchemaName],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the features go.")],
    history: History = None,
    workers: Workers = 1,
    limit: Limit = None,
    dedupe: Dedupe = "file",
    block_rows: BlockRows = 50_000,
    max_dead: MaxDead = None,
    dry_run: DryRun = False,
) -> Outcome:
    """Compute the features of files, a column each.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """
    from beam_fraud.cli.commands.features import FeaturesOptions, render, run

    options = FeaturesOptions(
        files=tuple(files),
        schema=schema,
        out=out,
        history=tuple(history or ()),
        workers=workers,
        limit=limit,
        dedupe=dedupe,
        block_rows=block_rows,
        max_dead=max_dead,
        dry_run=dry_run,
        beam_args=context.meta[BEAM_ARGS],
    )
    with worker_output_logged(), activities_shown():
        return Outcome(run(options), render)


@command(app, "score", cls=BeamCommand)
def score(
    context: typer.Context,
    files: Files,
    model: Bundle,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the scores go.")],
    how: ScoringChoices,
    limit: Limit = None,
) -> Outcome:
    """Score files and alert people to the suspicious ones.

    Every score goes to Parquet, flagged transactions and alerts where you say.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """
    from beam_fraud.cli.commands.score import ScoreOptions, render, run

    options = ScoreOptions(
        files=tuple(files),
        model=model,
        out=out,
        **how.given(),
        limit=limit,
        beam_args=context.meta[BEAM_ARGS],
    )
    with worker_output_logged(), activities_shown():
        return Outcome(run(options), render)
