"""How the brokers are reached; pickled to every worker, so it holds no secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.schema.text_file import read_text_file

#: Properties whose values may appear nowhere.
_SECRET = re.compile(r"(password|passphrase|secret|ssl\.key\.pem|private\.key\.pem)$")
#: How a value is given that is read where it is used.
_REFERENCES = ("env:", "file:")
#: What stands for a secret.
MASK = "***"


def is_secret(name: str) -> bool:
    """Return whether the value of a property has to be kept from logs and messages.

    Example:
      >>> is_secret("sasl.password"), is_secret("ssl.ca.location")
      (True, False)
    """
    return _SECRET.search(name) is not None


def is_reference(value: str) -> bool:
    """Return whether `value` says where the value is."""
    return value.startswith(_REFERENCES)


def parse_properties(option: str, given: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Split `KEY=VALUE` at the first equals sign; of repeated keys the last counts.

    Args:
      option: what gave them, for messages.
      given: the properties.

    Raises:
      UsageError: one is written otherwise. What follows its key is not repeated.

    Example:
      >>> parse_properties("--kafka-config", ["security.protocol=SSL"])
      (('security.protocol', 'SSL'),)
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            # All of it may be a secret.
            raise UsageError(f"{option}: a property is written KEY=VALUE")
        if not name:
            raise UsageError(f"{option}: a property has no name before its '='")
        found[name] = value.strip()
    return tuple(found.items())


def read_properties(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the properties in a file of `key=value` lines, with comments after `#` or `!`.

    Raises:
      FraudError: it cannot be read, or a line is no property; the line itself is not repeated.
    """
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeError) as error:
        raise FraudError(f"--kafka-properties {path}: {_why(error)}") from None
    return parse_properties(f"--kafka-properties {path}", _without_comments(lines))


def resolve(name: str, value: str) -> str:
    """Return the value itself where `value` is a reference: `env:NAME` or `file:PATH`.

    Args:
      name: of the property, for messages.
      value: as given.

    Raises:
      FraudError: there is no such variable or file here.
    """
    kind, _, place = value.partition(":")
    if not is_reference(value):
        return value
    if kind == "env":
        if place not in os.environ:
            raise FraudError(f"Kafka property {name}: the variable {place} is not set")
        return os.environ[place]
    try:
        return read_text_file(Path(place)).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise FraudError(f"Kafka property {name}: {place}: {_why(error)}") from None


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text and not text.startswith(("#", "!")):
            yield text


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "not text in UTF-8" if isinstance(error, UnicodeError) else str(error)


_BROKERS = re.compile(r"[^\s,@/]+:[0-9]{1,5}(,[^\s,@/]+:[0-9]{1,5})*")
#: What the stream itself needs of its consumers, and must not be given.
_OF_CONSUMERS = {
    # Offsets are committed once what was made of the messages is durable.
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    # Without it nobody knows that the offsets up to the end of a partition hold no message.
    "enable.partition.eof": "true",
    # Messages that are gone are told of before reading goes on.
    "auto.offset.reset": "error",
    "allow.auto.create.topics": "false",
}
_GIVEN_OTHERWISE = {"bootstrap.servers": "--kafka", "metadata.broker.list": "--kafka"}
#: What serves a stream better than librdkafka's defaults; whoever gives others gets those.
_PREFERRED = {
    # Back a second after a broker is, and not ten.
    "reconnect.backoff.max.ms": "1000",
    # A full queue of messages is drained in less than the second that the default waits.
    "fetch.queue.backoff.ms": "10",
    # A broker answers the questions of a connection in turn, so others wait for a fetch that waits.
    "fetch.wait.max.ms": "100",
}


