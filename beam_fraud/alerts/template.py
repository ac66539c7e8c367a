"""Message templates: Jinja2 in a sandbox, compiled once and tested before anything is sent."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment

from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.samples import SAMPLES
from beam_fraud.alerts.wording import clock_time, headline, intro, shown, timezone_of
from beam_fraud.errors import Code, FraudError

#: Variables of a template.
VARIABLES = (
    "kind",
    "headline",
    "intro",
    "alerts",
    "total",
    "created_at",
    "time",
    "delivery_id",
)
#: Function that converts a value to text.
Finalize = Callable[[object], object]


class MessageTemplate:
    """A template that renders a message, always to the same text."""

    def __init__(
        self,
        source: str,
        path: str,
        fields: tuple[str, ...] = FIELDS,
        *,
        html: bool = False,
        finalize: Finalize | None = None,
    ) -> None:
        """Compile a template and render a sample message of every kind.

        Args:
          source: text of the template.
          path: file of the template, for error messages.
          fields: fields of alerts that the default wording in `rows` and `title` shows.
          html: whether values are escaped for HTML.
          finalize: converts a value to text.

        Raises:
          FraudError: the template has a syntax error or uses an unknown name; one line with its
            place.
        """
        environment = SandboxedEnvironment(
            undefined=StrictUndefined,
            autoescape=html,
            finalize=finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        try:
            tree = environment.parse(source, filename=path)
            self._refuse_unknown(tree, path)
            code = environment.compile(source, filename=path)
        except TemplateSyntaxError as error:
            raise _invalid(path, error.lineno, str(error.message)) from None
        self._template = Template.from_code(environment, code, environment.make_globals(None))
        self._fields = fields
        for sample in SAMPLES:
            try:
                self.render(sample)
            except Exception as error:
                # Any exception of a rendered sample is a fault of the template.
                raise _invalid(path, _line(error, path), _reason(error)) from None

    def render(self, message: Message) -> str:
        """Return the text of a message.

        Raises:
          Exception: any error of the template. Default templates raise none.
        """
        return self._template.render(
            kind=message.kind,
            headline=headline(message, self._fields),
            intro=intro(message),
            alerts=[shown(alert, self._fields) for alert in message.alerts],
            total=message.total,
            created_at=message.created_at,
            time=clock_time(message.created_at, timezone_of(message)),
            delivery_id=message.delivery_id,
        )

    @staticmethod
    def _refuse_unknown(tree: nodes.Template, path: str) -> None:
        """Refuse an unknown name, even in a branch that no sample reaches."""
        own = {n.name for n in tree.find_all(nodes.Name) if n.ctx in ("store", "param")}
        own |= {macro.name for macro in tree.find_all(nodes.Macro)}
        known = {*VARIABLES, *own, "loop", "range", "dict", "namespace", "joiner", "cycler", "self"}
        for name in tree.find_all(nodes.Name):
            if name.ctx == "load" and name.name not in {*known, "caller", "varargs", "kwargs"}:
                reason = f"unknown variable {name.name!r} (known are {', '.join(VARIABLES)})"
                raise _invalid(path, name.lineno, reason)


def read_template(
    where: str,
    path: str,
    fields: tuple[str, ...] = FIELDS,
    *,
    html: bool = False,
    finalize: Finalize | None = None,
) -> MessageTemplate:
    """Read a user's template.

    Args:
      where: the option that named the file, for error messages.
      path: path of the file.
      fields: as for `MessageTemplate`.
      html: as for `MessageTemplate`.
      finalize: as for `MessageTemplate`.

    Raises:
      FraudError: the file cannot be read, or the template is wrong.
    """
    try:
        source = Path(path).expanduser().read_text("utf-8")
    except OSError as error:
        raise FraudError(
            f"{where}: template {path}: {error.strerror}", Code.TEMPLATE_INVALID
        ) from None
    except UnicodeError:
        raise FraudError(
            f"{where}: template {path}: not text in UTF-8", Code.TEMPLATE_INVALID
        ) from None
    try:
        return MessageTemplate(source, path, fields, html=html, finalize=finalize)
    except FraudError as error:
        raise FraudError(f"{where}: template {error}", Code.TEMPLATE_INVALID) from None


@cache
def default_template(name: str, fields: tuple[str, ...] = FIELDS) -> MessageTemplate:
    """Return a template of the package: `message.txt`, `message.html` or `frame.html`."""
    source = (files("beam_fraud.alerts") / "templates" / name).read_text("utf-8")
    return MessageTemplate(source, name, fields, html=name.endswith(".html"))


def _invalid(path: str, line: int | None, reason: str) -> FraudError:
    place = path if line is None else f"{path}, line {line}"
    return FraudError(f"{place}: {' '.join(reason.split())}", Code.TEMPLATE_INVALID)


def _line(error: BaseException, path: str) -> int | None:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return lines[-1] if lines else None


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    # Drop the class's module: it does not help the author of a template.
    text = text.replace("beam_fraud.alerts.wording.ShownAlert object", "alert")
    text = text.replace("beam_fraud.alerts.alert.Reason object", "reason")
    return text if isinstance(error, TemplateError) else f"{type(error).__name__}: {text}"
