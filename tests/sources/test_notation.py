"""Text files in another dress: the same transactions, or a refusal that names the setting."""

from __future__ import annotations

import bz2
import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.dataset import Dataset, load_dataset
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.source import find_inputs, read_segment, split_file
from beam_fraud.storage.urls import Place

COLUMNS = ("id", "at", "shop", "value")
ROLES = """
[roles]
transaction_id = "id"
event_time = "at"
merchant_id = "shop"
amount = "value"
"""
ROW = ("t0", "2024-02-08T06:00:16Z", "Café Zürich", "29.92")
#: Letters that all encodings of the tests have.
names = st.text("abcXYZ äöüßéÄÖÜÉ;,|'\"-", min_size=1, max_size=12).filter(
    lambda text: text.strip() == text
)


def csv_of(
    rows: list[tuple[str, ...]], delimiter: str = ",", quote: str = '"', header: bool = True
) -> str:
    text = io.StringIO()
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    writer = csv.writer(
        text, delimiter=delimiter, quotechar=quote or None, quoting=quoting, lineterminator="\n"
    )
    writer.writerows([COLUMNS, *rows] if header else rows)
    return text.getvalue()


def load(path: Path, source: str = "") -> Dataset:
    schema = schema_from_toml(f"{ROLES}\n[source]\n{source}\n")
    return load_dataset([Place.at(path)], schema, labels="ignored")


