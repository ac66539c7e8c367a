from pathlib import Path

import pytest

from beam_fraud.errors import UsageError
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.sinks.url import parse_sink


def test_relative_paths_are_fixed_when_the_url_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_sink("sqlite:///a.db") == DatabaseSink(f"sqlite:///{tmp_path}/a.db")
    assert parse_sink("parquet:out/flagged") == ParquetSink(tmp_path / "out" / "flagged")


def test_absolute_paths_stay():
    assert parse_sink("sqlite:////data/a.db") == DatabaseSink("sqlite:////data/a.db")
    assert parse_sink("parquet:/data/x") == ParquetSink(Path("/data/x"))
    assert parse_sink("parquet:///data/x") == ParquetSink(Path("/data/x"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("parket:x", "unknown scheme 'parket' (known: parquet:DIR, "),
        ("sqlit:///x", "unknown scheme 'sqlit' (known: sqlite:///FILE, "),
        ("flagged.db", "no scheme"),
        ("parquet:", "parquet:DIR"),
        ("parquet://host/x", "parquet:DIR"),
        ("sqlite:x.db", "sqlite:///FILE"),
        ("sqlite://", "sqlite:///FILE"),
        ("sqlite:///", "sqlite:///FILE"),
        ("sqlite:///x.db?mode=ro", "sqlite:///FILE"),
        ("iceberg:flagged", "iceberg:[CATALOG/]NAMESPACE.TABLE"),
        ("iceberg:shop.", "iceberg:[CATALOG/]NAMESPACE.TABLE"),
        ("iceberg:/shop.flagged", "iceberg:[CATALOG/]NAMESPACE.TABLE"),
        ("iceberg:shop.flagged?run=", "iceberg:[CATALOG/]NAMESPACE.TABLE"),
        ("iceberg:shop.flagged?uri=sqlite:///x.db", "iceberg:[CATALOG/]NAMESPACE.TABLE"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url, message):
    with pytest.raises(UsageError) as refused:
        parse_sink(url)
    assert message in str(refused.value)
    assert "--sink" in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://me:hunter2@host/db", "iceberg://me:hunter2@host/a.b"])
def test_a_password_is_not_repeated(url):
    with pytest.raises(UsageError) as refused:
        parse_sink(url)
    assert "hunter2" not in str(refused.value)


def test_a_file_name_with_a_space_and_a_percent_sign(tmp_path):
    sink = parse_sink(f"sqlite:///{tmp_path}/my%20100%25.db")
    sink.begin("r")
    assert (tmp_path / "my 100%.db").exists()
