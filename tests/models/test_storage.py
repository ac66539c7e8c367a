from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.storage import check_directory, read_bytes, write_directory
from beam_fraud.storage.urls import Place
from tests.failing import fails

FILES = {"last": b"1", "first": b"2"}


def test_a_directory_is_written_and_read(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    write_directory(Place.of(target), FILES, last="last")
    assert read_bytes(Place.of(target), "first") == b"2"
    write_directory(Place.of(target), {"last": b"3"}, last="last")
    assert [p.name for p in target.iterdir()] == ["last"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    write_directory(Place.of(tmp_path), FILES, last="last")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "last"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"mine")
    with fails(Code.OUTPUT_OCCUPIED):
        write_directory(Place.of(tmp_path / "model"), FILES, last="last")
    assert (tmp_path / "model").read_bytes() == b"mine"


def test_a_failed_rename_leaves_the_earlier_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    write_directory(Place.of(target), FILES, last="last")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(FraudError, match="disk full"):
        write_directory(Place.of(target), {"last": b"3"}, last="last")
    assert read_bytes(Place.of(target), "last") == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_missing_file_and_an_unreadable_one_differ(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(Place.of(tmp_path), "absent")
    (tmp_path / "folder").mkdir()
    with fails(Code.BUNDLE_DAMAGED, "folder"):
        read_bytes(Place.of(tmp_path), "folder")


def test_a_place_is_checked_before_any_work(tmp_path: Path) -> None:
    check_directory(Place.of(tmp_path / "new" / "model"), last="last")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with fails(Code.OUTPUT_OCCUPIED):
        check_directory(Place.of(tmp_path), last="last")
    with pytest.raises(FraudError, match=r"thesis\.txt"):
        check_directory(Place.of(tmp_path / "thesis.txt" / "model"), last="last")
    with pytest.raises(FraudError, match="can't be written"):
        check_directory(Place.of(tmp_path / ("m" * 300)), last="last")
    with fails(Code.URL_UNUSABLE, "nosuch://b"):
        check_directory(Place.parse("nosuch://b"), last="last")


def test_a_url_is_written_and_read_by_beam_the_last_file_last(tmp_path: Path) -> None:
    from apache_beam.io.localfilesystem import LocalFileSystem

    created: list[str] = []

    class Bucket(LocalFileSystem):
        """Objects at bucket://, stored in a directory."""

        @classmethod
        def scheme(cls) -> str:
            return "bucket"

        def join(self, base: str, *paths: str) -> str:
            return "/".join((base, *paths))

        def exists(self, path: str) -> bool:
            return (tmp_path / path.removeprefix("bucket://")).exists()

        def open(self, path: str, *args: Any, **options: Any) -> Any:
            return super().open(str(tmp_path / path.removeprefix("bucket://")), *args, **options)

        def create(self, path: str, *args: Any, **options: Any) -> Any:
            created.append(path)
            return super().create(str(tmp_path / path.removeprefix("bucket://")), *args, **options)

    write_directory(Place.parse("bucket://models/forest"), FILES, last="last")
    assert created == ["bucket://models/forest/first", "bucket://models/forest/last"]
    assert read_bytes(Place.parse("bucket://models/forest"), "first") == b"2"
    with pytest.raises(FileNotFoundError):
        read_bytes(Place.parse("bucket://models/forest"), "absent")


def test_an_unknown_scheme_is_an_error_of_one_line() -> None:
    with fails(Code.URL_UNUSABLE, "nosuch://b") as caught:
        read_bytes(Place.parse("nosuch://b"), "manifest.json")
    assert "\n" not in str(caught.value)