@given(
    shops=st.lists(names, min_size=1, max_size=20),
    encoding=st.sampled_from(["utf-8", "latin-1", "cp1252", "iso8859-15", "utf-16", "utf-8-sig"]),
    delimiter=st.sampled_from([",", ";", "\t", "|", "^"]),
    quote=st.sampled_from(['"', "'", ""]),
    header=st.booleans(),
    packing=st.sampled_from(["", ".bz2", ".zip"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_dress_of_csv_changes_nothing(
    tmp_path: Path,
    shops: list[str],
    encoding: str,
    delimiter: str,
    quote: str,
    header: bool,
    packing: str,
) -> None:
    if not quote:
        shops = [shop.replace(delimiter, "") or "x" for shop in shops]
    rows = [(f"t{n}", f"2024-02-08T06:00:{n:02}Z", shop, "1.5") for n, shop in enumerate(shops)]
    data = csv_of(rows, delimiter, quote, header).encode(encoding)
    path = tmp_path / f"rows.csv{packing}"
    if packing == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rows.tsv", data)
    else:
        path.write_bytes(bz2.compress(data) if packing else data)
    source = f"encoding = {json.dumps(encoding)}\nquote = {json.dumps(quote)}\n"
    source += f"delimiter = {json.dumps(delimiter)}\n"
    source += "" if header else f"header = {json.dumps(COLUMNS)}\n"
    dataset = load(path, source)
    assert dataset.dead_letters.num_rows == dataset.rows_dead == 0
    assert dataset.transactions["merchant_id"].to_pylist() == shops
    assert dataset.transactions["transaction_id"].to_pylist() == [row[0] for row in rows]


def test_a_decoded_file_is_one_segment_and_json_lines_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    record = dict(zip(COLUMNS, ROW, strict=True)) | {"value": 29.92}
    lines = [json.dumps(record | {"id": f"t{n}"}, ensure_ascii=False) for n in range(1_000)]
    path.write_text("\n".join(lines), "latin-1")
    schema = schema_from_toml(f'{ROLES}\n[source]\nencoding = "latin-1"\n')
    (file,) = find_inputs([Place.at(path)], schema, labels="ignored")
    (segment,) = split_file(file, 1_000)
    batches = list(read_segment(segment, schema, 300, labels="ignored"))
    assert sum(map(len, batches)) == 1_000
    dataset = load(path, 'encoding = "latin-1"')
    assert set(dataset.transactions["merchant_id"].to_pylist()) == {"Café Zürich"}


def test_bytes_of_another_encoding_are_dead_and_name_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [ROW, ("t1", "2024-02-08T06:00:17Z", "Shop", "1")]
    path.write_text(csv_of(rows), "latin-1")
    schema = schema_from_toml(ROLES)
    dataset = load_dataset([Place.at(path)], schema, labels="ignored", keep_dead_letters=True)
    (dead,) = dataset.dead_letters.to_pylist()
    assert dead["reason"] == "malformed"
    assert "encoding under [source]" in dead["detail"]
    # A byte that the encoding does not define costs its own row.
    path.write_bytes(csv_of(rows).encode("cp1252").replace(b"\xe9", b"\x81"))
    assert load(path, 'encoding = "cp1252"').dead_reasons == {"malformed": 1}


@pytest.mark.parametrize(
    ("data", "source", "message", "code"),
    [
        (csv_of([ROW]).encode("utf-16"), "", 'encoding = "utf-16"', Code.INPUT_FORMAT),
        ("é,at\n".encode("latin-1"), "", 'encoding = "latin-1"', Code.HEADER_UNUSABLE),
        (b"\xff\xfeabc", 'encoding = "utf-16"', "is not utf-16", Code.INPUT_DAMAGED),
        (b"a,b\n", 'header = ["id", "at", "shop", "value"]', "names 4", Code.HEADER_UNUSABLE),
        (b"ID,AT,Shop,Value\n", "", "did you mean 'ID'", Code.COLUMN_MISSING),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, data: bytes, source: str, message: str, code: Code
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(FraudError) as refused:
        load(path, source)
    assert message in str(refused.value)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('encoding = "none-such"', "encoding 'none-such' is none"),
        ('delimiter = "::"', "delimiter must be one ASCII character"),
        ('quote = "«"', "quote must be one ASCII character"),
        ('quote = ";"\ndelimiter = ";"', "delimiter and quote are both ';'"),
        ('header = ["a", "a"]', "header names 'a' twice"),
        ('encodin = "x"', "encodin"),
    ],
)
def test_a_wrong_setting_is_refused(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=r"\[source\]") as refused:
        schema_from_toml(f"{ROLES}\n[source]\n{source}\n")
    assert message in str(refused.value)


def test_an_archive_of_several_files_or_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", csv_of([ROW]))
        archive.writestr("b.csv", csv_of([ROW]))
    with pytest.raises(FraudError, match="is a ZIP archive of 2 files; unpack it"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.parquet", b"PAR1")
    with pytest.raises(FraudError, match=r"its file a\.parquet is read only unpacked"):
        load(path)
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(FraudError, match="is damaged or cut off"):
        load(path)
    path.write_text("no archive", "utf-8")
    with pytest.raises(FraudError, match="is not a zip file"):
        load(path)


def test_a_note_beside_the_files_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(csv_of([ROW], "\t"), "utf-8")
    (tmp_path / "README.txt").write_text(csv_of([ROW], "\t"), "utf-8")
    assert load(tmp_path).rows_in == load(tmp_path / "README.txt").rows_in == 1


def test_a_column_that_no_file_has_is_warned_of_and_not_learned_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feature = '[[feature]]\ncolumn = "mcc"\nkind = "categorical"\nmissing = "allow"\n'
    schema = schema_from_toml(ROLES + feature, "mine")
    (tmp_path / "rows.csv").write_text(csv_of([ROW]), "utf-8")
    places = [Place.at(tmp_path)]
    load_dataset(places, schema, labels="ignored")
    assert "no file has column 'mcc' of schema mine: every value is missing" in caplog.text
    with pytest.raises(FraudError, match="no file has column 'mcc'") as refused:
        load_dataset(places, schema, labels="ignored", absent="refuse")
    assert refused.value.code == Code.COLUMN_MISSING
    # Another file has it.
    (tmp_path / "more.csv").write_text("id,at,shop,value,mcc\n", "utf-8")
    load_dataset(places, schema, labels="ignored", absent="refuse")
