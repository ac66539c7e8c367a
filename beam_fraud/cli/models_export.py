"""The command that writes a model for other runtimes."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import models
from beam_fraud.commandline.command import Outcome, command


@command(models, "export")
def export_model(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="Directory of the model.")],
    onnx: Annotated[str, typer.Option("--onnx", metavar="FILE", help="File to write.")],
) -> Outcome:
    """Write a bundle's model as ONNX, if its scores stay the same."""
    from beam_fraud.commands.export_model import ExportOptions, render, run

    return Outcome(run(ExportOptions(model=model, onnx=onnx)), render)
