"""Channels of every kind and their output."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from deploy.kafka.broker import Broker
from tests.http_receiver import HttpReceiver
from tests.integration.kafka import read_all
from tests.smtp_server import SmtpServer


@dataclass(frozen=True)
class Arrived:
    """One received line, letter, post or record."""

    #: What a repeat has in common with it.
    key: str
    #: Transactions that it tells of.
    ids: list[str]
    #: All of it as text.
    text: str
    #: What of it is read as more than text.
    markup: str = ""


@dataclass
class Recipient:
    """A channel and its receiver."""

    url: str
    stream: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.channel = self.again()

    def again(self) -> Channel:
        """Return the channel of another run."""
        return parse_channel(self.url, self.stream)

    def arrived(self) -> list[Arrived]:
        raise NotImplementedError

    def break_it(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self.channel.close()

    def ids(self) -> list[str]:
        return [one for arrived in self.arrived() for one in arrived.ids]


class ConsoleRecipient(Recipient):
    def __init__(self) -> None:
        super().__init__("console:")

    def arrived(self) -> list[Arrived]:
        lines = self.stream.getvalue().splitlines()
        result = (re.findall(r" transaction=(\S+)", line) for line in lines)
        return [Arrived("".join(ids), ids, line) for ids, line in zip(result, lines, strict=True)]

    def break_it(self) -> None:
        self.stream.close()


class FileRecipient(Recipient):
    def __init__(self, directory: Path) -> None:
        self.path = directory / "new" / "alerts.jsonl"
        super().__init__(f"file:{self.path}")

    def arrived(self) -> list[Arrived]:
        if not self.path.exists():
            return []
        return [_record(line) for line in self.path.read_text().split("\n")[:-1]]

    def break_it(self) -> None:
        self.path.mkdir(parents=True)


class TopicRecipient(Recipient):
    def __init__(self, broker: Broker, topic: str) -> None:
        self.broker, self.topic = broker, topic
        super().__init__(f"kafka://{broker.bootstrap}/{topic}?config=message.timeout.ms=2000")

    def arrived(self) -> list[Arrived]:
        return [
            _record((message.value() or b"").decode(), (message.key() or b"").decode())
            for message in read_all(self.broker, self.topic)
        ]

    def break_it(self) -> None:
        self.channel.close()
        self.url = f"kafka://127.0.0.1:1/{self.topic}?config=message.timeout.ms=300"
        self.channel = self.again()


class SmtpRecipient(Recipient):
    def __init__(self) -> None:
        self.server = SmtpServer().start()
        address = f"127.0.0.1:{self.server.port}"
        super().__init__(f"smtp://{address}/?from=a@b.example&to=c@d.example&starttls=no")

    def arrived(self) -> list[Arrived]:
        result = []
        for letter in self.server.letters:
            assert sorted(letter.mail.keys()) == LETTER_HEADERS
            text, html = (part.get_content() for part in letter.mail.iter_parts())
            ids = re.findall(r"Transaction: (\S+)", text)
            head = "\n".join(str(value) for value in letter.mail.values())
            key = str(letter.mail["Message-ID"])
            result.append(Arrived(key, ids, f"{head}\n{text}\n{html}".replace("\r\n", "\n"), html))
        return result

    def break_it(self) -> None:
        self.server.stop()

    def end(self) -> None:
        super().end()
        self.server.stop()


LETTER_HEADERS = sorted(
    """Message-ID Date From To Subject Auto-Submitted MIME-Version Content-Type
    X-Beam-Fraud-Delivery X-Beam-Fraud-Kind X-Beam-Fraud-Alerts""".split()  # noqa: SIM905
)


class WebhookRecipient(Recipient):
    scheme = "http"

    def __init__(self) -> None:
        self.server = HttpReceiver().start()
        super().__init__(f"{self.scheme}://127.0.0.1:{self.server.port}/services/T0KEN")

    def arrived(self) -> list[Arrived]:
        result = []
        for post in self.server.taken:
            assert post.json["delivery_id"] == post.headers["Idempotency-Key"]
            ids = [alert["transaction_id"] for alert in post.json["alerts"]]
            result.append(Arrived(post.json["delivery_id"], ids, post.body.decode()))
        return result

    def break_it(self) -> None:
        self.server.stop()

    def end(self) -> None:
        super().end()
        self.server.stop()


class SlackRecipient(WebhookRecipient):
    scheme = "slack+http"

    def arrived(self) -> list[Arrived]:
        result = []
        for post in self.server.taken:
            blocks = [block["text"]["text"] for block in post.json["blocks"]]
            text = "\n".join([*blocks, post.json["text"]])
            (key,) = re.findall(r"delivery `(\S+)`", text)
            result.append(Arrived(key, re.findall(r"Transaction: `(\S+)`", text), text, text))
        return result


def _record(text: str, key: str | None = None) -> Arrived:
    record = json.loads(text)
    if "kind" in record:
        ids = [alert["transaction_id"] for alert in record["alerts"]]
        return Arrived(key or record["delivery_id"], ids, text)
    return Arrived(key or record.get("alert_id", text), [record["transaction_id"]], text)
