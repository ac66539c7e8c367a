"""Check the inputs of a command."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

from beam_fraud.cli.options.groups import KafkaOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import MANIFEST_FILE, MODEL_FILE
from beam_fraud.sources.filesystem import list_files
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.storage.urls import Place


def kafka_settings(servers: str, options: KafkaOptions) -> KafkaSettings:
    """Return the connection settings of a broker.

    Args:
      servers: `--kafka`.
      options: options of the call.

    Raises:
      UsageError: a property is invalid.
      FraudError: a file that an option names cannot be read.
    """
    file = None if options.kafka_properties is None else Path(options.kafka_properties)
    return KafkaSettings.of(servers, options.kafka_config, file)


def refuse_bundles(patterns: Sequence[str]) -> None:
    """Refuse model bundles among the transactions.

    Raises:
      UsageError: a directory is a model bundle.
      FraudError: the file system reports an error.
    """
    for name in patterns:
        path = Place.parse(name).local
        if path is not None and _is_bundle(path):
            raise UsageError(
                f"{name}: is a model bundle, not transactions; give it as --model",
                Code.INPUT_FORMAT,
            )


def _is_bundle(path: Path) -> bool:
    try:
        return all((path / name).is_file() for name in (MANIFEST_FILE, MODEL_FILE))
    except OSError as error:
        raise FraudError(
            f"{path}: cannot be read: {error.strerror}", Code.INPUT_UNREADABLE
        ) from None


def refuse_own_outputs(patterns: Sequence[str], out: Path | str) -> None:
    """Refuse inputs that are outputs of this or an earlier run.

    Args:
      patterns: paths, directories or globs.
      out: the directory of the outputs, absolute, or its URL.

    Raises:
      UsageError: the output directory is inside an input directory, or a glob matches into it.
        Names that start with `_` are never read and allowed.
      FraudError: the file system reports an error.
    """
    if isinstance(out, str):
        for name in patterns:
            read = name.rstrip("/")
            if f"{out}/".startswith(f"{read}/") or read.startswith(f"{out}/"):
                raise UsageError(_inside(out, name), Code.PLACE_SHARED)
        return
    if out.is_file():
        raise UsageError(f"--out {out}: is a file, give a directory", Code.OUTPUT_NAME)
    place = Path(realpath(out))
    for name in patterns:
        path = Place.parse(name).local
        directory = None if path is None else Path(realpath(path))
        if directory and place.is_relative_to(directory) and not _hidden(place, directory):
            raise UsageError(_inside(out, name), Code.PLACE_SHARED)
        if any(Path(realpath(file)).is_relative_to(place) for file in _matches(name)):
            raise UsageError(_inside(out, name), Code.PLACE_SHARED)


def _hidden(place: Path, directory: Path) -> bool:
    return any(part.startswith((".", "_")) for part in place.relative_to(directory).parts)


def _matches(pattern: str) -> list[str]:
    # Only globs remain; paths that match nothing fail on reading.
    path = Place.parse(pattern).local
    if path is None or path.exists():
        return []
    try:
        return [file.path for file in list_files(pattern)]
    except FraudError:
        return []


def _inside(out: Path | str, pattern: str) -> str:
    return (
        f"--out {out}: is among the files to read ({pattern}), so the next run would read the "
        "outputs of this run; give a directory outside"
    )
