"""Options of `train` that say which rows choose, and how settings are looked for."""

from __future__ import annotations

from typing import Annotated

import typer

Resample = Annotated[
    str | None,
    typer.Option(
        "--resample",
        metavar="NAME[=RATIO]",
        help="under, smote, adasyn, tomek, smote-enn or balanced-bagging, to RATIO frauds for "
        "each genuine row; compare tries all and takes one only if it is clearly better.",
    ),
]
ClassWeight = Annotated[
    str | None,
    typer.Option(
        "--class-weight",
        metavar="none|balanced|N",
        help="A fraud weighs as N genuine rows; balanced: all frauds as all genuine rows. "
        "Default: what the kind itself says.",
    ),
]


Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        metavar="N",
        help="Choose on N folds, each fitted on the rows before it; the rows from --valid-from on "
        "are divided among them. With --split stratified, random folds.",
    ),
]
LabelDelay = Annotated[
    str | None,
    typer.Option(
        "--label-delay",
        metavar="DURATION",
        help="How long labels take, such as 7d: candidates are not fitted on younger rows.",
    ),
]
DropKnownCards = Annotated[
    bool,
    typer.Option(
        "--drop-known-cards",
        help="Leave cards with a fraud that is known by then out of the validation rows.",
    ),
]
Tune = Annotated[
    int | None,
    typer.Option(
        "--tune",
        metavar="N",
        help="Try N settings on the validation rows and take the best; the kind's own are the "
        "first.",
    ),
]
TuneBudget = Annotated[
    str | None,
    typer.Option(
        "--tune-budget", metavar="DURATION", help="Begin no trial after so long, such as 10m."
    ),
]
TuneStore = Annotated[
    str | None,
    typer.Option(
        "--tune-store",
        metavar="FILE",
        help="Keep the trials, to try more of them later; default: beside the bundle until that "
        "is there.",
    ),
]
