"""A schema registry in memory, for tests and benchmarks: part of Confluent's protocol."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

#: What a registry answers for what it does not have.
_NOT_FOUND = (404, {"error_code": 40403, "message": "not found"})


@dataclass
class StandIn:
    """The schemas of a registry, and how it answers."""

    #: Schemas by number, from 1.
    schemas: list[dict[str, Any]] = field(default_factory=list)
    #: Subject to the numbers of its versions.
    subjects: dict[str, list[int]] = field(default_factory=dict)
    #: `NAME:PASSWORD` that every request must have; None for any.
    login: str | None = None
    #: Status of all answers while it is broken; None if it is not.
    broken: int | None = None
    #: Whether it returns schemas of Protobuf as text.
    text_only: bool = False
    #: Requests.
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def add(
        self,
        text: str,
        form: str = "AVRO",
        subject: str = "",
        references: Sequence[tuple[str, str]] = (),
    ) -> int:
        """Register a schema, and return its number.

        Args:
          text: the schema.
          form: AVRO, PROTOBUF or JSON.
          subject: its subject, if another schema refers to it.
          references: name and subject of each schema that it refers to.
        """
        named = [{"name": name, "subject": of, "version": 1} for name, of in references]
        schema: dict[str, Any] = {"schema": text, "references": named}
        self.schemas.append(schema if form == "AVRO" else {**schema, "schemaType": form})
        if subject:
            self.subjects.setdefault(subject, []).append(len(self.schemas))
        return len(self.schemas)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and content of an answer."""
        place, _, _ = path.partition("?")
        if place == "/schemas/types":
            return 200, ["AVRO", "PROTOBUF", "JSON"]
        if found := re.fullmatch(r"/schemas/ids/(\d+)", place):
            return self._schema(int(found[1]))
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", place):
            numbers = self.subjects.get(unquote(found[1]), [])
            if not 1 <= int(found[2]) <= len(numbers):
                return _NOT_FOUND
            number = numbers[int(found[2]) - 1]
            status, schema = self._schema(number)
            return status, {**schema, "id": number, "version": 1, "subject": found[1]}
        if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", place)):
            return 200, self._registered(unquote(found[1]), body)
        return _NOT_FOUND

    def _registered(self, subject: str, body: Any) -> Any:
        """Return the number of a schema of a subject, and register a new one."""
        for version, number in enumerate(self.subjects.get(subject, []), 1):
            if self.schemas[number - 1]["schema"] == body["schema"]:
                return {"id": number, "version": version, "subject": subject, **body}
        names = [(one["name"], one["subject"]) for one in body.get("references") or ()]
        number = self.add(body["schema"], body.get("schemaType", "AVRO"), subject, names)
        return {"id": number, "version": len(self.subjects[subject]), "subject": subject, **body}

    def _schema(self, number: int) -> tuple[int, Any]:
        if not 1 <= number <= len(self.schemas):
            return _NOT_FOUND
        schema = self.schemas[number - 1]
        if self.text_only and schema.get("schemaType") == "PROTOBUF":
            return 200, {**schema, "schema": 'syntax = "proto3"; message Tx {}'}
        return 200, schema


@contextmanager
def schema_registry(tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """Run a registry on a free port, with TLS if it has a context."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET", None)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._answer("POST", json.loads(self.rfile.read(length)))

        def _answer(self, method: str, body: Any) -> None:
            stand_in.asked.append(f"{method} {self.path}")
            status, content = stand_in.answer(method, self.path, body)
            if stand_in.broken is not None:
                status, content = stand_in.broken, {"error_code": 50001, "message": "broken"}
            elif stand_in.login is not None and not self._has_login(stand_in.login):
                status, content = 401, {"error_code": 401, "message": "Unauthorized"}
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _has_login(self, login: str) -> bool:
            sent = self.headers.get("Authorization", "")
            return sent == f"Basic {base64.b64encode(login.encode()).decode()}"

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    stand_in.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
