"""Places that the options of a run name, and the check that none overlaps with another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from os.path import realpath
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.errors import Code, UsageError
from beam_fraud.runners.dataflow.checks import IN_IMAGE
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sources.segment import InputFile
from beam_fraud.storage.urls import Place

#: Suffixes of SQLite's files beside a database.
_BESIDE_DATABASE = ("-journal", "-wal", "-shm")


@dataclass(frozen=True)
class _Place:
    """A file, or a directory with its contents."""

    #: The option and its value.
    option: str
    #: Resolved path.
    path: Path
    #: Its purpose, if not obvious from the option.
    holds: str = ""


@dataclass(frozen=True, kw_only=True)
class RunPlaces:
    """The places that the options of a run name."""

    #: Files, directories or globs of the transactions.
    files: tuple[Place, ...]
    #: The same of earlier transactions.
    history: tuple[Place, ...]
    #: The bundle; None for a run without a model.
    model: Place | None
    #: The option that leads to it.
    model_option: str
    #: Further bundles, of `--against`.
    against: tuple[Place, ...]
    #: Directory of lists that rules name, or None.
    lists: Place | None
    #: The directory whose new files a stream reads, or None.
    watch: Place | None
    #: `--out`.
    out: Place
    #: Bundles of challengers in shadow.
    shadows: tuple[Place, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        out: str,
        files: Sequence[str] = (),
        history: Sequence[str] = (),
        model: Place | None = None,
        model_option: str = "--model",
        against: Sequence[str] = (),
        lists: str | None = None,
        watch: str | None = None,
    ) -> RunPlaces:
        """Parse the options of a run, once a call; the model is found before."""
        return cls(
            files=Place.parse_all(files),
            history=Place.parse_all(history),
            model=model,
            model_option=model_option,
            against=Place.parse_all(against),
            lists=None if lists is None else Place.parse(lists),
            watch=None if watch is None else Place.parse(watch),
            out=Place.parse(out),
        )

    def of_workers(
        self, sink: FlaggedSink | None, files: Mapping[str, str] = MappingProxyType({})
    ) -> list[WorkerPlace]:
        """Return the places that workers read and write.

        Args:
          sink: the sink, which says what it writes on a disk and which files it reads.
          files: further files that every worker reads itself: option to path.
        """
        places = [WorkerPlace("", file) for file in self.files]
        places += [WorkerPlace("--history", file) for file in self.history]
        if self.watch is not None:
            places.append(WorkerPlace("--watch", self.watch, on_disk=True, fix="give --kafka"))
        places.append(WorkerPlace("--out", self.out, written=True))
        places += [_read_by_all(option, Place.parse(path)) for option, path in files.items()]
        if self.model is not None:
            places.append(_bundle(self.model_option, self.model))
        places += [_bundle("--against", place) for place in self.against]
        places += [_bundle("--shadow", place) for place in self.shadows]
        if self.lists is not None:
            places.append(_read_by_all("--lists", self.lists))
        if sink is None:
            return places
        if sink.disk is not None:
            place = Place(str(sink.disk), sink.disk, sink.describe())
            other = "give postgresql:// or bigquery:"
            places.append(WorkerPlace("--sink", place, on_disk=True, fix=other))
        return places + [
            _read_by_all(f"--sink {name}", Place.parse(path))
            for name, path in sink.worker_files.items()
        ]


def _bundle(option: str, place: Place) -> WorkerPlace:
    fix = f"put it in a bucket, or in the image under {IN_IMAGE}"
    return WorkerPlace(option, place, fix=fix)


def _read_by_all(option: str, place: Place) -> WorkerPlace:
    """Return a file that every worker reads itself, so that no job contains secrets."""
    return WorkerPlace(option, place, fix=f"put it in the image under {IN_IMAGE}")


class AlertOutputs(Protocol):
    """Outputs under `--out`, with the alerts that wait."""

    @property
    def shown(self) -> str:
        """`--out`, for messages."""

    @property
    def outbox(self) -> Path | None:
        """Database of pending alerts without a database sink, or None."""


class Outputs(AlertOutputs, Protocol):
    """Outputs under `--out`."""

    @property
    def directory(self) -> Path | str:
        """`--out`, absolute, or its URL."""

    @property
    def reserved(self) -> list[Path]:
        """Paths written directly under it."""


def refuse_shared_places(
    outputs: Outputs,
    sink: FlaggedSink | None,
    channels: Sequence[Channel],
    files: Sequence[InputFile],
    bundle: Place | None,
    watched: Place | None = None,
) -> None:
    """Refuse outputs that overlap with other outputs or inputs.

    Args:
      outputs: `--out`, in which a sink or a file of alerts may have its own place.
      sink: sink of flagged rows.
      channels: alert channels.
      files: inputs; URLs are skipped.
      bundle: directory of the model.
      watched: a directory whose direct files are all read, or None.

    Raises:
      UsageError: two places are the same, or one is inside the other.
    """
    places = [*_of_sink(sink), *_of_channels(channels)]
    directory = outputs.directory
    # A URL cannot overlap with a local path.
    out = isinstance(directory, Path) and _Place(
        f"--out {directory}", _followed(directory), " is there"
    )
    outbox = bool(channels) and (sink is None or sink.database is None)
    own = list(_of_outputs(outputs, outbox=outbox))
    read = (*(file.place for file in files), *(() if bundle is None else (bundle,)))
    inputs = [_Place(place.name, _followed(place.local)) for place in read if place.local]
    model = None if bundle is None else bundle.local
    if out and model and out.path.is_relative_to(_followed(model)):
        raise UsageError(
            f"--out {directory}: is in the model bundle {bundle}; give another place",
            Code.PLACE_SHARED,
        )
    for place in places:
        if out and out.path.is_relative_to(place.path):
            raise _refusal(place, out)
        for other in own:
            if _meet(place, other):
                raise _refusal(place, other)
        for other in inputs:
            if _meet(place, other):
                raise UsageError(
                    f"{place.option}: {other.option} is read; give another place", Code.PLACE_SHARED
                )
    if watched is not None and watched.local is not None:
        path = _followed(watched.local)
        for place in (*places, *own):
            if path.is_relative_to(place.path) or place.path.parent == path:
                raise _refusal(_Place(f"--watch {watched.shown}", path), place)
    for one, other in combinations(places, 2):
        if one.option != other.option and _meet(one, other):
            raise _refusal(other, one)


def _of_outputs(outputs: Outputs, *, outbox: bool) -> Iterator[_Place]:
    option = f"--out {outputs.directory}"
    for path in outputs.reserved:
        yield _Place(option, _followed(path), f" keeps {path.name} there")
    if outbox and outputs.outbox is not None:
        for path in _database_files(outputs.outbox):
            yield _Place(option, path, " keeps the alerts that wait there")


def _of_sink(sink: FlaggedSink | None) -> Iterator[_Place]:
    if sink is None or sink.disk is None:
        return
    paths = [_followed(sink.disk)] if sink.database is None else _database_files(sink.disk)
    for path in paths:
        yield _Place(f"--sink {sink.describe()}", path)


def _of_channels(channels: Sequence[Channel]) -> Iterator[_Place]:
    for channel in channels:
        if channel.disk is not None:
            yield _Place(f"--alert {channel.describe()}", _followed(channel.disk))


def _database_files(file: Path) -> Iterator[Path]:
    path = _followed(file)
    yield path
    for ending in _BESIDE_DATABASE:
        yield path.with_name(path.name + ending)


def _followed(path: Path) -> Path:
    return Path(realpath(path))


def _meet(one: _Place, other: _Place) -> bool:
    return one.path.is_relative_to(other.path) or other.path.is_relative_to(one.path)


def _refusal(place: _Place, other: _Place) -> UsageError:
    why = f"{other.option}{other.holds or ' writes there'}"
    return UsageError(f"{place.option}: {why}; give another place", Code.PLACE_SHARED)
