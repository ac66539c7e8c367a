"""Connection settings of Kafka; pickled to every worker, so without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.text_file import read_text_file

#: Properties whose values are secret.
_SECRET = re.compile(
    r"(password|passphrase|secret|ssl\.key\.pem|private\.key\.pem|user\.info|auth\.token)$"
)
#: Prefixes of values that are read where they are used.
_FILE = "file:"
_REFERENCES = ("env:", _FILE)
#: Replacement of a secret in messages.
MASK = "***"


def is_secret(name: str) -> bool:
    """Return whether the value of a property must not appear in logs and messages.

    Example:
      >>> is_secret("sasl.password"), is_secret("ssl.ca.location")
      (True, False)
    """
    return _SECRET.search(name) is not None


def is_reference(value: str) -> bool:
    """Return whether `value` is a reference to the value."""
    return value.startswith(_REFERENCES)


def parse_properties(option: str, texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Split `KEY=VALUE` at the first equals sign; the last of repeated keys wins.

    Args:
      option: name of the option, for messages.
      texts: the properties.

    Raises:
      UsageError: one has another form. The message does not show its value.

    Example:
      >>> parse_properties("--kafka-config", ["security.protocol=SSL"])
      (('security.protocol', 'SSL'),)
    """
    properties: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            # The whole text may be a secret.
            raise UsageError(f"{option}: a property is written KEY=VALUE", Code.KAFKA_PROPERTY)
        if not name:
            raise UsageError(
                f"{option}: a property has no name before its '='", Code.KAFKA_PROPERTY
            )
        properties[name] = value.strip()
    return tuple(properties.items())


def refuse_property(option: str, name: str, value: str, own_options: Mapping[str, str]) -> None:
    """Refuse a property that has an option of its own, or holds a secret in plain text.

    Args:
      option: option of the property, for messages.
      name: its name.
      value: its value, or a reference to it.
      own_options: names of properties to the options that set them.

    Raises:
      UsageError: it is refused. The message does not show its value.
    """
    if name in own_options:
        raise UsageError(f"{option} {name}: give {own_options[name]} for it", Code.KAFKA_PROPERTY)
    if is_secret(name) and not is_reference(value):
        raise UsageError(
            f"{option} {name}: other users can read a secret on the command line; "
            f"write {name}=env:NAME or {name}=file:PATH",
            Code.SECRET_EXPOSED,
        )


