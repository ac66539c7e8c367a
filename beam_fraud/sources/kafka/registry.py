"""A schema registry in Confluent's protocol: its settings, and schemas by their number."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast

from beam_fraud.errors import Code, FraudError, UsageError, install
from beam_fraud.sources.kafka.settings import (
    MASK,
    files_of,
    is_secret,
    parse_properties,
    refuse_property,
    resolve,
)
from beam_fraud.wording import first_line

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

_LOG = logging.getLogger(__name__)
#: Type: form of the messages of a schema.
Form = Literal["AVRO", "PROTOBUF", "JSON"]
T = TypeVar("T")
#: Seconds for which a registry that does not answer is asked again, and those between two attempts.
PATIENCE, _PAUSE = 120.0, 1.0
#: Seconds after which the registry is asked again for a number that it did not know.
_UNKNOWN_SECONDS = 60.0
#: Properties that the client takes and this program sets.
_OWN = {"url": "--schema-registry"}
#: Properties of the client that are numbers.
_NUMBERS = ("timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity")
#: Property of this program: how subjects are named; and the names by its value.
_STRATEGY = "subject.name.strategy"
_SUBJECTS = {"topic": "{topic}-value", "record": "{name}", "topic_record": "{topic}-{name}"}


@dataclass(frozen=True)
class RegistrySettings:
    """Address and properties of a schema registry; pickled to every worker, so without secrets.

    Properties have the names of confluent-kafka's client, and `subject.name.strategy` is `topic`,
    `record` or `topic_record`; values are as those of `KafkaSettings`.

    Raises:
      UsageError: the address is no URL or holds a password, or a secret is in plain text.
    """

    #: `http://` or `https://` URL.
    url: str
    #: Names and values.
    properties: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", self.url):
            raise UsageError(
                "--schema-registry: is written http://HOST:PORT or https://HOST:PORT; the login is "
                "--schema-registry-config basic.auth.user.info=env:NAME",
                Code.OPTION_VALUE,
            )
        for name, value in self.properties:
            refuse_property("--schema-registry-config", name, value, _OWN)
            if name == _STRATEGY and value not in _SUBJECTS:
                raise UsageError(
                    f"--schema-registry-config {name}: must be one of {', '.join(_SUBJECTS)}",
                    Code.KAFKA_PROPERTY,
                )

    @classmethod
    def parse(cls, url: str, config: Sequence[str]) -> RegistrySettings:
        """Return the settings of the options.

        Args:
          url: value of `--schema-registry`.
          config: `KEY=VALUE` values of `--schema-registry-config`.

        Raises:
          UsageError: as in the class, or a property has another form.
        """
        return cls(url, parse_properties("--schema-registry-config", config))

    @property
    def files(self) -> dict[str, str]:
        """Names of properties to the files that hold their values."""
        return files_of(self.properties)

    def subject(self, topic: str, name: str) -> str:
        """Return the subject of the messages of a topic.

        Args:
          topic: the topic.
          name: full name of the record.

        Example:
          >>> RegistrySettings("http://registry:8081").subject("scores", "beam_fraud.Scored")
          'scores-value'
        """
        strategy = dict(self.properties).get(_STRATEGY, "topic")
        return _SUBJECTS[strategy].format(topic=topic, name=name)

    def resolved(self) -> dict[str, str | float]:
        """Return the properties of a client, with secrets.

        Raises:
          FraudError: a variable or file does not exist.
        """
        properties: dict[str, str | float] = {}
        for name, reference in self.properties:
            value = resolve(name, reference)
            properties[name] = float(value) if name in _NUMBERS and value.isdigit() else value
        properties.pop(_STRATEGY, None)
        return {**properties, "url": self.url}

    def without_secrets(self, text: str) -> str:
        """Mask the secrets in a text of the library."""
        for name, value in self.resolved().items():
            if is_secret(name) and value:
                text = text.replace(str(value), MASK)
        return text


@dataclass(frozen=True)
class RegisteredSchema:
    """A schema, and those that it refers to."""

    #: Form of the messages.
    form: Form
    #: The schema: JSON, or for Protobuf a base64 `FileDescriptorProto`.
    text: str
    #: Name by which another schema refers to this one; empty for the schema of a message.
    name: str = ""
    #: The schemas that it refers to, each before those that refer to it.
    references: tuple[RegisteredSchema, ...] = ()


class SchemaRegistry:
    """The schemas of a registry, asked for once each."""

    def __init__(self, settings: RegistrySettings) -> None:
        """Make a client; nothing is asked yet.

        Raises:
          UsageError: the client refuses a property.
          FraudError: the extra is not installed, or a secret cannot be read.
        """
        self._settings = settings
        self._client = _client(settings)
        self._known: dict[int, RegisteredSchema] = {}
        #: Number to the time when the registry did not know it.
        self._unknown: dict[int, float] = {}
        #: Topic and name of a record to the number of its schema.
        self._numbers: dict[tuple[str, str], int] = {}

    def schema(self, number: int) -> RegisteredSchema | None:
        """Return the schema of a number; None if the registry has none.

        Raises:
          FraudError: the registry refuses the login, does not answer for `PATIENCE` seconds, or
            has no serialised form of a Protobuf schema.
        """
        if (known := self._known.get(number)) is not None:
            return known
        if time.monotonic() - self._unknown.get(number, -_UNKNOWN_SECONDS) < _UNKNOWN_SECONDS:
            return None
        found = self._ask(lambda: self._client.get_schema(number, fmt="serialized"))
        if found is None:
            self._unknown[number] = time.monotonic()
            return None
        self._known[number] = schema = self._with_references(found, "", {})
        return schema

    def number_of(self, topic: str, name: str, text: str) -> int:
        """Return the number of an Avro schema of messages, and register it at the first call.

        Args:
          topic: topic of the messages.
          name: full name of the record.
          text: the schema.

        Raises:
          FraudError: the registry refuses the schema or the login, or does not answer.
        """
        if (topic, name) not in self._numbers:
            from confluent_kafka.schema_registry import Schema

            subject = self._settings.subject(topic, name)
            number = self._ask(lambda: self._client.register_schema(subject, Schema(text, "AVRO")))
            if number is None:
                self._fail(f"it has no subject {subject}", Code.REGISTRY_REFUSED)
            self._numbers[topic, name] = number
        return self._numbers[topic, name]

    def check(self) -> None:
        """Check that the registry answers.

        Raises:
          FraudError: it does not, or refuses the login.
        """
        self._ask(self._client.get_schema_types, patience=0.0)

    def _with_references(
        self, found: Any, name: str, known: dict[str, RegisteredSchema]
    ) -> RegisteredSchema:
        """Return a schema and those that it refers to; add these to `known`, by name."""
        references: list[RegisteredSchema] = []
        for reference in found.references or ():
            if reference.name in known:
                continue
            inner = self._with_references(self._version(reference), reference.name, known)
            references += [*inner.references, RegisteredSchema(inner.form, inner.text, inner.name)]
            known[inner.name] = inner
        form = cast(Form, found.schema_type or "AVRO")
        return RegisteredSchema(form, found.schema_str, name, tuple(references))

    def _version(self, reference: Any) -> Any:
        def get() -> Any:
            return self._client.get_version(
                reference.subject, reference.version, deleted=True, fmt="serialized"
            )

        if (found := self._ask(get)) is None:
            self._fail(
                f"it lacks version {reference.version} of {reference.subject}, which a schema "
                "refers to",
                Code.REGISTRY_REFUSED,
            )
        return found.schema

    def _ask(self, question: Callable[[], T], patience: float = PATIENCE) -> T | None:
        """Return an answer; None if there is nothing of that name. Ask again while it is silent."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        until = time.monotonic() + patience
        told = False
        while True:
            try:
                return question()
            except SchemaRegistryError as error:
                status, why = error.http_status_code, error.error_message
                if status == 404:
                    return None
                if status in (401, 403):
                    self._fail(
                        f"it refuses the login ({status}); check basic.auth.user.info or "
                        "bearer.auth.token",
                        Code.REGISTRY_REFUSED,
                    )
                if status < 500 and status != 429:
                    self._fail(f"{why} ({status})", Code.REGISTRY_REFUSED)
            except Exception as error:
                why = first_line(error)
            if time.monotonic() >= until:
                self._fail(f"it does not answer ({why}); is it running?", Code.REGISTRY_SILENT)
            if not told:
                told = True
                shown = self._settings.without_secrets(str(why))
                _LOG.warning(
                    "schema registry %s does not answer (%s); messages wait for it",
                    *(self._settings.url, shown),
                )
            time.sleep(_PAUSE)

    def _fail(self, why: str, code: Code) -> NoReturn:
        shown = self._settings.without_secrets(why)
        raise FraudError(f"schema registry {self._settings.url}: {shown}", code)


def _client(settings: RegistrySettings) -> SchemaRegistryClient:
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise FraudError(
            f"--schema-registry needs packages ({error}): {install('registry')}",
            Code.EXTRA_MISSING,
        ) from None
    # The client logs every request at the level of information.
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return SchemaRegistryClient(settings.resolved())
    except (ValueError, TypeError, OSError) as error:
        shown = settings.without_secrets(first_line(error))
        raise UsageError(f"--schema-registry-config: {shown}", Code.KAFKA_PROPERTY) from None


@lru_cache(maxsize=4)
def registry_of(settings: RegistrySettings) -> SchemaRegistry:
    """Return the registry of this process."""
    return SchemaRegistry(settings)
