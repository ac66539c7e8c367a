"""A stand-in for BigQuery and Cloud Storage on this machine.

It answers what Beam's transform and Google's libraries ask of their REST interfaces, over tables of
DuckDB, which runs the same SQL.
"""

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
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import duckdb
import google_crc32c
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PROJECT = "my-project"
TOKEN = "stand-in-token"
TYPES = {
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "INTEGER": "BIGINT",
}


class RefusedError(Exception):
    """An answer that is none of success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class StandIn:
    """What the servers hold, and what they were asked."""

    datasets: set[str] = field(default_factory=lambda: {"fraud"})
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    #: Refused requests: a pattern of `METHOD path`, the status and how many more times.
    refusals: list[list[Any]] = field(default_factory=list)
    #: What a load job ends with, if not well.
    load_failure: str = ""
    inserted: set[tuple[str, str]] = field(default_factory=set)
    database: Any = field(default_factory=duckdb.connect)
    lock: RLock = field(default_factory=RLock)
    url: str = ""

    def refuse(self, pattern: str, status: int, times: int = 1) -> None:
        """Refuse the next requests that match."""
        self.refusals.append([re.compile(pattern), status, times])

    def asked(self, pattern: str) -> list[Any]:
        """Bodies of the requests that match `METHOD path`."""
        found = re.compile(pattern)
        return [body for method, path, body in self.requests if found.search(f"{method} {path}")]

    def rows(self, table: str, dataset: str = "fraud") -> list[dict[str, Any]]:
        """The contents of a table or view."""
        with self.lock:
            cursor = self.database.execute(f'SELECT * FROM "{PROJECT}.{dataset}.{table}"')
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def names(self) -> list[str]:
        """The tables and views that are there."""
        return sorted(name.rpartition(".")[2] for name in self.tables)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """The answer to one request, as JSON or bytes."""
        given = json.loads(body) if body[:1] == b"{" and "upload" not in path else {}
        self.requests.append((method, path, given))
        for refusal in self.refusals:
            if refusal[2] and refusal[0].search(f"{method} {path}"):
                refusal[2] -= 1
                raise RefusedError(refusal[1], "Refused by the test")
        if path == "/token":
            return {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        if path.startswith("/storage/"):
            return self._storage(method, path, query)
        parts = path.removeprefix("/bigquery/v2/projects/").split("/")
        match (method, *parts[1:]):
            case ("GET", "datasets", dataset):
                self._dataset(dataset)
                return {"datasetReference": {"projectId": parts[0], "datasetId": dataset}}
            case ("GET", "datasets", dataset, "tables"):
                self._dataset(dataset)
                inside = [
                    t for t in self.tables.values() if t["tableReference"]["datasetId"] == dataset
                ]
                return {"tables": [{"tableReference": t["tableReference"]} for t in inside]}
            case ("POST", "datasets", dataset, "tables"):
                return self._create(given)
            case ("GET", "datasets", dataset, "tables", table):
                return self._table(f"{parts[0]}.{dataset}.{table}")
            case ("DELETE", "datasets", dataset, "tables", table):
                self._table(f"{parts[0]}.{dataset}.{table}")
                self._drop(f"{parts[0]}.{dataset}.{table}")
                return {}
            case ("POST", "datasets", dataset, "tables", table, "insertAll"):
                return self._insert_all(f"{parts[0]}.{dataset}.{table}", given)
            case ("POST", "jobs"):
                return self._start(given)
            case ("GET", "jobs", job):
                return self._ended(self.jobs[job])
            case ("GET", "queries", job):
                done = {"jobReference": self.jobs[job]["jobReference"], "jobComplete": True}
                # One number is all that anyone selects.
                rows = [{"f": [{"v": str(row[0])}]} for row in self.answers[job]]
                fields = [{"name": "f0_", "type": "INTEGER", "mode": "NULLABLE"}]
                return {**done, "schema": {"fields": fields}, "rows": rows, "totalRows": "1"}
        raise RefusedError(501, f"{method} {path} is not made")

    def _dataset(self, dataset: str) -> None:
        if dataset not in self.datasets:
            raise RefusedError(404, f"Not found: Dataset {PROJECT}:{dataset}")

    def _table(self, name: str) -> dict[str, Any]:
        self._dataset(name.split(".")[1])
        if name not in self.tables:
            raise RefusedError(404, f"Not found: Table {name}")
        return self.tables[name]

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        of = given["tableReference"]
        name = f"{of['projectId']}.{of['datasetId']}.{of['tableId']}"
        self._dataset(of["datasetId"])
        if name in self.tables:
            raise RefusedError(409, f"Already Exists: Table {name}")
        if "view" in given:
            self.database.execute(f'CREATE VIEW "{name}" AS {self._sql(given["view"]["query"])}')
        else:
            columns = ", ".join(map(self._column, given["schema"]["fields"]))
            self.database.execute(f'CREATE TABLE "{name}" ({columns})')
        self.tables[name] = given
        return given

    def _drop(self, name: str) -> None:
        self.database.execute(f'DROP TABLE "{name}"')
        del self.tables[name]

    def _column(self, given: dict[str, Any]) -> str:
        kind = TYPES.get(given["type"]) or (
            f"STRUCT({', '.join(map(self._column, given['fields']))})"
        )
        many = "[]" if given["mode"] == "REPEATED" else ""
        needed = " NOT NULL" if given["mode"] == "REQUIRED" else ""
        return f'"{given["name"]}" {kind}{many}{needed}'

    def _sql(self, query: str) -> str:
        query = re.sub(r"IN UNNEST\((@\w+)\)", r"= ANY(\1)", query.replace("`", '"'))
        return query.replace("@", "$")

    def _value(self, parameter: dict[str, Any]) -> Any:
        value = parameter["parameterValue"]
        if "arrayValues" in value:
            return [one["value"] for one in value["arrayValues"]]
        return value["value"]

    def _fault(self, table: str, row: dict[str, Any]) -> str | None:
        """Why BigQuery would not take a row."""
        columns = {column["name"]: column for column in self.tables[table]["schema"]["fields"]}
        if row.keys() - columns.keys():
            return f"no such field: {', '.join(sorted(row.keys() - columns.keys()))}"
        for name, column in columns.items():
            if column["mode"] == "REQUIRED" and row.get(name) is None:
                return f"Missing required field: {name}"
            if column["mode"] == "REPEATED" and name in row and not isinstance(row[name], list):
                return f"Field is not an array: {name}"
        return None

    def _append(self, table: str, rows: list[dict[str, Any]]) -> None:
        names = [column["name"] for column in self.tables[table]["schema"]["fields"]]
        marks = ", ".join("?" for _ in names)
        for row in rows:
            values = [row.get(name) for name in names]
            self.database.execute(f'INSERT INTO "{table}" VALUES ({marks})', values)

    def _insert_all(self, table: str, given: dict[str, Any]) -> dict[str, Any]:
        self._table(table)
        taken, errors = [], []
        for index, row in enumerate(given["rows"]):
            fault = self._fault(table, row["json"])
            if fault:
                errors.append({"index": index, "errors": [{"reason": "invalid", "message": fault}]})
            elif (table, row["insertId"]) not in self.inserted:
                self.inserted.add((table, row["insertId"]))
                taken.append(row["json"])
        self._append(table, taken)
        return {"insertErrors": errors} if errors else {}

    def _start(self, job: dict[str, Any]) -> dict[str, Any]:
        key = job["jobReference"]["jobId"]
        if key in self.jobs:
            raise RefusedError(409, f"Already Exists: Job {PROJECT}:US.{key}")
        job["jobReference"]["location"] = "US"
        job |= {"id": f"{PROJECT}:US.{key}", "status": {"state": "PENDING"}}
        self.jobs[key] = job
        # A load job takes its time: it begins when someone asks how it goes.
        return job if "load" in job["configuration"] else self._ended(job)

    def _ended(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["status"]["state"] == "DONE":
            return job
        job["status"]["state"] = "DONE"
        key = job["jobReference"]["jobId"]
        try:
            if "load" in job["configuration"]:
                self._load(job["configuration"]["load"])
            else:
                job["statistics"] = {"query": {"statementType": "MERGE"}}
                if job["configuration"].get("dryRun"):
                    return job
                query = job["configuration"]["query"]
                given = {p["name"]: self._value(p) for p in query.get("queryParameters", ())}
                answer = self.database.execute(self._sql(query["query"]), given or None).fetchall()
                self.answers[key] = answer
                job["statistics"]["query"]["numDmlAffectedRows"] = str(answer[0][0])
        except (RefusedError, KeyError, duckdb.Error) as error:
            reason = {"reason": "invalid", "message": str(error)}
            job["status"] |= {"errorResult": reason, "errors": [reason]}
        return job

    def _load(self, load: dict[str, Any]) -> None:
        if self.load_failure:
            raise RefusedError(400, self.load_failure)
        of = load["destinationTable"]
        table = f"{of['projectId']}.{of['datasetId']}.{of['tableId']}"
        self._table(table)
        rows = []
        for uri in load["sourceUris"]:
            for line in self.objects[uri.removeprefix("gs://")].splitlines():
                rows.append(json.loads(line))
        faults = [fault for row in rows if (fault := self._fault(table, row))]
        if faults:
            raise RefusedError(400, faults[0])
        self._append(table, rows)

    def _storage(self, method: str, path: str, query: dict[str, str]) -> Any:
        bucket, _, name = path.removeprefix("/storage/v1/b/").partition("/o")
        name = f"{bucket}{unquote(name)}"
        if bucket not in self.buckets:
            raise RefusedError(404, f"The bucket {bucket} is not there")
        if method == "GET" and name == bucket and path.endswith("/o"):
            found = [
                key for key in self.objects if key.startswith(f"{bucket}/{query.get('prefix', '')}")
            ]
            return {"items": [self._metadata(key) for key in found]}
        if method == "GET" and name == bucket:
            return {"name": bucket, "id": bucket}
        if name not in self.objects:
            raise RefusedError(404, f"No such object: {name}")
        if method == "DELETE":
            del self.objects[name]
            return {}
        return self.objects[name] if query.get("alt") == "media" else self._metadata(name)

    def _metadata(self, key: str) -> dict[str, Any]:
        bucket, _, name = key.partition("/")
        data = self.objects[key]
        return {
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "updated": "2024-01-01T00:00:00Z",
            # Clients compare it with what they sent.
            "crc32c": b64encode(google_crc32c.Checksum(data).digest()).decode(),
        }

    def upload(self, key: str, body: bytes, content_range: str) -> bool:
        """Take a piece of an object; whether it was the last."""
        self.objects[key] = self.objects.get(key, b"") + body
        return not content_range.endswith("/*")


@contextmanager
def running(directory: Path) -> Iterator[tuple[StandIn, dict[str, str]]]:
    """Serve on a free port; yields what is held, and the environment that leads clients there."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def handle_any(self) -> None:
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with stand_in.lock:
                if split.path.startswith("/upload/"):
                    return self.upload(split.path, query, body)
                if split.path.startswith("/batch/"):
                    return self.batch(body.decode())
                try:
                    allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                    if split.path != "/token" and not allowed:
                        raise RefusedError(401, "no token")
                    answer = stand_in.answer(self.command, split.path, query, body)
                except RefusedError as refused:
                    reason = {404: "notFound", 409: "duplicate", 503: "backendError"}
                    error = {"reason": reason.get(refused.status, "other"), "message": str(refused)}
                    said = {"code": refused.status, "message": str(refused), "errors": [error]}
                    return self.reply(refused.status, {"error": said})
            self.reply(200, answer)

        def upload(self, path: str, query: dict[str, str], body: bytes) -> None:
            bucket = path.removeprefix("/upload/storage/v1/b/").removesuffix("/o")
            if self.command == "POST":
                key = f"{bucket}/{json.loads(body)['name']}"
                stand_in.objects.pop(key, None)
                location = f"{stand_in.url}/upload/storage/v1/b/{bucket}/o?upload_id={key}"
                return self.reply(200, {}, Location=location)
            key = query["upload_id"]
            content_range = self.headers["Content-Range"]
            if stand_in.upload(key, body, content_range):
                return self.reply(200, stand_in._metadata(key))
            self.reply(308, {}, Range=f"bytes=0-{len(stand_in.objects[key]) - 1}")

        def batch(self, body: str) -> None:
            done = []
            for url in re.findall(r"^DELETE (\S+) HTTP", body, re.MULTILINE):
                stand_in.answer("DELETE", urlsplit(url).path, {}, b"")
                done.append("Content-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
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

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield (
                stand_in,
                {
                    "BIGQUERY_EMULATOR_HOST": stand_in.url,
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
            stand_in.database.close()


def _account(directory: Path, url: str) -> Path:
    """The file of a service account whose tokens the stand-in gives out."""
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
