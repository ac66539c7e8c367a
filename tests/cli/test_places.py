"""No output of a run overlaps another output or an input."""

import sys
from pathlib import Path

import pytest

from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.cli.commands.places import refuse_shared_places
from beam_fraud.errors import Code, UsageError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.sources.file_format import FileFormat
from beam_fraud.sources.segment import InputFile
from beam_fraud.storage.batch_outputs import RunOutputs
from beam_fraud.storage.urls import Place
from tests.failing import fails

CSV = FileFormat("csv")


def look(folder: Path, sink: str | None, *alerts: str) -> None:
    """Check a run of `folder/in/x.csv` by `folder/model` into `folder/out`; `*` is the folder."""
    urls = [alert.replace("*", str(folder)) for alert in alerts]
    path = folder / "in" / "x.csv"
    refuse_shared_places(
        RunOutputs(folder / "out", "r"),
        parse_sink(sink.replace("*", str(folder))) if sink else None,
        [parse_channel(url, console=sys.stderr) for url in urls],
        [
            InputFile(Place.at(path), "x.csv", 1, CSV),
            InputFile(Place("gs://b/y.csv", None), "y.csv", 1, CSV),
        ],
        Place.at(folder / "model"),
    )


@pytest.mark.parametrize(
    "places",
    [
        (None,),
        (None, "console:", "file:*/alerts.jsonl"),
        ("parquet:*/flagged", "file:*/out/alerts.jsonl"),
        ("parquet:*/out/flagged",),
        ("parquet:*/outside", "file:*/out2/a.jsonl"),
        ("sqlite:///*/out/flagged.db", "file:*/out/flagged.jsonl"),
        ("sqlite:///*/out/outbox.db", "console:"),
        ("sqlite:///*/in/flagged.db",),
        (None, "file:*/a.jsonl", "file:*/b.jsonl"),
        (None, "file:*/a.jsonl", "file:*/a.jsonl"),
    ],
)
def test_separate_places_pass(tmp_path: Path, places: tuple[str | None, ...]) -> None:
    look(tmp_path, *places)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("parquet:*/out",), "--out */out is there"),
        (("parquet:*",), "--out */out is there"),
        (("parquet:*/out/scores",), "--out */out keeps scores there"),
        (("parquet:*/out/scores/deeper",), "--out */out keeps scores there"),
        (("parquet:*/out/features",), "--out */out keeps features there"),
        (("sqlite:///*/out/dead_letters/x.db",), "--out */out keeps dead_letters there"),
        (("sqlite:///*/out/summary.json",), "--out */out keeps summary.json there"),
        (("sqlite:///*/in/x.csv",), "*/in/x.csv is read"),
        (("parquet:*/in",), "*/in/x.csv is read"),
        (("parquet:*/link/scores",), "--out */out keeps scores there"),
        ((None, "file:*/out/scores/a.jsonl"), "--out */out keeps scores there"),
        ((None, "file:*/out/summary.json"), "--out */out keeps summary.json there"),
        ((None, "file:*/out/outbox.db-wal"), "keeps the alerts that wait there"),
        ((None, "file:*/out"), "--out */out is there"),
        ((None, "file:*/in/x.csv"), "*/in/x.csv is read"),
        ((None, "file:*/in/../in/x.csv"), "*/in/x.csv is read"),
        ((None, "file:*/model/model.joblib"), "*/model is read"),
        (("parquet:*/f", "file:*/f/a.jsonl"), "--sink parquet:*/f writes there"),
        (("sqlite:///*/f.db", "file:*/f.db"), "/f.db writes there"),
        (("sqlite:///*/f.db", "file:*/f.db-wal"), "/f.db writes there"),
    ],
)
def test_overlapping_places_are_refused(
    tmp_path: Path, places: tuple[str | None, ...], message: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError) as refused:
        look(tmp_path, *places)
    line = str(refused.value)
    assert message.replace("*", str(tmp_path)) in line
    assert line.startswith("--alert file:" if len(places) > 1 else "--sink ")
    assert "\n" not in line


@pytest.mark.parametrize("out", ["model", "model/scored", "link"])
def test_the_bundle_is_no_place_for_results(tmp_path: Path, out: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    outputs = RunOutputs(tmp_path / out, "r")
    with fails(Code.PLACE_SHARED, r"bundle .*model;", kind=UsageError):
        refuse_shared_places(outputs, None, [], [], Place.at(tmp_path / "model"))
