"""The live page of a stream or server, as HTML that needs no script; `review` shows it, too."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from beam_fraud.monitoring.live_figures import LiveFigures, Point
from beam_fraud.wording import printable

#: Seconds between two loads of the page.
REFRESH_SECONDS = 10
#: Seconds without a sample after which the figures are said to be old.
_OLD_SECONDS = 60.0
#: Units of the drawings.
_WIDTH, _HEIGHT, _EDGE = 640, 120, 6


@dataclass(frozen=True)
class Line:
    """A figure over the last half hour."""

    title: str
    #: The last value, and the largest, with their unit.
    now: str
    most: str
    svg: Markup


@dataclass(frozen=True)
class Precision:
    """Decisions of people on the flagged rows of a model."""

    model_id: str
    fraud: int
    genuine: int
    #: Share of frauds, and its 95 % interval; None without any.
    precision: float | None
    low: float | None
    high: float | None


def live_parts(
    figures: LiveFigures | None,
    quality: Sequence[Precision] | None,
    now: datetime,
) -> Markup:
    """Return the sections of the page.

    Args:
      figures: the last sample; None before any.
      quality: what people decided in the last 30 days; None where that is not known.
      now: the time.
    """
    lines = [] if figures is None else _lines(figures)
    age = 0.0 if figures is None else now.timestamp() - figures.at
    text = _template("live_parts.html").render(
        figures=figures,
        lines=lines,
        quality=quality,
        old=age > _OLD_SECONDS,
        age=round(age),
        at=None if figures is None else datetime.fromtimestamp(figures.at, UTC),
        since=None if figures is None else datetime.fromtimestamp(figures.since, UTC),
    )
    # Made by a template that escapes.
    return Markup(text)


def live_page(figures: LiveFigures | None, now: datetime) -> str:
    """Return the whole page of a server, which loads itself again and nothing else."""
    parts = live_parts(figures, None, now)
    return _template("live.html").render(
        parts=parts, seconds=REFRESH_SECONDS, script=Markup(live_script())
    )


@cache
def live_script() -> str:
    """Return the script that renews the figures of the page."""
    return _source("live.js")


@cache
def live_policy() -> str:
    """Return the policy of content of the whole page: its own style and script, and itself."""
    digest = base64.b64encode(hashlib.sha256(live_script().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "connect-src 'self'"
    )


def _lines(figures: LiveFigures) -> list[Line]:
    points = figures.points
    return [
        _line("Throughput", points, lambda one: one.rows_per_second, "{:,.1f} rows/s", 1.0),
        _line("Latency, median", points, lambda one: one.p50, "{:,.1f} ms", 1e3),
        _line("Latency, 99th percentile", points, lambda one: one.p99, "{:,.1f} ms", 1e3),
        _line("Flag rate", points, lambda one: one.flagged, "{:.2f} %", 100.0),
    ]


def _line(
    title: str,
    points: Sequence[Point],
    value: Callable[[Point], float | None],
    form: str,
    factor: float,
) -> Line:
    values = [value(one) for one in points]
    known = [one for one in values if one is not None]
    most = max(known, default=0.0)
    last = values[-1] if values else None
    return Line(
        title,
        "-" if last is None else form.format(last * factor),
        form.format(most * factor) if known else "-",
        _drawn(values, most, f"{title} over the last half hour"),
    )


def _drawn(values: Sequence[float | None], most: float, said: str) -> Markup:
    step = (_WIDTH - 2 * _EDGE) / max(len(values) - 1, 1)
    path, pen = list[str](), "M"
    for place, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        height = (_HEIGHT - 2 * _EDGE) * (value / most if most > 0 else 0.0)
        path.append(f"{pen}{_EDGE + place * step:.0f} {_HEIGHT - _EDGE - height:.0f}")
        # A value between two that are unknown is a dot.
        if pen == "M":
            path.append("h0")
        pen = "L"
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" preserveAspectRatio="none" '
        'aria-label="{said}"><path class="axis" d="M0 {h}H{w}"/>'
        '<path class="line" d="{path}"/></svg>'
    ).format(w=_WIDTH, h=_HEIGHT, said=said, path="".join(path))


@cache
def _template(name: str) -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text), 200)
    return environment.from_string(_source(name))


def _source(name: str) -> str:
    return files("beam_fraud.serve.http").joinpath("templates", name).read_text("utf-8")