def read_properties(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the properties in a file of `key=value` lines, with comments after `#` or `!`.

    Raises:
      FraudError: it cannot be read, or a line is no property; the message does not show the line.
    """
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeError) as error:
        raise FraudError(f"--kafka-properties {path}: {_why(error)}", Code.KAFKA_PROPERTY) from None
    return parse_properties(f"--kafka-properties {path}", _without_comments(lines))


def resolve(name: str, value: str) -> str:
    """Resolve a reference, `env:NAME` or `file:PATH`; return other values unchanged.

    Args:
      name: name of the property, for messages.
      value: the value or reference.

    Raises:
      FraudError: the variable or file does not exist here.
    """
    kind, _, place = value.partition(":")
    if not is_reference(value):
        return value
    if kind == "env":
        if place not in os.environ:
            raise FraudError(
                f"Kafka property {name}: the variable {place} is not set", Code.VARIABLE_UNSET
            )
        return os.environ[place]
    try:
        return read_text_file(Path(place)).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise FraudError(
            f"Kafka property {name}: {place}: {_why(error)}", Code.SECRET_UNREADABLE
        ) from None


def files_of(properties: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the names of properties to the files that hold their values."""
    return {
        name: value.removeprefix(_FILE) for name, value in properties if value.startswith(_FILE)
    }


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
#: Properties that the stream itself sets; users must not.
_OF_CONSUMERS = {
    # Offsets are committed once the results of the messages are durable.
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    # Without this event, offsets without messages up to a partition's end would be unknown.
    "enable.partition.eof": "true",
    # Report lost messages before reading continues.
    "auto.offset.reset": "error",
    "allow.auto.create.topics": "false",
}
_OWN_OPTIONS = {"bootstrap.servers": "--kafka", "metadata.broker.list": "--kafka"}
#: Defaults for streams in place of librdkafka's; properties of the user win.
_PREFERRED = {
    # Reconnect a second after a broker is back, not ten.
    "reconnect.backoff.max.ms": "1000",
    # A full queue drains in less than the default wait of a second.
    "fetch.queue.backoff.ms": "10",
    # A broker answers requests of a connection in order, so others wait for a waiting fetch.
    "fetch.wait.max.ms": "100",
}


@dataclass(frozen=True)
class KafkaSettings:
    """Brokers and properties of librdkafka.

    Properties have librdkafka's names. A value may be `env:NAME` or `file:PATH`, which is read
    where a client is created; outside the properties file, a secret must be such a reference.

    Raises:
      UsageError: no brokers, a secret in plain text, or a property that the stream itself sets;
        later, where a client is created, no consumer group.
    """

    #: `HOST:PORT`, comma-separated.
    bootstrap: str
    #: Names and values; they override the file's.
    properties: tuple[tuple[str, str], ...] = ()
    #: Absolute path of a file of further properties, read where a client is created.
    properties_file: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        ports = (broker.rpartition(":")[2] for broker in self.bootstrap.split(","))
        if not _BROKERS.fullmatch(self.bootstrap) or any(int(port) > 65_535 for port in ports):
            raise UsageError(
                "--kafka: brokers are written HOST:PORT, several with commas", Code.OPTION_VALUE
            )
        for name, value in self.properties:
            refuse_property("--kafka-config", name, value, _OWN_OPTIONS)
            if name in _OF_CONSUMERS:
                raise UsageError(
                    f"--kafka-config {name}: the stream sets it itself, leave it out",
                    Code.KAFKA_PROPERTY,
                )

    @classmethod
    def parse(
        cls, bootstrap: str, config: Sequence[str] = (), properties_file: Path | None = None
    ) -> KafkaSettings:
        """Return the settings of the options; `check` reads the file.

        Args:
          bootstrap: value of `--kafka`.
          config: `KEY=VALUE` values of `--kafka-config`.
          properties_file: value of `--kafka-properties`.

        Raises:
          UsageError: as in the class, or a property has another form.
        """
        path = None if properties_file is None else str(properties_file.expanduser().absolute())
        return cls(bootstrap, parse_properties("--kafka-config", config), path)

    @classmethod
    def of(
        cls, bootstrap: str, config: Sequence[str] = (), properties_file: Path | None = None
    ) -> KafkaSettings:
        """Return the checked settings of the options.

        Raises:
          UsageError: as `parse` and `check`.
          FraudError: the file cannot be read.
        """
        settings = cls.parse(bootstrap, config, properties_file)
        settings.check()
        return settings

    def check(self) -> None:
        """Check that the file of properties can be read here.

        Raises:
          UsageError: a line is no property.
          FraudError: it cannot be read.
        """
        if self.properties_file is not None:
            read_properties(Path(self.properties_file))

    @property
    def files(self) -> dict[str, str]:
        """Names of properties to the files that hold their values."""
        return files_of(self.properties)

    def group(self, default: str) -> str:
        """Return the consumer group: `group.id` of the properties, or `default`.

        Raises:
          FraudError: the file or a value cannot be read.
        """
        return self._resolved().get("group.id", default)

    def consumer_config(self, group: str) -> dict[str, str]:
        """Return the properties of a consumer, with secrets.

        Args:
          group: the consumer group, unless `group.id` is set.

        Raises:
          FraudError: the file or a value cannot be read.
        """
        properties = self._resolved()
        own = {**_OF_CONSUMERS, "bootstrap.servers": self.bootstrap}
        return {**_PREFERRED, "group.id": group, **properties, **own}

    def producer_config(self) -> dict[str, str]:
        """Return the properties of a producer, with secrets; errors as in `consumer_config`."""
        preferred = {"reconnect.backoff.max.ms": _PREFERRED["reconnect.backoff.max.ms"]}
        return {**preferred, **self._resolved(), "bootstrap.servers": self.bootstrap}

    def admin_config(self) -> dict[str, str]:
        """Return the properties of an admin client, with secrets; errors as for consumers."""
        return self.producer_config()

    def describe(self) -> str:
        """Return the settings for messages, without secrets or their places.

        Example:
          >>> KafkaSettings.of("kafka:9092", ["sasl.password=env:PASSWORD"]).describe()
          'kafka:9092 (sasl.password=***)'
        """
        shown = [f"{name}={MASK if is_secret(name) else value}" for name, value in self.properties]
        if self.properties_file is not None:
            shown.append(f"properties of {self.properties_file}")
        return f"{self.bootstrap} ({', '.join(shown)})" if shown else self.bootstrap

    def without_secrets(self, text: str) -> str:
        """Mask the secrets in a text of the library."""
        for name, value in self._resolved().items():
            if is_secret(name) and value:
                text = text.replace(value, MASK)
        return text

    def _resolved(self) -> dict[str, str]:
        properties = (
            dict(read_properties(Path(self.properties_file))) if self.properties_file else {}
        )
        properties |= dict(self.properties)
        resolved = {name: resolve(name, value) for name, value in properties.items()}
        if not resolved.get("group.id", "-"):
            # librdkafka would end the process.
            raise UsageError("--kafka-config group.id: the value is empty", Code.OPTION_VALUE)
        return resolved
