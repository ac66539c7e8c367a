"""Templates of the pages, and how they show times, amounts and names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from beam_fraud.review.people.roles import Role
from beam_fraud.review.queue import QueuedCase
from beam_fraud.serve.http.live_page import live_script
from beam_fraud.wording import printable

#: How times are shown: parts of their form in ISO 8601, which is many times as fast as to format.
_FORMS = {
    "minutes": slice(0, 16),
    "seconds": slice(0, 19),
    "day": slice(0, 10),
    "clock": slice(11, 16),
}
#: Seconds to the due time from which it is near.
_SOON = 3600
#: Static files and their media types.
MEDIA = {
    "style.css": "text/css; charset=utf-8",
    "review.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def render(template: str, **values: object) -> str:
    """Return the text of a template.

    Args:
      template: name of its file, without `.html`.
      values: what it shows.
    """
    return _environment().get_template(f"{template}.html").render(values)


def compile_templates() -> None:
    """Compile all templates, which takes longer than to answer with one of them."""
    environment = _environment()
    for template in environment.list_templates(["html"]):
        environment.get_template(template)


@cache
def static_file(name: str) -> bytes:
    """Return a static file, one of `MEDIA`."""
    if name == "live.js":
        # The script of a server's page.
        return live_script().encode()
    return files("beam_fraud.review.http").joinpath("static", name).read_bytes()


@cache
def address_of(name: str) -> str:
    """Return the address of a static file; it changes with the content, so browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"


def moment(value: datetime | None, form: str = "minutes") -> Markup | str:
    """Return a time in UTC, with the exact one for programs.

    Args:
      value: the time.
      form: a key of `_FORMS`.
    """
    if value is None:
        return "-"
    exact = value.isoformat()
    # Digits and what is between them.
    return Markup(f'<time datetime="{exact}">{exact[_FORMS[form]].replace("T", " ")}</time>')


def money(value: float) -> str:
    """Return an amount.

    Example:
      >>> money(1234.5)
      '1,234.50'
    """
    return f"{value:,.2f}"


def span(value: float | timedelta) -> str:
    """Return a time in its two largest units.

    Args:
      value: seconds, or a span.

    Example:
      >>> span(11_000), span(90), span(200_000)
      ('3 h 3 min', '1 min', '2 d 7 h')
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    minutes = max(round(abs(seconds) // 60), 0)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def due(case: QueuedCase, now: datetime) -> Markup:
    """Return how long there is to the due time of an open case, or until when it is snoozed."""
    return Markup(due_html(case, now))


def due_html(case: QueuedCase, now: datetime) -> str:
    """Return what `due` does, for rows that are not composed by a template."""
    if case.snoozed_until is not None and case.snoozed_until > now:
        return f'<span class="small">snoozed until {moment(case.snoozed_until)}</span>'
    left = case.seconds_left(now)
    if left < 0:
        return f'<span class="late">{span(left)} late</span>'
    if left < _SOON:
        return f'<span class="soon">{span(left)} left</span>'
    return f"{span(left)} left"


def escaped(text: str) -> str:
    """Return a text as HTML: `escape` of most texts, which have nothing to escape, in less time."""
    return text if _PLAIN.fullmatch(text) else str(escape(text))


_PLAIN = re.compile(r"[\w .:@-]*", re.ASCII)


def name(value: object) -> Markup:
    """Return an untrusted name: on one line, its direction kept to itself."""
    return Markup(f"<bdi>{escaped(printable(str(value), 80))}</bdi>")


def hidden(fields: Mapping[str, str]) -> Markup:
    """Return untrusted names and values as fields that a form sends and does not show."""
    return Markup(
        "".join(
            f'<input type="hidden" name="{escaped(one)}" value="{escaped(value)}">\n'
            for one, value in fields.items()
        )
    )


def line(value: str) -> str:
    """Return a message, whose names are untrusted, on one line."""
    return printable(value, 1_000, escaped=True)


def prose(value: str) -> Markup:
    """Return an untrusted text of several lines."""
    lines = (printable(one, escaped=True) for one in value.split("\n"))
    return Markup("<bdi>{}</bdi>").format("\n".join(lines))


#: Spans that forms offer, in hours.
_SPANS = (
    (1, "1 hour"),
    (4, "4 hours"),
    (24, "1 day"),
    (72, "3 days"),
    (168, "1 week"),
    (720, "30 days"),
    (2160, "90 days"),
)


#: The pages that each page links to: title, and the role that may see it, by path.
_LINKED = {
    "/": ("Queue", Role.READ_ONLY),
    "/lists": ("Lists", Role.READ_ONLY),
    "/figures": ("Figures", Role.READ_ONLY),
    "/live": ("Live", Role.READ_ONLY),
    "/log": ("Log", Role.LEAD),
    "/users": ("Users", Role.ADMIN),
}
_HERE = ' aria-current="page"'


# What these return is the same on most pages, and took templates as long as all facts of a case.
def navigation(role: Role, path: str) -> Markup:
    """Return the links to the pages that a role may see.

    Args:
      role: of who sees them.
      path: of the page that has them.
    """
    return _links(role, path if path in _LINKED else None)


@lru_cache
def _links(role: Role, here: str | None) -> Markup:
    return Markup(
        "".join(
            f'<li><a href="{path}"{_HERE if path == here else ""}>{title}</a></li>\n'
            for path, (title, least) in _LINKED.items()
            if role >= least
        )
    )


@lru_cache
def hours(first: int, empty: str) -> Markup:
    """Return the field of a span.

    Args:
      first: hours that are chosen at first.
      empty: what no span means; "" where there must be one.
    """
    none = f'<option value="">{escaped(empty)}</option>\n' if empty else ""
    offered = "".join(
        f'<option value="{value}"{" selected" if value == first else ""}>{text}</option>\n'
        for value, text in _SPANS
    )
    return Markup(f'<select name="hours">\n{none}{offered}</select>')


@lru_cache
def options_of(names: tuple[str, ...], chosen: str | None) -> Markup:
    """Return untrusted names as the options of a field."""
    return Markup(
        "".join(
            f"<option{' selected' if one == chosen else ''}>{escaped(one)}</option>"
            for one in names
        )
    )


@lru_cache
def choices(offered: tuple[tuple[str, str], ...], chosen: str | None = None) -> Markup:
    """Return values and what each is called as the options of a field."""
    return Markup(
        "".join(
            f'<option value="{escaped(value)}"{" selected" if value == chosen else ""}>'
            f"{escaped(text)}</option>"
            for value, text in offered
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("beam_fraud.review.http"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Each page would ask for the time of each file.
        auto_reload=False,
    )
    made.filters |= {"moment": moment, "money": money, "span": span, "name": name, "line": line}
    made.filters["prose"] = prose
    made.globals |= {"address_of": address_of, "due": due, "navigation": navigation}
    made.globals |= {"hidden": hidden, "hours": hours, "options_of": options_of, "choices": choices}
    return made
