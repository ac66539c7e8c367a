"""The parts of the BigQuery sink that need no library of Google."""

import math
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.bigquery.table import COLUMNS, FIELDS, table_rows
from beam_fraud.sinks.url import parse_sink
from tests.failing import fails
from tests.flagged import flagged_batch

NOW = datetime(2024, 5, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "table"),
    [
        ("bigquery:my-project.fraud", "my-project.fraud.flagged_transactions"),
        ("bigquery:my-project.fraud.cases-2024", "my-project.fraud.cases-2024"),
        ("bigquery:example.com:my-project.fraud.t", "example.com:my-project.fraud.t"),
    ],
)
def test_a_url_names_a_table(url, table):
    assert parse_sink(url).describe() == f"bigquery:{table}"


@pytest.mark.parametrize(
    "url",
    [
        "bigquery:",
        "bigquery:my-project",
        "bigquery:my-project.fraud.a.b",
        "bigquery:my-project.fr-aud",
        "bigquery:My_Project.fraud",
        "bigquery:my-project.fraud.t`; DROP TABLE x",
        "bigquery:my-project.fraud.t\n",
        "bigquery://my-project.fraud",
        "bigquery:my-project.fraud." + "t" * 901,
    ],
)
def test_a_url_without_a_table_shows_the_form(url):
    with fails(Code.SINK_URL, r"bigquery:PROJECT\.DATASET\[\.TABLE\]", kind=UsageError) as refused:
        parse_sink(url)
    assert "\n" not in str(refused.value)


def test_the_tables_have_the_columns_of_a_flagged_row():
    assert set(COLUMNS) == {*SCORED.names, "written_at"} - {"flagged"}
    reasons = next(field for field in FIELDS if field["name"] == "reasons")
    struct = SCORED.field("reasons").type.value_type
    assert [field["name"] for field in reasons["fields"]] == [field.name for field in struct]


def test_numbers_that_json_lacks_and_absent_lists():
    row = flagged_batch(["t0"]).to_pylist()[0]
    row["reasons"] = [{"feature": "ratio", "value": math.nan, "contribution": math.inf}]
    [written] = table_rows(pa.RecordBatch.from_pylist([row], schema=SCORED), NOW)
    assert written["reasons"] == [
        {"feature": "ratio", "value": None, "contribution": None, "text": None, "approximate": None}
    ]
    row |= {"reasons": None, "rules": None}
    [written] = table_rows(pa.RecordBatch.from_pylist([row], schema=SCORED), NOW)
    assert (written["reasons"], written["rules"]) == ([], [])


def test_times_are_written_to_the_microsecond():
    [written] = table_rows(flagged_batch(["t0"]), NOW)
    assert written["event_time"] == "2024-05-01T12:00:00.000005Z"
    assert written["written_at"] == "2024-05-02T00:00:00.000000Z"


def test_no_stream_on_this_machine_writes_to_bigquery():
    sink = parse_sink("bigquery:my-project.fraud")
    with fails(
        Code.SINK_UNSUITED, r"^--sink bigquery:my-project\.fraud\..* --runner", kind=UsageError
    ):
        sink.streaming(here=True)
    streamed = sink.streaming(here=False)
    assert streamed.describe() == "bigquery:my-project.fraud.flagged_transactions_stream"


@pytest.mark.parametrize("url", ["sqlite:///f.db", "parquet:f"])
def test_every_other_sink_writes_from_its_workers_in_a_stream(url):
    sink = parse_sink(url)
    streaming = sink.streaming(here=True)
    assert (type(streaming), streaming.describe()) == (type(sink), sink.describe())
    # Its transform is the one that each worker's connection makes.
    assert streaming.transform("r1", lambda connecting: connecting) is streaming


def test_nothing_of_google_is_imported_before_the_sink_is_used():
    code = (
        "import sys; from beam_fraud.sinks.url import parse_sink; "
        "parse_sink('bigquery:my-project.fraud'); "
        "print([m for m in sys.modules if m.startswith(('google.cloud.', 'google.auth'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_extra_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.api_core.exceptions", None)
    with fails(Code.EXTRA_MISSING, r"pip install 'beam-fraud\[gcp\]'$") as refused:
        parse_sink("bigquery:my-project.fraud").check()
    assert "\n" not in str(refused.value)
