"""The commands over model bundles."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import models
from beam_fraud.cli.options import (
    History,
    Name,
    NewBundle,
    SchemaName,
    SchemaOfBundle,
    Since,
    Until,
)
from beam_fraud.cli.terminal.command import Outcome, command


@command(models, "list")
def list_models(
    directories: Annotated[
        list[str] | None,
        typer.Argument(metavar="DIR", help="Bundles, or directories with bundles; default: here."),
    ] = None,
) -> Outcome:
    """Show which bundles there are, the newest first."""
    from beam_fraud.cli.commands.list_models import ListModelsOptions, render, run

    return Outcome(run(ListModelsOptions(tuple(directories or (".",)))), render)


@command(models, "show")
def show_model(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Directory of the model.")],
    card: Annotated[bool, typer.Option("--card", help="The model card alone, Markdown.")] = False,
) -> Outcome:
    """Show what a bundle says about its model, and its card."""
    from beam_fraud.cli.commands.show_model import ShowModelOptions, render, render_card, run

    return Outcome(run(ShowModelOptions(bundle)), render_card if card else render)


@command(models, "compare")
def compare_models(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE", help="Directories of two models or more.")
    ],
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="FILE",
            help="Labelled transactions to measure all of them on; repeatable.",
        ),
    ] = None,
    schema: SchemaOfBundle = None,
    since: Since = None,
    until: Until = None,
    history: History = None,
) -> Outcome:
    """Show how models differ and whether it matters.

    Whether it does is measured on labelled rows.
    """
    from beam_fraud.cli.commands.compare_models import CompareModelsOptions, render, run

    options = CompareModelsOptions(
        bundles=tuple(bundles),
        on=tuple(on or ()),
        schema=schema,
        since=since,
        until=until,
        history=tuple(history or ()),
    )
    return Outcome(run(options), render)


@command(models, "import")
def import_model(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Saved with joblib or pickle.")],
    schema: Annotated[str, SchemaName],
    out: NewBundle,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open it: whoever wrote it can run code here.")
    ] = False,
    name: Name = None,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="X", help="Score from which to flag.")
    ] = 0.5,
    decline: Annotated[
        float | None,
        typer.Option("--decline", metavar="X", help="Score from which to decline."),
    ] = None,
) -> Outcome:
    """Make a bundle of a model that someone else saved."""
    from beam_fraud.cli.commands.import_model import ImportOptions, render, run

    options = ImportOptions(
        file=file,
        schema=schema,
        trust=trust,
        out=out,
        name=name,
        threshold=threshold,
        decline=decline,
    )
    return Outcome(run(options), render)


@command(models, "export")
def export_model(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="Directory of the model.")],
    onnx: Annotated[str, typer.Option("--onnx", metavar="FILE", help="File to write.")],
) -> Outcome:
    """Write a bundle's model as ONNX, if its scores stay the same."""
    from beam_fraud.cli.commands.export_model import ExportOptions, render, run

    return Outcome(run(ExportOptions(model=model, onnx=onnx)), render)
