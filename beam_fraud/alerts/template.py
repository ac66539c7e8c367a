"""Templates of messages: Jinja2 in a sandbox, compiled once, tried out before anything is sent."""

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
from beam_fraud.errors import FraudError

#: What a template is given.
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
#: Makes what a value becomes in the text.
Finalize = Callable[[object], object]


class MessageTemplate:
    """Makes the text of a message; the same text however often it is asked for."""

    def __init__(
        self,
        source: str,
        path: str,
        fields: tuple[str, ...] = FIELDS,
        *,
        html: bool = False,
        finalize: Finalize | None = None,
    ) -> None:
        """Compile a template and try it out on messages of every kind.

        Args:
          source: the template.
          path: where it is from, for messages.
          fields: of alerts that the default wording in `rows` and `title` shows.
          html: whether values are escaped for HTML.
          finalize: makes what a value becomes in the text.

        Raises:
          FraudError: it cannot be read, or asks for what is not there: in one line with its place.
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
            raise _wrong(path, error.lineno, str(error.message)) from None
        self._template = Template.from_code(environment, code, environment.make_globals(None))
        self._fields = fields
        for sample in SAMPLES:
            try:
                self.render(sample)
            except Exception as error:
                # Whatever a template does to its values, it is the template that is wrong.
                raise _wrong(path, _line(error, path), _said(error)) from None

    def render(self, message: Message) -> str:
        """The text of a message.

        Raises:
          Exception: whatever the template runs into; with these names no default one does.
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
        """Refuse a name that nothing has, also where no sample would come by."""
        own = {n.name for n in tree.find_all(nodes.Name) if n.ctx in ("store", "param")}
        own |= {macro.name for macro in tree.find_all(nodes.Macro)}
        known = {*VARIABLES, *own, "loop", "range", "dict", "namespace", "joiner", "cycler", "self"}
        for name in tree.find_all(nodes.Name):
            if name.ctx == "load" and name.name not in {*known, "caller", "varargs", "kwargs"}:
                told = f"there is no {name.name!r} (there are {', '.join(VARIABLES)})"
                raise _wrong(path, name.lineno, told)


def read_template(
    where: str,
    path: str,
    fields: tuple[str, ...] = FIELDS,
    *,
    html: bool = False,
    finalize: Finalize | None = None,
) -> MessageTemplate:
    """A template of the user's; arguments as of `MessageTemplate`, and

    Args:
      where: what named the file, for messages.
      path: of the file.
      fields: as there.
      html: as there.
      finalize: as there.

    Raises:
      FraudError: the file cannot be read, or the template is wrong.
    """
    try:
        source = Path(path).expanduser().read_text("utf-8")
    except OSError as error:
        raise FraudError(f"{where}: template {path}: {error.strerror}") from None
    except UnicodeError:
        raise FraudError(f"{where}: template {path}: not text in UTF-8") from None
    try:
        return MessageTemplate(source, path, fields, html=html, finalize=finalize)
    except FraudError as error:
        raise FraudError(f"{where}: template {error}") from None


@cache
def default_template(name: str, fields: tuple[str, ...] = FIELDS) -> MessageTemplate:
    """A template of the package: `message.txt`, `message.html` or `frame.html`."""
    source = (files("beam_fraud.alerts") / "templates" / name).read_text("utf-8")
    return MessageTemplate(source, name, fields, html=name.endswith(".html"))


def _wrong(path: str, line: int | None, said: str) -> FraudError:
    place = path if line is None else f"{path}, line {line}"
    return FraudError(f"{place}: {' '.join(said.split())}")


def _line(error: BaseException, path: str) -> int | None:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return lines[-1] if lines else None


def _said(error: Exception) -> str:
    text = str(error) or type(error).__name__
    # It says where the class of an object comes from, which is of no use to the author.
    text = text.replace("beam_fraud.alerts.wording.ShownAlert object", "alert")
    text = text.replace("beam_fraud.alerts.wording.ShownReason object", "reason")
    return text if isinstance(error, TemplateError) else f"{type(error).__name__}: {text}"
