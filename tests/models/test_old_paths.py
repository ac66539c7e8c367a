"""A pickle with the name of a removed module opens as the present class."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
import pytest

from beam_fraud.models import old_paths
from beam_fraud.models.estimators.anomalies import EmpiricalRank

GONE = "beam_fraud.models.attic.ranks"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def _moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One class has moved from a removed module, and from a removed package."""
    new = f"{EmpiricalRank.__module__}.EmpiricalRank"
    monkeypatch.setattr(old_paths, "OLD_PATHS", {f"{GONE}.Rank": new})
    yield
    for name in (GONE, GONE.rpartition(".")[0]):
        sys.modules.pop(name, None)


def saved_under_the_old_name() -> tuple[bytes, EmpiricalRank]:
    rank = EmpiricalRank.of(np.arange(5.0))
    written = io.BytesIO()
    joblib.dump(rank, written, protocol=2)
    new = f"c{EmpiricalRank.__module__}\nEmpiricalRank\n".encode()
    data = written.getvalue()
    assert new in data
    return data.replace(new, f"c{GONE}\nRank\n".encode()), rank


@pytest.mark.usefixtures("_moved")
def test_a_model_opens_by_the_old_name() -> None:
    data, rank = saved_under_the_old_name()
    opened = joblib.load(io.BytesIO(data))
    assert type(opened) is EmpiricalRank
    assert opened(np.array([2.5])) == rank(np.array([2.5]))
    assert pickle.loads(f"c{GONE}\nRank\n.".encode()) is EmpiricalRank


@pytest.mark.usefixtures("_moved")
def test_only_the_listed_name_is_found() -> None:
    with pytest.raises(AttributeError, match="attribute 'Other'"):
        pickle.loads(f"c{GONE}\nOther\n.".encode())
    with pytest.raises(ModuleNotFoundError):
        import_module("beam_fraud.models.attic.others")
    with pytest.raises(ModuleNotFoundError):
        import_module("beam_fraud.models.attics")


def test_every_entry_leads_to_a_class() -> None:
    for old, new in old_paths.OLD_PATHS.items():
        module, _, name = new.rpartition(".")
        assert hasattr(import_module(module), name), f"{old}: there is no {new}"


def test_a_process_that_only_unpickles_finds_old_names() -> None:
    program = (
        "import pickle, beam_fraud.models.old_paths as paths; "
        f"paths.OLD_PATHS = {{'{GONE}.Error': 'beam_fraud.errors.FraudError'}}; "
        f"print(pickle.loads(b'c{GONE}\\nError\\n.').__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "beam_fraud.errors\n", done.stderr
