"""A savepoint is taken up by a stream of the same kind alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.checkpoint.kept_elsewhere import refuse_other_stream, remember
from beam_fraud.errors import FraudError

ABOUT = {"source": "topic t", "number of shards": "16"}


def test_the_same_stream_goes_on(tmp_path: Path) -> None:
    remember(tmp_path / "about.json", ABOUT)
    refuse_other_stream(tmp_path / "about.json", ABOUT)


def test_another_number_of_shards_is_refused(tmp_path: Path) -> None:
    remember(tmp_path / "about.json", ABOUT)
    with pytest.raises(FraudError, match=r"another number of shards \(16, now 8\); give what"):
        refuse_other_stream(tmp_path / "about.json", {**ABOUT, "number of shards": "8"})


def test_a_place_of_which_nothing_is_known_takes_any(tmp_path: Path) -> None:
    refuse_other_stream(tmp_path / "about.json", ABOUT)
