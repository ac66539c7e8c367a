"""Any bytes lead to dead letters or one refusal, and never to a crash."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing import KINDS, READ, REFUSED, damaged, run


def numbered(kinds: tuple[str, ...], first: int, count: int) -> Iterator[tuple[str, int]]:
    """Yield inputs of each kind in turn, as many of Parquet as of all text."""
    turn = itertools.cycle(("parquet", kind) for kind in kinds if kind != "parquet")
    pairs = itertools.islice(itertools.chain.from_iterable(turn), count)
    return ((kind, first + place) for place, kind in enumerate(pairs))


def check(first: int, count: int, directory: Path) -> None:
    result = run(numbered(KINDS, first, count), directory)
    print(dict(result.outcomes))
    assert result.failures == []
    assert sum(result.outcomes.values()) == count
    # Damage that is always found at the first look would reach nothing behind it.
    for kind in KINDS:
        assert result.outcomes[f"{kind} {READ}"]
        if kind != "jsonl":
            assert result.outcomes[f"{kind} {REFUSED}"]


def test_damaged_files_of_every_format(tmp_path: Path) -> None:
    check(0, 400, tmp_path)


@pytest.mark.soak
def test_a_hundred_thousand_damaged_files(tmp_path: Path) -> None:
    check(1_000, 100_000, tmp_path)


def test_an_input_is_reproduced_by_its_number() -> None:
    assert damaged("parquet", 5) == damaged("parquet", 5) != damaged("parquet", 6)
