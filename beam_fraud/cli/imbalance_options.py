"""Options of `train` for frauds being rare."""

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
