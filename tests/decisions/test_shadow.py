"""Challengers in shadow, without a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.decision import decision_codes
from beam_fraud.decisions.shadow import Challenger, Shadows
from beam_fraud.models.bundle import load_bundle
from beam_fraud.schema.schema import EVENT_TIME
from tests.shadowing import Careless, Failing, Share, Slow, shadow_bundle

AMOUNTS = np.arange(49.0)


def decider(directory: Path, model: Share) -> Decider:
    bundle = load_bundle(shadow_bundle(directory, model))
    return Decider(bundle, bundle.features_in(bundle.schema))


def challenger(directory: Path, model: Share) -> Challenger:
    own = decider(directory, model)
    return Challenger(str(directory), own.bundle.model_id, own)


def rows(amounts: np.ndarray) -> pa.RecordBatch:
    ids = pa.array([f"x{n}" for n in range(len(amounts))])
    times = pa.array(np.zeros(len(amounts), dtype=np.int64)).cast(EVENT_TIME)
    return pa.RecordBatch.from_pydict(
        {"transaction_id": ids, "event_time": times, "account_id": ids, "amount": amounts}
    )


def test_nothing_of_a_challenger_reaches_the_champion(tmp_path: Path) -> None:
    champion = decider(tmp_path / "champion", Share(0.01))
    models = {"careless": Careless(0.02), "failing": Failing(0.01)}
    shadows = Shadows(champion, [challenger(tmp_path / name, one) for name, one in models.items()])
    block, scores = AMOUNTS[:, None].copy(), AMOUNTS * 0.01
    decided = decision_codes(scores, champion.bundle.thresholds, None)
    both = shadows.score(rows(AMOUNTS), block, scores, decided)
    assert (len(both.rows), both.dropped) == (2 * len(AMOUNTS), {})
    block[-1] = 50.0
    one = shadows.score(rows(block[:, 0]), block, scores, decided)
    (dropped,) = one.dropped.values()
    assert dropped.reason == "failed with ValueError"
    assert one.rows["model_id"].to_pylist() == both.rows["model_id"].to_pylist()[: len(AMOUNTS)]
    assert block[:, 0].tolist() == [*AMOUNTS[:-1], 50.0]
    assert shadows.score(rows(AMOUNTS), block, scores, decided).dropped == {}


def test_small_blocks_are_judged_together_and_by_the_cost_of_a_call(tmp_path: Path) -> None:
    champion = decider(tmp_path / "champion", Share(0.01))
    slow = challenger(tmp_path / "slow", Slow(0.01))
    few = rows(AMOUNTS[:10])
    block, scores = AMOUNTS[:10, None], AMOUNTS[:10] * 0.01
    decided = decision_codes(scores, champion.bundle.thresholds, None)
    # Ten rows cost 500 microseconds and more, which is a limit of 50 a row, but they count as 100.
    shadows = Shadows(champion, [slow], limit=45.0)
    assert not any(shadows.score(few, block, scores, decided).dropped for _ in range(100))
    shadows = Shadows(champion, [slow], limit=4.0)
    dropped = [bool(shadows.score(few, block, scores, decided).dropped) for _ in range(101)]
    assert dropped == [*[False] * 99, True, False]
