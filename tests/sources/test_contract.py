"""The contract of all file formats."""

import json
import logging
import os
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sources import lines
from beam_fraud.sources.filesystem import list_files
from beam_fraud.sources.source import find_inputs, limit_files, read_segment, split_file
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.reading import BANK, COLUMNS, GOOD, csv_of, read, write_columns, write_text

COUNT = 300
ROWS = [{**GOOD, "id": f"t{i}", "amount": str(i / 4), "mcc": f"m{i % 9}"} for i in range(COUNT)]


def odd_csv() -> bytes:
    """Semicolons, quotes, a byte order mark, CRLF, empty lines and line ends inside quotes."""
    lines = [";".join(f'"{name}"' for name in COLUMNS)]
    for row in ROWS:
        lines.append(";".join(f'"{row[c]}"' for c in COLUMNS))
    lines[5] = lines[5].replace('"web"', '"web;""\nshop"')
    return b"\xef\xbb\xbf" + "\r\n".join([*lines[:9], "", *lines[9:]]).encode()


def jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


KINDS = {
    "a.parquet": None,
    "a.orc": None,
    "a.avro": None,
    "a.csv": csv_of(*ROWS),
    "odd.csv": odd_csv(),
    "a.csv.gz": csv_of(*ROWS),
    "odd.csv.zst": odd_csv(),
    "a.jsonl": jsonl(),
    "a.ndjson": jsonl().replace(b"\n", b"\r\n"),
    "a.json.gz": jsonl(),
    "a.jsonl.zst": jsonl(),
}

#: Endings of formats of columns.
COLUMNAR = (".parquet", ".orc", ".avro")


def make(path: Path, text: bytes | None) -> Path:
    if text is not None:
        return write_text(path, text)
    return write_columns(path, pa.Table.from_pylist(ROWS))


