"""Tuning: never worse than without, equal after an interruption, isolated from other searches."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.choosing import choose
from beam_fraud.models.examples import FoldRows, LabelledRows
from beam_fraud.models.folds import block_begins, chained_folds
from beam_fraud.models.kinds import KINDS, ModelKind
from beam_fraud.models.kinds.base import Choice, Real, Space, Whole
from beam_fraud.models.tuning.trial import Trial, Tuning
from beam_fraud.models.tuning.tune import study_in, tune
from tests.failing import fails
from tests.hourly import examples, hourly
from tests.spying import Spy, SpyingModel

pytest.importorskip("optuna")


def folds(seed: int = 0, blocks: int = 3, table: pa.Table | None = None) -> FoldRows:
    rows = examples(hourly(seed=seed) if table is None else table)
    times = np.asarray(rows.transactions.column("event_time").cast("int64"))
    return FoldRows(rows, chained_folds(times, block_begins(times, blocks, None, 0), 0).folds)


FOLDS = folds()


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    return Tuning(trials=12, store=str(tmp_path / "trials"))


def without_time(trials: tuple[Trial, ...]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


@dataclass(frozen=True)
class Moody(Spy):
    """Raises Ctrl-C after some fits, or fails for settings above a bound."""

    fits: ClassVar[int] = 0
    stopped_at: ClassVar[int] = -1
    refused_above: ClassVar[float] = 2.0

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        Moody.fits += 1
        if Moody.fits == Moody.stopped_at:
            raise KeyboardInterrupt
        if self.misled > self.refused_above:
            raise ValueError("too much\nof it")
        return SpyingModel(self.misled)


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Moody:
    monkeypatch.setattr(Moody, "fits", 0)
    monkeypatch.setattr(Moody, "stopped_at", -1)
    monkeypatch.setattr(Moody, "refused_above", 2.0)
    return Moody()


def test_tuning_finds_better_settings(tuning: Tuning) -> None:
    tuned = tune(Spy(), FOLDS, 0, tuning)
    own = choose(Spy(), FOLDS, 0)
    assert tuned.trials[0].settings == {"misled": 0.7, "unused": 0.5}
    assert tuned.trials[0].average_precision == own.mean
    assert tuned.chosen.mean > own.mean + 0.05
    assert tuned.chosen.kind.misled < 0.4  # type: ignore[attr-defined]
    result = tuned.to_dict()
    assert result["best_average_precision"] == tuned.chosen.mean
    assert (result["trials"], result["asked"], result["seed"]) == (12, 12, 0)
    figures = [trial["average_precision"] for trial in result["best_trials"]]
    assert figures == sorted(figures, reverse=True)
    assert len(figures) <= 10
    json.dumps(result)


def test_the_best_settings_stay_the_best(tuning: Tuning) -> None:
    """Tuning cannot make optimal settings worse."""
    best = Spy(misled=0.0)
    tuned = tune(best, FOLDS, 0, replace(tuning, trials=6))
    if tuned.chosen.kind != best:
        assert tuned.chosen.mean > choose(best, FOLDS, 0).mean
    assert tuned.chosen.mean >= choose(best, FOLDS, 0).mean


def test_a_seed_gives_the_same_trials(tuning: Tuning, tmp_path: Path) -> None:
    one, same, other = (
        tune(Spy(), FOLDS, seed, replace(tuning, trials=n, store=str(tmp_path / name))).trials
        for name, seed, n in (("one", 3, 12), ("same", 3, 12), ("other", 4, 2))
    )
    assert without_time(one) == without_time(same)
    assert without_time(one)[1] != without_time(other)[1]
    assert len({trial.settings["misled"] for trial in one}) == 12


@pytest.mark.parametrize("stopped_at", [1, 3, 4, 17, 30])
def test_an_interrupted_search_resumes(
    moody: Moody,
    tuning: Tuning,
    tmp_path: Path,
    stopped_at: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = tune(moody, FOLDS, 0, replace(tuning, store=str(tmp_path / "whole")))
    fits = Moody.fits
    monkeypatch.setattr(Moody, "fits", 0)
    monkeypatch.setattr(Moody, "stopped_at", stopped_at)
    with pytest.raises(KeyboardInterrupt):
        tune(moody, FOLDS, 0, tuning)
    assert f"trials are stored in {tuning.store}" in caplog.text
    rest = tune(moody, FOLDS, 0, tuning)
    assert without_time(rest.trials) == without_time(whole.trials)
    assert rest.chosen.kind == whole.chosen.kind
    # Only the trial that was interrupted is made again.
    assert fits < Moody.fits <= fits + 3


def test_a_torn_last_line_is_ignored(tuning: Tuning) -> None:
    before = tune(Spy(), FOLDS, 0, replace(tuning, trials=4))
    with Path(tuning.store).open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"9')
    after = tune(Spy(), FOLDS, 0, replace(tuning, trials=5))
    assert after.trials[:4] == before.trials
    assert len(after.trials) == 5
    assert tune(Spy(), FOLDS, 0, replace(tuning, trials=5)).trials == after.trials


@pytest.mark.parametrize(
    "change",
    [
        {"kind": Spy(misled=0.6)},
        {"rows": folds(seed=1)},
        {"rows": folds(blocks=4)},
        {"seed": 1},
        {"recipe": "resampled"},
        {"tuning": {"fixed": frozenset({"unused"})}},
    ],
    ids=["settings", "rows", "folds", "seed", "recipe", "fixed"],
)
def test_trials_of_another_search_are_refused(tuning: Tuning, change: dict[str, Any]) -> None:
    options = {"kind": Spy(), "rows": FOLDS, "seed": 0, "recipe": ""}
    tune(**options, tuning=replace(tuning, trials=1))
    written = Path(tuning.store).read_bytes()
    other = replace(tuning, **change.get("tuning", {}))
    with pytest.raises(
        FraudError, match=r"its trials are of other rows, .* --tune-store"
    ) as caught:
        tune(**{**options, **change, "tuning": other})
    assert "\n" not in str(caught.value)
    assert Path(tuning.store).read_bytes() == written


def test_another_file_is_not_taken_for_trials(tuning: Tuning, tmp_path: Path) -> None:
    for data in (b"a,b\n1,2\n", b"[]\n", b'{"a": 1}\n', b"no line end"):
        Path(tuning.store).write_bytes(data)
        with fails(Code.OUTPUT_OCCUPIED):
            tune(Spy(), FOLDS, 0, tuning)
        assert Path(tuning.store).read_bytes() == data
    with fails(Code.OUTPUT_UNWRITABLE, "--tune-store"):
        tune(Spy(), FOLDS, 0, replace(tuning, store=str(tmp_path)))


def test_two_searches_do_not_share_a_file(tuning: Tuning) -> None:
    with study_in(tuning.store, "one"), pytest.raises(FraudError, match="another process"):
        tune(Spy(), FOLDS, 0, tuning)


def test_no_trial_begins_when_the_time_is_over(tuning: Tuning) -> None:
    tuned = tune(Spy(), FOLDS, 0, replace(tuning, budget=0.0))
    assert [trial.number for trial in tuned.trials] == [1]
    assert tuned.chosen.kind == Spy()


def test_settings_of_the_user_stay(tuning: Tuning) -> None:
    tuned = tune(Spy(), FOLDS, 0, replace(tuning, fixed=frozenset({"misled"})))
    assert all(set(trial.settings) == {"unused"} for trial in tuned.trials)
    assert tuned.chosen.kind.misled == 0.7  # type: ignore[attr-defined]
    with fails(Code.MODEL_SETTING, "--set", kind=UsageError):
        tune(Spy(), FOLDS, 0, replace(tuning, fixed=frozenset(Spy.space)))


def test_a_kind_without_settings_cannot_be_tuned(tuning: Tuning) -> None:
    @dataclass(frozen=True)
    class Plain(Spy):
        space: ClassVar[Space] = {}

    with fails(Code.MODEL_SETTING, "--tune: --model spy: ", kind=UsageError):
        tune(Plain(), FOLDS, 0, tuning)


def test_settings_that_do_not_work_cost_one_trial(
    moody: Moody,
    tuning: Tuning,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Moody, "refused_above", 0.8)
    tuned = tune(moody, FOLDS, 0, tuning)
    failed = [trial for trial in tuned.trials if trial.settings["misled"] > 0.8]
    assert failed
    assert all((t.state, t.average_precision) == ("failed", None) for t in failed)
    assert tuned.to_dict()["failed"] == len(failed)
    assert f"trial {failed[0].number} failed: too much" in caplog.text
    monkeypatch.setattr(Moody, "refused_above", 0.1)
    with pytest.raises(ValueError, match="too much"):
        tune(moody, FOLDS, 1, replace(tuning, store=f"{tuning.store}-2"))


def test_trials_that_are_bad_on_the_first_folds_are_pruned(tuning: Tuning) -> None:
    @dataclass(frozen=True)
    class Counted(Spy):
        fits: ClassVar[list[float]] = []

        def fit(self, rows: LabelledRows, seed: int) -> Any:
            self.fits.append(self.misled)
            return SpyingModel(self.misled)

    # On the first two of four folds everything is perfect: what is good is seen on the third.
    easy = hourly().to_pandas()
    for name in ("telling", "misleading"):
        easy.loc[:359, name] = easy.loc[:359, "fraud"] * 10.0
    rows = folds(blocks=4, table=pa.Table.from_pandas(easy, schema=hourly().schema))
    tuned = tune(Counted(misled=0.9), rows, 0, replace(tuning, trials=20))
    pruned = [trial for trial in tuned.trials if trial.state == "pruned"]
    assert 0 < len(pruned) < 15
    for trial in pruned:
        assert Counted.fits.count(trial.settings["misled"]) == 3
        assert trial.average_precision is None
        assert trial.settings != tuned.to_dict()["best_trials"][0]["settings"]
    assert all(trial.state == "complete" for trial in tuned.trials[:5])


def test_progress_reports_the_limits_and_the_best_trial(
    tuning: Tuning, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "beam_fraud"):
        tune(Spy(), FOLDS, 7, replace(tuning, trials=2, budget=60.0))
    first, one, two, last = [record.getMessage() for record in caplog.records]
    assert "at most 2 trials in 60 s, 3 folds, seed 7" in first
    assert tuning.store in first
    assert one.startswith("trial 1 of 2: 0.")
    assert "misled=0.7, unused=0.5" in one
    assert two.startswith("trial 2 of 2: ")
    assert last.startswith("trial ")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_searches_around_its_own_settings(kind: ModelKind) -> None:
    for name, where in kind.space.items():
        own = getattr(kind, name)
        if isinstance(where, Choice):
            assert own in where.values
        else:
            assert where.low <= own <= where.high, name
            assert where.low > 0 or not where.log
            assert type(own) is (int if isinstance(where, Whole) else float)
            assert isinstance(where, Whole | Real)
