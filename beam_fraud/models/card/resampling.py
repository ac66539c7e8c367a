"""What a model card says about resampling."""

from __future__ import annotations

from beam_fraud.models.card.markdown import code, figure, plain, table
from beam_fraud.models.resampling.noise import CONFIDENCE, DRAWS
from beam_fraud.models.resampling.resampled import resamplers_of
from beam_fraud.models.resampling.tried import Tried
from beam_fraud.models.training import Trained


def resampling_section(trained: Trained) -> str | None:
    """What was tried, what was taken and what it does to scores; None if nothing was asked for."""
    paragraphs = [
        f"Rows to fit on were resampled by {code(str(resampler))}; rows that choose or are "
        f"reported on never are. {resampler.effect}"
        for resampler in resamplers_of(trained.kind)
    ]
    if trained.tried:
        paragraphs += [_judged(trained.tried), _table(trained.tried)]
    return "\n\n".join(paragraphs) or None


def _judged(tried: tuple[Tried, ...]) -> str:
    taken = next(line.resample for line in tried if line.chosen)
    outcome = "none of them was clearly better" if taken == "none" else f"{code(taken)} was taken"
    return (
        f"Ways to resample were compared on the validation rows: {outcome}. The gain over none is "
        f"a {CONFIDENCE:.0%} interval of {DRAWS} draws of the validation rows with replacement, "
        "and a way is taken only if all of it is above 0."
    )


def _table(tried: tuple[Tried, ...]) -> str:
    head = ["resampling", "rows fitted on", "frauds", "average precision", "gain", "seconds"]
    return table(head, [_row(line) for line in tried])


def _row(line: Tried) -> list[str]:
    name = f"{line.resample} (taken)" if line.chosen else line.resample
    if line.rows is None or line.frauds is None:
        return [name, "-", "-", "-", plain(line.reason), f"{line.seconds:.1f}"]
    gain = "-" if line.gain is None else "{:+.3f} to {:+.3f}".format(*line.gain)
    counts = [f"{line.rows:,}", f"{line.frauds:,}"]
    return [name, *counts, figure(line.average_precision), gain, f"{line.seconds:.1f}"]
