"""A real receiver of webhooks on this machine with configurable faults."""

from __future__ import annotations

import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from deploy.kafka.broker import free_port


@dataclass
class Post:
    """A complete request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


@dataclass
class Answer:
    """The response to a request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    #: `drop` breaks the connection off without an answer, `stall` never answers, `drip` gives a
    #: byte of the header every `pace` seconds, `drip body` one of the body.
    how: str = ""
    pace: float = 0.05


@dataclass
class HttpReceiver:
    """Accepts posts unless a test says otherwise; counts them by `Idempotency-Key`."""

    context: ssl.SSLContext | None = None
    port: int = field(default_factory=free_port)
    #: How the next posts are answered.
    answers: list[Answer] = field(default_factory=list)
    #: How all others are.
    answer: Answer = field(default_factory=Answer)
    #: Share of posts that fail: half of them before they are taken, half after.
    fails: float = 0.0
    #: All that were answered with 2xx, or should have been.
    taken: list[Post] = field(default_factory=list)
    #: All that have come.
    posts: list[Post] = field(default_factory=list)
    #: How many connections have been made.
    connections: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(1)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._open: list[Any] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    @property
    def keys(self) -> Counter[str]:
        """Return how often each `Idempotency-Key` was accepted."""
        return Counter(post.headers.get("Idempotency-Key", "") for post in self.taken)

    def start(self) -> Self:
        """Listen at `port`."""
        self._done.clear()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with receiver._lock:
                    receiver.connections += 1
                    receiver._open.append(self.connection)

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Break all connections and stop listening."""
        self._done.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._lock:
            for connection in self._open:
                _break_off(connection)
            self._open.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        post = Post(handler.path, dict(handler.headers.items()), handler.rfile.read(length))
        if len(post.body) < length:
            # Whoever sent it has gone.
            handler.close_connection = True
            return
        with self._lock:
            answer = self.answers.pop(0) if self.answers else self.answer
            late = False
            if self._random.random() < self.fails:
                late = self._random.random() < 0.5
                answer = Answer(how="drop") if late else Answer(self._random.choice([500, 503]))
            self.posts.append(post)
            if late or (200 <= answer.status < 300 and not answer.how):
                self.taken.append(post)
        if answer.how == "stall":
            self._done.wait()
        if answer.how in ("drop", "stall"):
            handler.close_connection = True
            _break_off(handler.connection)
            return
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = f"HTTP/1.1 {answer.status} X\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        parts = [(head.encode(), answer.how == "drip"), (answer.body, answer.how == "drip body")]
        for part, drips in parts:
            if drips:
                for byte in part:
                    handler.wfile.write(bytes([byte]))
                    if self._done.wait(answer.pace):
                        return
            else:
                handler.wfile.write(part)


def _break_off(connection: Any) -> None:
    with suppress(OSError):
        connection.shutdown(2)
