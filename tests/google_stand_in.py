"""A stand-in for Cloud Storage and other services of Google on this machine."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import google_crc32c
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PROJECT = "my-project"
TOKEN = "stand-in-token"


class RefusedError(Exception):
    """An error response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class GoogleStandIn:
    """The objects of the server and its requests."""

    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    objects: dict[str, bytes] = field(default_factory=dict)
    #: Objects that are being uploaded, by the ids of their uploads.
    uploads: dict[str, tuple[str, bytearray]] = field(default_factory=dict)
    #: The checksum of each object when it was last described, and how often it has changed.
    versions: dict[str, tuple[str, int]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    #: Refused requests: a pattern of `METHOD path`, the status and how many more times.
    refusals: list[list[Any]] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)
    url: str = ""

    def refuse(self, pattern: str, status: int, times: int = 1) -> None:
        """Refuse the next requests that match."""
        self.refusals.append([re.compile(pattern), status, times])

    def asked(self, pattern: str) -> list[Any]:
        """Return bodies of the requests that match `METHOD path`."""
        result = re.compile(pattern)
        return [body for method, path, body in self.requests if result.search(f"{method} {path}")]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """Return the response to one request, as JSON or bytes."""
        given = json.loads(body) if body[:1] == b"{" and "upload" not in path else {}
        self.requests.append((method, path, given))
        self.see(method, path)
        if path == "/token":
            return {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        path = path.removeprefix("/download")
        if path.startswith("/storage/"):
            return self._storage(method, path, query)
        return self.service(method, path, query, given)

    def see(self, method: str, path: str) -> None:
        """Refuse a request if the test says so."""
        for refusal in self.refusals:
            if refusal[2] and refusal[0].search(f"{method} {path}"):
                refusal[2] -= 1
                raise RefusedError(refusal[1], "Refused by the test")

    def service(self, method: str, path: str, query: dict[str, str], given: Any) -> Any:
        """Answer a request to another service."""
        raise RefusedError(501, f"{method} {path} is not made")

    def close(self) -> None:
        """Free the resources."""

    def _storage(self, method: str, path: str, query: dict[str, str]) -> Any:
        path, _, to = path.partition("/copyTo/b/")
        bucket, _, name = path.removeprefix("/storage/v1/b/").partition("/o")
        name = f"{bucket}{unquote(name)}"
        if bucket not in self.buckets:
            raise RefusedError(404, f"The bucket {bucket} is not there")
        if method == "GET" and name == bucket and path.endswith("/o"):
            result = [
                key for key in self.objects if key.startswith(f"{bucket}/{query.get('prefix', '')}")
            ]
            return {"items": [self._metadata(key) for key in result]}
        if method == "GET" and name == bucket:
            return {"name": bucket, "id": bucket}
        if name not in self.objects:
            raise RefusedError(404, f"No such object: {name}")
        if method == "DELETE":
            del self.objects[name]
            return {}
        if to:
            copied = unquote(to.replace("/o/", "/", 1))
            self.objects[copied] = self.objects[name]
            return self._metadata(copied)
        return self.objects[name] if query.get("alt") == "media" else self._metadata(name)

    def _metadata(self, key: str) -> dict[str, Any]:
        bucket, _, name = key.partition("/")
        data = self.objects[key]
        checksum = b64encode(google_crc32c.Checksum(data).digest()).decode()
        known, version = self.versions.get(key, (checksum, 0))
        version += known != checksum
        self.versions[key] = checksum, version
        return {
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "updated": f"2024-01-01T{version // 60:02}:{version % 60:02}:00Z",
            # Clients compare it with what they sent.
            "crc32c": checksum,
        }

    def upload(self, upload: str, body: bytes, content_range: str) -> str | None:
        """Keep a piece of an object, which appears with the last; return its key then."""
        key, data = self.uploads[upload]
        data += body
        if content_range.endswith("/*"):
            return None
        self.objects[key] = bytes(data)
        del self.uploads[upload]
        return key


Held = TypeVar("Held", bound=GoogleStandIn)


@contextmanager
def running(directory: Path, stand_in: Held) -> Iterator[tuple[Held, dict[str, str]]]:
    """Serve on a free port; yield the stand-in and the environment for its clients."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def handle_any(self) -> None:
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with stand_in.lock:
                try:
                    if split.path.startswith("/upload/"):
                        stand_in.see(self.command, split.path)
                        return self.upload(split.path, query, body)
                    if split.path.startswith("/batch/"):
                        return self.batch(body.decode())
                    allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                    if split.path != "/token" and not allowed:
                        raise RefusedError(401, "no token")
                    answer = stand_in.answer(self.command, split.path, query, body)
                except RefusedError as refused:
                    reason = {404: "notFound", 409: "duplicate", 503: "backendError"}
                    error = {"reason": reason.get(refused.status, "other"), "message": str(refused)}
                    said = {"code": refused.status, "message": str(refused), "errors": [error]}
                    return self.reply(refused.status, {"error": said})
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if wanted and isinstance(answer, bytes):
                start, whole = int(wanted[1]), len(answer)
                piece = answer[start : int(wanted[2] or whole) + 1]
                if not piece:
                    return self.reply(416, {})
                last = f"bytes {start}-{start + len(piece) - 1}/{whole}"
                return self.reply(206, piece, **{"Content-Range": last})
            self.reply(200, answer)

        def upload(self, path: str, query: dict[str, str], body: bytes) -> None:
            bucket = path.removeprefix("/upload/storage/v1/b/").removesuffix("/o")
            if self.command == "POST":
                key = f"{bucket}/{json.loads(body)['name']}"
                upload = uuid4().hex
                stand_in.uploads[upload] = key, bytearray()
                location = f"{stand_in.url}/upload/storage/v1/b/{bucket}/o?upload_id={upload}"
                return self.reply(200, {}, Location=location)
            upload = query["upload_id"]
            whole = stand_in.upload(upload, body, self.headers["Content-Range"])
            if whole is not None:
                return self.reply(200, stand_in._metadata(whole))
            self.reply(308, {}, Range=f"bytes=0-{len(stand_in.uploads[upload][1]) - 1}")

        def batch(self, body: str) -> None:
            done = []
            for url in re.findall(r"^DELETE (\S+) HTTP", body, re.MULTILINE):
                try:
                    stand_in.answer("DELETE", urlsplit(url).path, {}, b"")
                    said = "204 No Content"
                except RefusedError as refused:
                    said = f"{refused.status} Refused"
                done.append(f"Content-Type: application/http\r\n\r\nHTTP/1.1 {said}\r\n\r\n")
            parts = "".join(f"--part\r\n{one}\r\n" for one in done)
            self.reply(200, f"{parts}--part--".encode(), kind="multipart/mixed; boundary=part")

        def reply(
            self, status: int, answer: Any, kind: str = "application/json", **headers: str
        ) -> None:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield (
                stand_in,
                {
                    "STORAGE_EMULATOR_HOST": stand_in.url,
                    "GOOGLE_APPLICATION_CREDENTIALS": str(_account(directory, stand_in.url)),
                    "GOOGLE_CLOUD_PROJECT": PROJECT,
                    "NO_GCE_CHECK": "true",
                    # Nothing asks Google itself: this is no proxy, and refuses.
                    "HTTPS_PROXY": stand_in.url,
                },
            )
        finally:
            server.shutdown()
            stand_in.close()


def _account(directory: Path, url: str) -> Path:
    """Write the file of a service account whose tokens the stand-in issues."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = directory / "account.json"
    account = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": f"tests@{PROJECT}.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
    }
    file.write_text(json.dumps(account))
    return file
