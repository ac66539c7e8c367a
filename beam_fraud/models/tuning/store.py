"""The journal of trials, from which an interrupted tuning continues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.storage.lock import lock

_STUDY = "tuning"
_FINGERPRINT = "fingerprint"


@contextmanager
def study_in(path: str, fingerprint: str) -> Iterator[Any]:
    """Open Optuna's study in a journal file, locked against other processes.

    Args:
      path: path of the file, created if missing.
      fingerprint: fingerprint of the tuning.

    Returns:
      The `optuna.Study`. Unfinished trials of earlier calls are marked as failed.

    Raises:
      FraudError: the file cannot be written, is no journal, is in use, or has trials of another
        fingerprint.
    """
    optuna = extra_module("optuna", "--tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _held(path):
        _mend(path)
        journal = extra_module("optuna.storages.journal", "--tune")
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(path, _Locked()))
        if _STUDY in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=_STUDY, storage=storage)
        else:
            study = optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize")
        known = study.user_attrs.get(_FINGERPRINT)
        if known is None:
            study.set_user_attr(_FINGERPRINT, fingerprint)
        elif known != fingerprint:
            raise FraudError(
                f"{path}: its trials are of other rows, another kind or other options; delete it "
                "to start again, or give another --tune-store",
                Code.OUTPUT_OCCUPIED,
            )
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        yield study


#: First bytes of Optuna's journal.
_BEGIN = b'{"op_code":'


class _Locked:
    """The lock of Optuna's journal, held for the whole study."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _held(path: str) -> Iterator[None]:
    try:
        held = lock(Path(path))
    except BlockingIOError:
        raise FraudError(
            f"{path}: another process keeps its trials there; wait for it, or give another "
            "--tune-store",
            Code.OUTPUT_IN_USE,
        ) from None
    except OSError as error:
        raise FraudError(
            f"{path}: trials can't be kept there ({error.strerror}); give another --tune-store",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    try:
        yield
    finally:
        held.release()


def _mend(path: str) -> None:
    """Remove an incomplete last line of a killed process.

    Raises:
      FraudError: the file is no journal of Optuna.
    """
    data = Path(path).read_bytes()
    if data and b"\n" not in data and data[: len(_BEGIN)] == _BEGIN[: len(data)]:
        # The first line is incomplete.
        data = b""
        os.truncate(path, 0)
    if data and not _is_journal(data):
        raise FraudError(
            f"{path}: holds no trials; give another --tune-store", Code.OUTPUT_OCCUPIED
        )
    if not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _is_journal(data: bytes) -> bool:
    try:
        first = json.loads(data.split(b"\n", 1)[0])
    except ValueError:
        return False
    return isinstance(first, dict) and "op_code" in first