@dataclass(frozen=True)
class KafkaSettings:
    """Brokers and properties of librdkafka.

    The properties go by librdkafka's names. A value may be `env:NAME` or `file:PATH`, which is read
    where a client is made; a secret may not be given otherwise, but in the properties file.

    Raises:
      UsageError: no brokers, a secret in plain sight, or a property that the stream itself sets;
        later, where a client is made, no consumer group.
    """

    #: `HOST:PORT`, several with commas.
    bootstrap: str
    #: Names and values; they win over those of the file.
    properties: tuple[tuple[str, str], ...] = ()
    #: File of further properties, read where a client is made; its absolute path.
    properties_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        ports = (broker.rpartition(":")[2] for broker in self.bootstrap.split(","))
        if not _BROKERS.fullmatch(self.bootstrap) or any(int(port) > 65_535 for port in ports):
            raise UsageError("--kafka: brokers are written HOST:PORT, several with commas")
        for name, value in self.properties:
            if name in _GIVEN_OTHERWISE:
                raise UsageError(f"--kafka-config {name}: give {_GIVEN_OTHERWISE[name]} for it")
            if name in _OF_CONSUMERS:
                raise UsageError(f"--kafka-config {name}: the stream sets it itself, leave it out")
            if is_secret(name) and not is_reference(value):
                raise UsageError(
                    f"--kafka-config {name}: a secret on the command line is seen by others; "
                    f"write {name}=env:NAME or {name}=file:PATH"
                )

    @classmethod
    def of(
        cls, bootstrap: str, config: Sequence[str] = (), properties_file: Path | None = None
    ) -> KafkaSettings:
        """Return the settings that options give.

        Args:
          bootstrap: of `--kafka`.
          config: `KEY=VALUE` each, of `--kafka-config`.
          properties_file: of `--kafka-properties`.

        Raises:
          UsageError: as in the class, or a property is not written so.
          FraudError: the file cannot be read.
        """
        path = None if properties_file is None else properties_file.expanduser().absolute()
        if path is not None:
            read_properties(path)
        return cls(
            bootstrap,
            parse_properties("--kafka-config", config),
            None if path is None else str(path),
        )

    def group(self, default: str) -> str:
        """Return the consumer group: `group.id` of the properties, or `default`.

        Raises:
          FraudError: the file or a value cannot be read.
        """
        return self._given().get("group.id", default)

    def consumer_config(self, group: str) -> dict[str, str]:
        """Return the properties of a consumer, with secrets.

        Args:
          group: the consumer group unless `group.id` is given.

        Raises:
          FraudError: the file or a value cannot be read.
        """
        given = self._given()
        own = {**_OF_CONSUMERS, "bootstrap.servers": self.bootstrap}
        return {**_PREFERRED, "group.id": group, **given, **own}

    def producer_config(self) -> dict[str, str]:
        """Return the properties of a producer, with secrets; errors as in `consumer_config`."""
        preferred = {"reconnect.backoff.max.ms": _PREFERRED["reconnect.backoff.max.ms"]}
        return {**preferred, **self._given(), "bootstrap.servers": self.bootstrap}

    def admin_config(self) -> dict[str, str]:
        """The properties of an administrator, with secrets; errors as in `consumer_config`."""
        return self.producer_config()

    def describe(self) -> str:
        """Return the settings for people: no secret, nor where one is.

        Example:
          >>> KafkaSettings.of("kafka:9092", ["sasl.password=env:PASSWORD"]).describe()
          'kafka:9092 (sasl.password=***)'
        """
        shown = [f"{name}={MASK if is_secret(name) else value}" for name, value in self.properties]
        if self.properties_file is not None:
            shown.append(f"properties of {self.properties_file}")
        return f"{self.bootstrap} ({', '.join(shown)})" if shown else self.bootstrap

    def without_secrets(self, text: str) -> str:
        """`text` of the library, in which no secret is left."""
        for name, value in self._given().items():
            if is_secret(name) and value:
                text = text.replace(value, MASK)
        return text

    def _given(self) -> dict[str, str]:
        properties = (
            dict(read_properties(Path(self.properties_file))) if self.properties_file else {}
        )
        properties |= dict(self.properties)
        given = {name: resolve(name, value) for name, value in properties.items()}
        if not given.get("group.id", "-"):
            # librdkafka ends the process for it.
            raise UsageError("--kafka-config group.id: nothing was given, the value is empty")
        return given
