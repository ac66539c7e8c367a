"""Names, columns and SQL statements of BigQuery tables."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.stages import REASON

#: Form of the URL, for messages.
FORM = "bigquery:PROJECT.DATASET[.TABLE]"
#: Default table name.
DEFAULT_TABLE = "flagged_transactions"
#: Key columns.
KEY = ("transaction_id", "model_id")
#: Daily partitions, clustered so that queries for an account or merchant read little.
PARTITIONED_BY = "event_time"
CLUSTERED_BY = ("account_id", "merchant_id")

# A project may belong to a domain (`example.com:project`); names contain nothing special in SQL,
# and the limit of 1,024 characters leaves room for suffixes.
_NAME = re.compile(
    r"(?P<project>(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])"
    r"\.(?P<dataset>[A-Za-z0-9_]{1,1024})"
    r"(?:\.(?P<table>[A-Za-z0-9_-]{1,900}))?"
)


@dataclass(frozen=True)
class TableName:
    """The full name of a table."""

    #: The project.
    project: str
    #: The dataset.
    dataset: str
    #: The table in the dataset.
    table: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Parse `PROJECT.DATASET` or `PROJECT.DATASET.TABLE`.

        Example:
          >>> str(TableName.parse("my-project.fraud"))
          'my-project.fraud.flagged_transactions'

        Raises:
          UsageError: a part is missing or no valid name.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--sink bigquery: {text!r} names no table; write {FORM}, such as "
                "bigquery:my-project.fraud (letters, digits and _ in a dataset, also - in a table)",
                Code.SINK_URL,
            )
        return cls(match["project"], match["dataset"], match["table"] or DEFAULT_TABLE)

    def beside(self, table: str) -> TableName:
        """Return another table of the same dataset."""
        return TableName(self.project, self.dataset, table)

    @property
    def staging_prefix(self) -> str:
        """Prefix of the names of staging tables."""
        return f"{self.table}_run_"

    def staging(self, run_id: str) -> TableName:
        """Return the staging table of a run."""
        return self.beside(self.staging_prefix + re.sub(r"[^A-Za-z0-9_]", "_", run_id))

    def holds(self, table: str) -> bool:
        """Return whether this sink writes to a table of the dataset."""
        return table in (self.table, self.stream.table) or table.startswith(self.staging_prefix)

    @property
    def dataset_id(self) -> str:
        """The full name of the dataset."""
        return f"{self.project}.{self.dataset}"

    @property
    def stream(self) -> TableName:
        """The table that streams append to."""
        return self.beside(f"{self.table}_stream")

    @property
    def latest(self) -> TableName:
        """The view of the newest row per key, of files and streams."""
        return self.beside(f"latest_{self.table}")

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


def _field(name: str, kind: str, mode: str = "NULLABLE") -> dict[str, Any]:
    return {"name": name, "type": kind, "mode": mode}


#: The columns in the form of BigQuery's REST interface. Amounts and scores are doubles, as in every
#: other sink.
FIELDS: tuple[dict[str, Any], ...] = (
    _field("transaction_id", "STRING", "REQUIRED"),
    _field("event_time", "TIMESTAMP", "REQUIRED"),
    _field("account_id", "STRING"),
    _field("merchant_id", "STRING"),
    _field("amount", "FLOAT", "REQUIRED"),
    _field("score", "FLOAT", "REQUIRED"),
    _field("decision", "STRING", "REQUIRED"),
    _field("rules", "STRING", "REPEATED"),
    {
        **_field("reasons", "RECORD", "REPEATED"),
        "fields": [
            _field("feature", "STRING"),
            _field("value", "FLOAT"),
            _field("contribution", "FLOAT"),
            _field("text", "STRING"),
            _field("approximate", "BOOLEAN"),
        ],
    },
    _field("model_id", "STRING", "REQUIRED"),
    _field("rules_id", "STRING"),
    _field("shadow_rules", "STRING", "REPEATED"),
    # Time of writing: of two rows with one key, the later counts.
    _field("written_at", "TIMESTAMP", "REQUIRED"),
)
COLUMNS = tuple(field["name"] for field in FIELDS)


def merge(table: TableName, staging: TableName) -> str:
    """Return the MERGE of a run's staging table into the table: all rows or none.

    A row replaces the one of its key; a repetition changes `written_at` alone.
    """
    others = [column for column in COLUMNS if column not in KEY]
    same = " AND ".join(f"kept.{column} = come.{column}" for column in KEY)
    return (
        f"MERGE INTO `{table}` AS kept USING ({_newest(f'`{staging}`')}) AS come ON {same} "
        f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{c} = come.{c}' for c in others)} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(COLUMNS)}) "
        f"VALUES ({', '.join(f'come.{c}' for c in COLUMNS)})"
    )


def latest(table: TableName) -> str:
    """Return the query of the view: the newest row per key, of files and streams."""
    columns = ", ".join(COLUMNS)
    both = " UNION ALL ".join(f"SELECT {columns} FROM `{t}`" for t in (table, table.stream))
    return _newest(f"({both})")


def condition(*, accounts: bool) -> str:
    """Return the condition on rows: of the parameter `accounts`, or older than `before`."""
    return "account_id IN UNNEST(@accounts)" if accounts else "event_time < @before"


def count_rows(table: TableName, where: str) -> str:
    """Return the query that counts the rows of a condition."""
    return f"SELECT COUNT(*) FROM `{table}` WHERE {where}"


def accounts_of(table: TableName, where: str) -> str:
    """Return the query of the accounts of a condition's rows."""
    return f"SELECT DISTINCT account_id FROM `{table}` WHERE {where}"


def delete_rows(table: TableName, where: str) -> str:
    """Return the statement that deletes the rows of a condition."""
    return f"DELETE FROM `{table}` WHERE {where}"


def _newest(source: str) -> str:
    # BigQuery requires a WHERE before QUALIFY.
    return (
        f"SELECT {', '.join(COLUMNS)} FROM {source} WHERE TRUE QUALIFY ROW_NUMBER() OVER "
        f"(PARTITION BY {', '.join(KEY)} ORDER BY written_at DESC) = 1"
    )


_NUMBERS = [field.name for field in REASON if pa.types.is_floating(field.type)]
# Arrow formats seconds with their fraction, microseconds.
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def table_rows(batch: pa.RecordBatch, written_at: datetime) -> list[dict[str, object]]:
    """Return rows of the columns `table.FIELDS`, with values that JSON has.

    Args:
      batch: rows of the schema `stages.SCORED`.
      written_at: time of writing, UTC.

    Returns:
      A dictionary per row. NaN (an undefined feature) becomes None; a null list becomes empty,
      because BigQuery has no null lists.
    """
    columns = [name for name in COLUMNS if name != "written_at"]
    chosen = batch.select(columns)
    times = pc.strftime(chosen.column("event_time"), format=_TIME)
    chosen = chosen.set_column(columns.index("event_time"), "event_time", times)
    written = f"{written_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    rows: list[dict[str, object]] = chosen.to_pylist()
    for row in rows:
        for name in ("rules", "shadow_rules"):
            row[name] = row[name] or []
        row["reasons"] = [_reason(reason) for reason in _list(row["reasons"])]
        row["written_at"] = written
    return rows


def _list(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []


def _reason(reason: dict[str, object]) -> dict[str, object]:
    for name in _NUMBERS:
        value = reason[name]
        if isinstance(value, float) and not math.isfinite(value):
            reason[name] = None
    return reason