@pytest.fixture(scope="module", params=list(KINDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    return make(folder / request.param, KINDS[request.param])


@pytest.mark.parametrize("block_rows", [1, 1_000, 50_000])
@pytest.mark.parametrize("bytes_each", [None, 1, 5_000, 10**9])
def test_every_row_comes_once_at_its_position(
    path: Path, block_rows: int, bytes_each: int | None
) -> None:
    result = read(path, block_rows=block_rows, bytes_each=bytes_each)
    assert (result.rows_in, len(result.dead_letters)) == (COUNT, 0)
    assert result.transactions["@position"].to_pylist() == list(range(COUNT))
    assert result.transactions["transaction_id"].to_pylist() == [row["id"] for row in ROWS]
    assert result.transactions["amount"].to_pylist() == [float(row["amount"]) for row in ROWS]
    channel = 'web;"\nshop' if path.name.startswith("odd") else "web"
    assert result.rows[4]["channel"] == channel


def test_segments_adjoin_and_cover_the_file(path: Path) -> None:
    (file,) = find_inputs([Place.of(path)], BANK, labels="required")
    segments = list(split_file(file, 20_000))
    assert [s.first_row for s in segments] == sorted({s.first_row for s in segments})
    assert all(a.stop == b.start for a, b in pairwise(segments))
    assert [s.whole for s in split_file(file, None)] == [True]
    if len(segments) > 1:
        assert not any(segment.whole for segment in segments)


@pytest.mark.parametrize("bytes_each", [None, 1, 40])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lines_are_those_of_the_file_for_any_division(
    tmp_path: Path, kind: str, bytes_each: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 90)
    rows = ROWS[:40]
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        text = csv_of(*rows).decode().splitlines()
    else:
        text = [json.dumps(row) for row in rows]
    # Empty lines here and there.
    spread = [
        part for n, line in enumerate(text) for part in ([line, ""] if n % 7 == 3 else [line])
    ]
    path.write_text("\n".join(spread))
    (file,) = find_inputs([Place.of(path)], BANK, labels="ignored")
    result = {}
    for segment in split_file(file, bytes_each):
        for batch in read_segment(segment, BANK, 7, labels="ignored"):
            result |= dict(
                zip(batch["@position"].to_pylist(), batch["@line"].to_pylist(), strict=True)
            )
    skipped = 1 if kind == "csv" else 0
    expected = [n + 1 for n, line in enumerate(spread) if line][skipped:]
    assert result == dict(enumerate(expected))


@pytest.mark.parametrize("rows", [1, 69, COUNT, COUNT + 1])
def test_the_first_rows_of_two_files(path: Path, rows: int) -> None:
    files = find_inputs([Place.of(path)], BANK, labels="required") * 2
    positions: list[int] = []
    for segment in limit_files(files, rows):
        for batch in read_segment(segment, BANK, 1_000, labels="required"):
            positions += batch.column("@position").to_pylist()
    assert positions == [*range(COUNT), *range(COUNT)][:rows]


def test_a_truncated_file_is_refused_or_costs_one_line(path: Path, tmp_path: Path) -> None:
    short = tmp_path / path.name
    short.write_bytes(path.read_bytes()[:-9])
    if path.suffix in (".gz", ".zst", *COLUMNAR):
        with fails(Code.INPUT_DAMAGED, str(short)) as error:
            read(short)
        assert "\n" not in str(error.value)
    else:
        result = read(short)
        assert (len(result.rows), len(result.dead)) in ((COUNT - 1, 1), (COUNT, 0))


def test_a_file_with_garbage_in_the_middle_is_refused_or_costs_few_lines(
    path: Path, tmp_path: Path
) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = b"\xff" * 20
    damaged = tmp_path / path.name
    damaged.write_bytes(data)
    try:
        result = read(damaged)
    except FraudError as error:
        message = str(error)
        assert (str(damaged) in message, "\n" in message) == (True, False)
        assert path.suffix in (".gz", ".zst", *COLUMNAR)
    else:
        assert result.rows_in in (COUNT, COUNT - 1)
        assert path.suffix in COLUMNAR or 1 <= len(result.dead) <= 2


def test_a_directory_is_read_by_names_relative_to_it(tmp_path: Path, caplog) -> None:
    for name in ("b.csv", "2024/a.csv", "_tmp/x.csv", ".hidden.csv", "_SUCCESS", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(csv_of(GOOD))
    with caplog.at_level(logging.WARNING):
        files = find_inputs([Place.of(tmp_path)], BANK, labels="required")
    assert [file.name for file in files] == ["2024/a.csv", "b.csv"]
    assert "1 files of no known format left out" in caplog.text


def test_globs_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d/1.csv", "d/2.csv", "d/e/3.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(csv_of(GOOD))
    monkeypatch.chdir(tmp_path)

    def names(*given: str) -> list[str]:
        files = find_inputs(Place.parse_all(given), BANK, labels="required")
        assert all(Path(file.path).is_absolute() for file in files)
        return [file.name for file in files]

    assert names("d/1.csv") == ["1.csv"]
    assert names("d/*.csv") == names(str(tmp_path / "d/*.csv")) == ["1.csv", "2.csv"]
    assert names("d/**/*.csv") == ["1.csv", "2.csv", "e/3.csv"]
    assert names("d") == ["1.csv", "2.csv", "e/3.csv"]
    # One file by several ways is one file.
    assert names("d/1.csv", "d/../d/1.csv", "d/[12].csv") == ["1.csv", "2.csv"]


def test_files_of_the_same_name_are_distinguished_by_their_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_bytes(csv_of(GOOD))
    value = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [f.name for f in find_inputs(Place.parse_all(value), BANK, labels="required")] == [
        "a/x.csv",
        "b/x.csv",
    ]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none.csv", None, FraudError, "no such file"),
        ("*.csv", None, FraudError, "no match"),
        ("x.xlsx", b"PK", UsageError, "rename it"),
        ("x.parquet.gz", b"\x1f\x8b", UsageError, "rename it"),
        ("x.parquet", b"", FraudError, "not a parquet file"),
        ("x.parquet", b"id,when\n", FraudError, "not a parquet file"),
        ("x.parquet", b"PAR1 and no more PAR1", FraudError, "not a readable Parquet file"),
        ("x.orc", b"", FraudError, "not a orc file"),
        ("x.orc", b"ORC and no more ORC", FraudError, "not a readable ORC file"),
        ("x.avro", b"", FraudError, "not a avro file"),
        ("x.avro", b"Obj\x01 and no more", FraudError, "not a readable Avro file"),
        ("x.csv", b"", FraudError, "is empty"),
        ("x.csv", b"\n\n", FraudError, "empty line where a header"),
        ("x.csv", b"PAR1", FraudError, "is a parquet file"),
        ("x.csv", b"\x1f\x8b\x08", FraudError, "is a gzip file"),
        ("x.csv", "id,when\n".encode("utf-16"), FraudError, "UTF-16"),
        ("x.csv", b"\xe9t\xe9,id\n", FraudError, "UTF-8"),
        ("x.csv", csv_of(GOOD).replace(b"\n", b"\r"), FraudError, "CR alone"),
        ("x.csv", b"x" * 200_000, FraudError, "column 'id'"),
        ("x.csv", b"," * (1 << 20) + b",,\n", FraudError, "first line is no header"),
        ("x.csv.gz", b"id,when\n", FraudError, "not a gzip file"),
        ("x.csv.gz", b"", FraudError, "not a gzip file"),
        ("x.csv.gz", b"\x1f\x8bgarbage", FraudError, "damaged or cut off"),
        ("x.jsonl.zst", b"{}", FraudError, "not a zstd file"),
        ("x.csv", csv_of(GOOD).replace(b"amount", b"ammount"), FraudError, "mean 'ammount'"),
        ("x.csv", csv_of(columns=(*COLUMNS, "id")), FraudError, "'id' is there twice"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(
    name: str, content: bytes | None, error: type[FraudError], message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as refused:
        find_inputs([Place.of(tmp_path / name)], BANK, labels="required")
    assert str(tmp_path / name) in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["pipe.csv", "device.csv", "link.csv"])
def test_files_that_are_not_regular_are_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("/dev/null")
    path = "/dev/zero" if name == "device.csv" else str(tmp_path / name)
    with fails(Code.INPUT_UNREADABLE, f"^{path}: "):
        find_inputs([Place.parse(path)], BANK, labels="required")


def test_linked_folders_are_followed_and_each_is_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    value, elsewhere = tmp_path / "given", tmp_path / "elsewhere"
    for folder in (value / "2024", elsewhere / "deep", elsewhere / "_hidden"):
        folder.mkdir(parents=True)
        (folder / "day.csv").write_bytes(csv_of(GOOD))
    (value / "a_link").symlink_to(elsewhere)
    (value / "a_loop").symlink_to(value)
    (elsewhere / "deep" / "loop").symlink_to(elsewhere)
    (value / "0_again").symlink_to("2024")
    (value / "dangling.csv").symlink_to("nowhere")
    os.mkfifo(value / "pipe.csv")
    with caplog.at_level(logging.WARNING):
        result = [file.name for file in list_files(Place.of(value))]
    assert result == ["2024/day.csv", "a_link/deep/day.csv"]
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        "is a link to nothing; left out",
        "is no regular file; left out",
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet", "orc", "avro"])
def test_a_foreign_file_is_refused_with_its_columns(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    table = pa.table({f"zz{number}": [1] for number in range(10)})
    (pa.csv.write_csv if kind == "csv" else write_columns)(
        *((table, path) if kind == "csv" else (path, table))
    )
    with fails(Code.COLUMN_MISSING, "'id' of schema bank .* zz0, "):
        find_inputs([Place.of(path)], BANK, labels="required")
    with fails(Code.COLUMN_MISSING, r"zz7 and 2 more$"):
        find_inputs([Place.of(path)], BANK, labels="required")


@pytest.mark.parametrize("value", ["", "x\udcff.csv"])
def test_a_name_that_is_not_utf8_is_one_line(value: str, tmp_path: Path) -> None:
    (tmp_path / "x\udcff.csv").write_bytes(csv_of(GOOD))
    (tmp_path / "good.csv").write_bytes(csv_of(GOOD))
    with pytest.raises(FraudError) as refused:
        find_inputs([Place.of(tmp_path / value)], BANK, labels="required")
    assert str(refused.value) == f"{tmp_path}/x\\udcff.csv: its name is not UTF-8; rename it"


def test_an_empty_json_lines_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"")
    assert read(path).rows_in == 0
    assert read(path, bytes_each=1).rows_in == 0


def test_two_gzip_members_are_one_file(tmp_path: Path) -> None:
    import gzip

    text = csv_of(*ROWS)
    half = len(text) // 2
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text[:half]) + gzip.compress(text[half:]))
    assert len(read(tmp_path / "x.csv.gz").transactions) == COUNT


class DiskFileSystem(LocalFileSystem):
    """Local files under another scheme, as a file system of a cloud."""

    @classmethod
    def scheme(cls) -> str:
        return "disk"

    @staticmethod
    def _local(url: str) -> str:
        return url.removeprefix("disk:/")

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self) -> bool:
        return True

    def _list(self, dir_or_prefix):
        for entry in super()._list(self._local(dir_or_prefix)):
            entry.path = "disk:/" + entry.path
            yield entry

    def open(self, path, *args, **kwargs):
        return super().open(self._local(path), *args, **kwargs)

    def metadata(self, path):
        result = super().metadata(self._local(path))
        result.path = path
        return result

    def size(self, path) -> int:
        return super().size(self._local(path))

    def exists(self, path) -> bool:
        return super().exists(self._local(path))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl.zst"])
def test_files_by_url_are_read_through_beam(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / name, KINDS[name])
    for value in (f"disk:/{tmp_path}/in/{name}", f"disk:/{tmp_path}/in", f"disk:/{tmp_path}/i*/*"):
        result = read(value, bytes_each=50_000)
        assert len(result.transactions) == COUNT, value


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://bucket/x.csv", "boto3", "aws"),
        ("azfs://account/box/x.csv", "azure", "azure"),
    ],
)
def test_a_url_whose_file_system_is_not_installed(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UsageError, match=rf"{package}.*pip install 'beam-fraud\[{extra}\]'"
    ) as message:
        find_inputs([Place.parse(url)], BANK, labels="required")
    assert "\n" not in str(message.value)


class Strict(LocalFileSystem):
    """A file system that requires options, as that of S3 does."""

    @classmethod
    def scheme(cls) -> str:
        return "strict"

    def __init__(self, pipeline_options: object) -> None:
        assert pipeline_options is not None
        super().__init__(pipeline_options)

    def match(self, patterns: list[str], limits: object = None) -> list[MatchResult]:
        return [
            MatchResult(pattern, [FileMetadata("strict://box/x.csv", 1)]) for pattern in patterns
        ]


def test_files_by_url_are_found_before_there_is_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    assert list_files(Place.parse("strict://box/x.csv"))[0].path == "strict://box/x.csv"


def test_a_url_that_no_file_system_knows() -> None:
    with fails(Code.URL_UNUSABLE, "nope://", kind=UsageError):
        find_inputs([Place.parse("nope://bucket/x.csv")], BANK, labels="required")
