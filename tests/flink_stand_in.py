"""A stand-in for Flink's REST API with the answers of a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FlinkStandIn:
    """The answers by path."""

    #: Where it listens: "127.0.0.1:PORT".
    address: str
    #: Path to what is answered as JSON.
    answers: dict[str, object] = field(default_factory=dict)

    def configure(self, **settings: str) -> None:
        """Set Flink's configuration; `__` stands for a dot."""
        rows = [{"key": k.replace("__", "."), "value": v} for k, v in settings.items()]
        self.answers["/jobmanager/config"] = rows


@contextmanager
def flink_stand_in(version: str = "1.19.3", slots: int = 2) -> Iterator[FlinkStandIn]:
    """Serve a Flink with free slots."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = stand_in.answers.get(self.path)
            body = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in = FlinkStandIn(f"127.0.0.1:{server.server_address[1]}")
    stand_in.answers["/config"] = {"flink-version": version}
    stand_in.answers["/overview"] = {
        "taskmanagers": 1,
        "slots-total": slots,
        "slots-available": slots,
        "flink-version": version,
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
