"""A Kafka broker of one node on this machine, for trials and tests of streams.

python -m deploy.kafka.broker --data DIR [--port N] [--topic NAME[:PARTITIONS]]... [--heap SIZE]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from beam_fraud.errors import Code, FraudError, UsageError
from deploy.data_directory import held
from deploy.java import cache_directory, class_path, program
from deploy.ports import free_port, is_free, port
from deploy.process import ServerProcess
from deploy.stopped import until_stopped

try:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError as error:
    sys.exit(f"beam-fraud: Kafka needs a client library ({error}): pip install -e '.[kafka]'")

HERE = Path(__file__).parent
#: Seconds that a broker may take until it answers; five are usual.
START_SECONDS = 90.0
#: What formatting writes; the last one makes a directory a formatted one.
_FORMATTED = ("bootstrap.checkpoint", "meta.properties")
#: Seconds that the broker may take for one request.
REQUEST_SECONDS = 30.0


class Broker:
    """A broker and its data; it can stop and start again at the same address.

    Only this machine reaches it. As a context manager it runs inside the `with`.
    """

    #: Where clients connect: "127.0.0.1:PORT".
    bootstrap: str
    port: int

    def __init__(
        self,
        data: Path,
        port: int | None = None,
        *,
        heap: str = "512m",
        sasl: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a broker; `start` starts it.

        Args:
          data: Directory of the messages, the settings and the log; made if absent.
          port: Port for clients; a free one by default.
          heap: Memory of the broker, as Java writes it.
          sasl: Passwords by user; if there are any, clients must log in by SASL/PLAIN.
        """
        self._data = data.absolute()
        self._heap = heap
        self._sasl = dict(sasl or {})
        self.port = port or free_port()
        self._process: ServerProcess | None = None
        self.bootstrap = f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None if this object has not started it."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The broker's warnings and errors."""
        return self._data / "broker.log"

    @property
    def client(self) -> dict[str, str]:
        """Return settings of librdkafka for this broker, with the login of the first user."""
        settings = {"bootstrap.servers": self.bootstrap}
        if self._sasl:
            user, password = next(iter(self._sasl.items()))
            settings |= {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
            settings |= {"sasl.username": user, "sasl.password": password}
        return settings

    def start(self) -> None:
        """Start the broker and wait until it responds.

        Raises:
          FraudError: Java or Maven is missing, the port is taken, or the broker ends or stays
            silent.
        """
        assert self._process is None, "the broker runs already"
        if not is_free(self.port):
            raise FraudError(
                f"{self.bootstrap}: something listens there already; "
                "stop it or choose another port",
                Code.PORT_UNUSABLE,
            )
        java = [program("java"), f"-Xmx{self._heap}", "-XX:+UseSerialGC"]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        java += ["-cp", class_path(HERE / "pom.xml")]
        settings = self._write_settings()
        self._format(java, settings)
        self._process = ServerProcess(
            "Kafka broker", [*java, "kafka.Kafka", str(settings)], self.log
        )
        self._process.start()
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the broker if it runs."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill the broker if it runs, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def wait(self) -> None:
        """Wait until the broker ends.

        Raises:
          FraudError: It ended before it was stopped.
        """
        assert self._process is not None, "the broker doesn't run"
        self._process.wait()

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic and wait until it accepts messages.

        Args:
          name: Its name.
          partitions: How many partitions it has.
          config: Kafka's settings of a topic, such as `retention.ms`.

        Raises:
          FraudError: There is such a topic, the name is none, or a setting is unknown.
        """
        admin = self._admin()
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        try:
            admin.create_topics([topic])[name].result(REQUEST_SECONDS)
        except KafkaException as error:
            raise FraudError(
                f"{self.bootstrap}: topic {name!r}: {error.args[0].str()}", Code.TOPIC_FAILED
            ) from None
        deadline = time.monotonic() + REQUEST_SECONDS
        while True:
            present = admin.list_topics(name, REQUEST_SECONDS).topics[name].partitions
            if len(present) == partitions and all(part.leader == 1 for part in present.values()):
                return
            if time.monotonic() > deadline:
                raise FraudError(
                    f"{self.bootstrap}: topic {name!r} has no leader: see {self.log}",
                    Code.TOPIC_FAILED,
                )
            time.sleep(0.02)

    def topics(self) -> dict[str, int]:
        """Return every topic with its number of partitions."""
        metadata = self._admin().list_topics(timeout=REQUEST_SECONDS).topics
        return {name: len(topic.partitions) for name, topic in metadata.items()}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _admin(self) -> AdminClient:
        # Quick to connect again, and silent about a broker that isn't there yet.
        patience = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 100, "log_level": 0}
        return AdminClient({**self.client, **patience})

    def _write_settings(self) -> Path:
        # The controller serves this broker alone, so any port does, and another one each time.
        controller = f"127.0.0.1:{free_port()}"
        protocol = "SASL_PLAINTEXT" if self._sasl else "PLAINTEXT"
        lines = [
            f"listeners=CLIENT://{self.bootstrap},CONTROLLER://{controller}",
            f"listener.security.protocol.map=CLIENT:{protocol},CONTROLLER:PLAINTEXT",
            f"controller.quorum.voters=1@{controller}",
            f"log.dirs={self._data / 'logs'}",
        ]
        if self._sasl:
            lines += ["sasl.enabled.mechanisms=PLAIN"]
            lines += ["sasl.mechanism.inter.broker.protocol=PLAIN"]
            lines += [f"listener.name.client.plain.sasl.jaas.config={_login_module(self._sasl)}"]
        self._data.mkdir(parents=True, exist_ok=True)
        settings = self._data / "server.properties"
        # It may hold passwords.
        settings.touch(mode=0o600)
        fixed = (HERE / "server.properties").read_text("utf-8")
        settings.write_text(fixed + "\n".join(lines) + "\n", "utf-8")
        return settings

    def _format(self, java: Sequence[str], settings: Path) -> None:
        """Format the directory of a new broker.

        The user's cache keeps the files for the next new one: Kafka takes seconds to make them.
        """
        logs = self._data / "logs"
        if (logs / _FORMATTED[-1]).exists():
            return
        sources = ((HERE / name).read_bytes() for name in ("pom.xml", "server.properties"))
        kept = cache_directory() / f"kafka-{hashlib.sha256(b''.join(sources)).hexdigest()[:12]}"
        if not kept.exists():
            storage = ["kafka.tools.StorageTool", "format", "--cluster-id", "beam-fraud"]
            with self.log.open("ab") as log:
                command = [*java, *storage, "--config", str(settings)]
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
            # Without a cache that can be written, and after a failure, it is done again.
            with suppress(OSError), tempfile.TemporaryDirectory(dir=kept.parent) as directory:
                made = Path(directory) / "made"
                made.mkdir()
                for name in _FORMATTED:
                    shutil.copy(logs / name, made)
                made.rename(kept)
            return
        # Kafka says what is in the way.
        with suppress(OSError):
            logs.mkdir(parents=True, exist_ok=True)
            for name in _FORMATTED:
                shutil.copy(kept / name, logs)

    def _wait_until_it_answers(self, process: ServerProcess) -> None:
        admin = self._admin()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if admin.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                pass
            process.refuse_ended()
            if time.monotonic() > deadline:
                raise FraudError(
                    f"no Kafka broker answers at {self.bootstrap}: see {self.log}",
                    Code.BROKER_SILENT,
                )


def _login_module(passwords: Mapping[str, str]) -> str:
    """Java's login settings, in a line of a properties file."""
    user, password = next(iter(passwords.items()))
    if not all(text.isascii() and text.isalnum() for both in passwords.items() for text in both):
        raise UsageError(
            "users and passwords of a broker are of ASCII letters and digits", Code.BROKER_SECURITY
        )
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    known = [f'user_{name}="{secret}"' for name, secret in passwords.items()]
    return f'{module} required username="{user}" password="{password}" {" ".join(known)};'


def topic(text: str) -> tuple[str, int]:
    """Parse NAME[:PARTITIONS]."""
    name, _, partitions = text.partition(":")
    return name, int(partitions or 1)


def main() -> int:
    """Run a broker until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run a Kafka broker to try streams out with.")
    parser.add_argument("--data", type=Path, required=True, help="directory of its messages")
    parser.add_argument("--port", type=port, default=9092)
    parser.add_argument("--heap", default="512m", help="memory of the broker, as in 512m")
    parser.add_argument(
        "--topic",
        type=topic,
        action="append",
        default=[],
        metavar="NAME[:PARTITIONS]",
        help="create a topic unless there is one; may be repeated",
    )
    options = parser.parse_args()

    def serve() -> None:
        with (
            held(options.data),
            Broker(options.data, options.port, heap=options.heap) as broker,
        ):
            present = broker.topics()
            for name, partitions in options.topic:
                if name not in present:
                    broker.create_topic(name, partitions)
            print(f"Kafka answers at {broker.bootstrap}; Ctrl-C stops it", file=sys.stderr)
            broker.wait()

    return until_stopped(serve)


if __name__ == "__main__":
    sys.exit(main())
