"""A stand-in for BigQuery on this machine.

It answers what Beam's transform and Google's libraries ask of its REST interface, over tables of
DuckDB, which runs the same SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from tests import google_stand_in
from tests.google_stand_in import PROJECT, GoogleStandIn, RefusedError

TYPES = {
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "INTEGER": "BIGINT",
}


@dataclass
class StandIn(GoogleStandIn):
    """The tables of BigQuery, beside the objects of Cloud Storage."""

    datasets: set[str] = field(default_factory=lambda: {"fraud"})
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What a load job ends with, if not well.
    load_failure: str = ""
    inserted: set[tuple[str, str]] = field(default_factory=set)
    database: Any = field(default_factory=duckdb.connect)

    def rows(self, table: str, dataset: str = "fraud") -> list[dict[str, Any]]:
        """The contents of a table or view."""
        with self.lock:
            cursor = self.database.execute(f'SELECT * FROM "{PROJECT}.{dataset}.{table}"')
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def names(self) -> list[str]:
        """Return the names of all tables and views."""
        return sorted(name.rpartition(".")[2] for name in self.tables)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def service(self, method: str, path: str, query: dict[str, str], given: Any) -> Any:
        """Answer a request to BigQuery."""
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
            case ("PATCH", "datasets", dataset, "tables", table):
                return self._change(f"{parts[0]}.{dataset}.{table}", given)
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
                # One column is all that anyone selects.
                rows = [{"f": [{"v": str(row[0])}]} for row in self.answers[job]]
                text = any(isinstance(row[0], str) for row in self.answers[job])
                kind = "STRING" if text else "INTEGER"
                fields = [{"name": "f0_", "type": kind, "mode": "NULLABLE"}]
                total = str(len(rows))
                return {**done, "schema": {"fields": fields}, "rows": rows, "totalRows": total}
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

    def _change(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Add columns to a table, or replace the query of a view."""
        known = self._table(name)
        if "view" in given:
            self.database.execute(f'DROP VIEW "{name}"')
            self.database.execute(f'CREATE VIEW "{name}" AS {self._sql(given["view"]["query"])}')
        else:
            there = [column["name"] for column in known["schema"]["fields"]]
            for column in given["schema"]["fields"]:
                if column["name"] not in there:
                    self.database.execute(f'ALTER TABLE "{name}" ADD {self._column(column)}')
        known |= given
        return known

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
        """Return why BigQuery would refuse a row, or None."""
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
        accepted, errors = [], []
        for index, row in enumerate(given["rows"]):
            fault = self._fault(table, row["json"])
            if fault:
                errors.append({"index": index, "errors": [{"reason": "invalid", "message": fault}]})
            elif (table, row["insertId"]) not in self.inserted:
                self.inserted.add((table, row["insertId"]))
                accepted.append(row["json"])
        self._append(table, accepted)
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
                body = {p["name"]: self._value(p) for p in query.get("queryParameters", ())}
                answer = self.database.execute(self._sql(query["query"]), body or None).fetchall()
                self.answers[key] = answer
                affected = str(answer[0][0]) if answer else "0"
                job["statistics"]["query"]["numDmlAffectedRows"] = (
                    affected if affected.isdigit() else "0"
                )
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


@contextmanager
def running(directory: Path) -> Iterator[tuple[StandIn, dict[str, str]]]:
    """Serve on a free port; yield the stand-in and the environment for its clients."""
    with google_stand_in.running(directory, StandIn()) as (stand_in, environment):
        yield stand_in, {**environment, "BIGQUERY_EMULATOR_HOST": stand_in.url}
