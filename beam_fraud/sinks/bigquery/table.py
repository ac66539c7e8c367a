"""Tables of BigQuery: how they are named, which columns they have, what is asked of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import UsageError
from beam_fraud.schema.stages import REASON

#: How the place is written, for messages.
FORM = "bigquery:PROJECT.DATASET[.TABLE]"
#: The table, where the URL names none.
DEFAULT_TABLE = "flagged_transactions"
#: A row is known by these.
KEY = ("transaction_id", "model_id")
#: A part of the table for each day of this, sorted so that one account or merchant is found soon.
PARTITIONED_BY = "event_time"
CLUSTERED_BY = ("account_id", "merchant_id")

# A project may stand in a domain (`example.com:project`); names hold nothing that SQL would read
# otherwise, and 1,024 characters leave room for what is put behind a table's name.
_NAME = re.compile(
    r"(?P<project>(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])"
    r"\.(?P<dataset>[A-Za-z0-9_]{1,1024})"
    r"(?:\.(?P<table>[A-Za-z0-9_-]{1,900}))?"
)


@dataclass(frozen=True)
class TableName:
    """The full name of a table."""

    #: Who pays for it.
    project: str
    #: The dataset.
    dataset: str
    #: The table in the dataset.
    table: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read `PROJECT.DATASET` or `PROJECT.DATASET.TABLE`.

        Example:
          >>> str(TableName.parse("my-project.fraud"))
          'my-project.fraud.flagged_transactions'

        Raises:
          UsageError: a part is missing, or cannot be a name.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--sink bigquery: {text!r} names no table; write {FORM}, such as "
                "bigquery:my-project.fraud (letters, digits and _ in a dataset, also - in a table)"
            )
        return cls(found["project"], found["dataset"], found["table"] or DEFAULT_TABLE)

    def beside(self, table: str) -> TableName:
        """Another table of the same dataset."""
        return TableName(self.project, self.dataset, table)

    @property
    def staging_prefix(self) -> str:
        """How the names of the tables begin that take the rows of one run."""
        return f"{self.table}_run_"

    def staging(self, run_id: str) -> TableName:
        """Return what takes the rows of one run until it has succeeded."""
        return self.beside(self.staging_prefix + re.sub(r"[^A-Za-z0-9_]", "_", run_id))

    def holds(self, table: str) -> bool:
        """Return whether a table of the dataset takes rows of this sink."""
        return table in (self.table, self.stream.table) or table.startswith(self.staging_prefix)

    @property
    def dataset_id(self) -> str:
        """The full name of the dataset."""
        return f"{self.project}.{self.dataset}"

    @property
    def stream(self) -> TableName:
        """What streams append to."""
        return self.beside(f"{self.table}_stream")

    @property
    def latest(self) -> TableName:
        """The view of the newest row of each key, of files and streams."""
        return self.beside(f"latest_{self.table}")

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


def _field(name: str, kind: str, mode: str = "NULLABLE") -> dict[str, Any]:
    return {"name": name, "type": kind, "mode": mode}


#: The columns, as BigQuery's REST interface writes them. Amounts and scores are the same doubles as
#: in every other place.
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
    # When a run or stream wrote the row: of two with one key the later counts.
    _field("written_at", "TIMESTAMP", "REQUIRED"),
)
COLUMNS = tuple(field["name"] for field in FIELDS)


def merge(table: TableName, staging: TableName) -> str:
    """Return the statement that takes the rows of a run into the table: all of them or none.

    A row replaces that of the same key; done again it changes nothing but `written_at`.
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
    """Return the query of the view: every key once, whether files or streams brought it."""
    columns = ", ".join(COLUMNS)
    both = " UNION ALL ".join(f"SELECT {columns} FROM `{t}`" for t in (table, table.stream))
    return _newest(f"({both})")


def condition(*, accounts: bool) -> str:
    """Return which rows are meant: those of the parameter `accounts`, or older than `before`."""
    return "account_id IN UNNEST(@accounts)" if accounts else "event_time < @before"


def count_rows(table: TableName, where: str) -> str:
    """Return the query that counts the rows of a condition."""
    return f"SELECT COUNT(*) FROM `{table}` WHERE {where}"


def accounts_of(table: TableName, where: str) -> str:
    """Return the query of whose the rows of a condition are."""
    return f"SELECT DISTINCT account_id FROM `{table}` WHERE {where}"


def delete_rows(table: TableName, where: str) -> str:
    """Return the statement that deletes them."""
    return f"DELETE FROM `{table}` WHERE {where}"


def _newest(source: str) -> str:
    # BigQuery wants a WHERE before QUALIFY.
    return (
        f"SELECT {', '.join(COLUMNS)} FROM {source} WHERE TRUE QUALIFY ROW_NUMBER() OVER "
        f"(PARTITION BY {', '.join(KEY)} ORDER BY written_at DESC) = 1"
    )


_NUMBERS = [field.name for field in REASON if pa.types.is_floating(field.type)]
# The seconds of an Arrow time have its fraction: microseconds.
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def table_rows(batch: pa.RecordBatch, written_at: datetime) -> list[dict[str, object]]:
    """Rows of the columns of `table.FIELDS`, of values that JSON knows.

    Args:
      batch: rows of the schema `stages.SCORED`.
      written_at: the moment at which they are written, UTC.

    Returns:
      A dictionary a row. A number that is none (a feature that is not defined) is None; a list that
      is not there is empty, for BigQuery has no null in its place.
    """
    columns = [name for name in COLUMNS if name != "written_at"]
    chosen = batch.select(columns)
    times = pc.strftime(chosen.column("event_time"), format=_TIME)
    chosen = chosen.set_column(columns.index("event_time"), "event_time", times)
    written = f"{written_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    rows: list[dict[str, object]] = chosen.to_pylist()
    for row in rows:
        row["rules"] = row["rules"] or []
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
