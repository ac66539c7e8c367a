"""Print the seconds of one core that a hundred rules add to the decision, as JSON.

python -m benchmarks.rules_run ROWS BLOCK_ROWS REPEAT
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import EVENT_TIME

RULES = 100
#: Merchants that a rule lets pass.
_TRUSTED = 5_000
_FEATURES = FeatureSet(HANDBOOK)
_VELOCITY = [name for definition in HANDBOOK.velocity for name in definition.names]


@dataclass(frozen=True)
class Block:
    """Input of the step that decides."""

    transactions: pa.RecordBatch
    features: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


def hundred_rules() -> RuleSet:
    """Return rules of common kinds: thresholds, windows, ratios, texts, lists, calendar."""
    trusted = ", ".join(f'"m{number}"' for number in range(_TRUSTED))
    text = [f'[[list]]\nname = "trusted"\nvalues = [{trusted}]\n']
    for number in range(RULES):
        one, other = _VELOCITY[number % 12], _VELOCITY[(number + 5) % 12]
        when = (
            f"amount > {400 + 3 * number} and {one} >= {10 + number % 7}",
            f"{one} / {other} > {30 + number} or account_id == 'a{number}'",
            f"is_night == 1 and {number} < amount <= {number + 2} and not {one} < 9",
            f"merchant_id in trusted and score < 0.00{number:02}",
        )[number % 4]
        decision = "approve" if "trusted" in when else ("review", "decline")[number % 2]
        text.append(
            f'[[rule]]\nname = "r{number}"\nwhen = "{when}"\ndecision = "{decision}"\n'
            f"priority = {number % 5}\n"
        )
    return rules_from_toml("".join(text), vocabulary(HANDBOOK, scored=True))


def synthetic(rows: int, seed: int) -> Block:
    """Return synthetic transactions with velocity features and scores."""
    random = np.random.default_rng(seed)
    ids = {"account_id": ("a", 100_000), "merchant_id": ("m", 50_000)}
    columns: dict[str, pa.Array] = {
        "transaction_id": pa.array([str(row) for row in range(rows)]),
        "event_time": pa.array(random.integers(0, 10**13, rows)).cast(EVENT_TIME),
        **{
            name: pa.array([f"{letter}{number}" for number in random.integers(0, many, rows)])
            for name, (letter, many) in ids.items()
        },
        "amount": pa.array(random.exponential(80, rows)),
        **{name: pa.array(random.exponential(3, rows)) for name in _VELOCITY},
    }
    transactions = pa.RecordBatch.from_pydict(columns)
    return Block(transactions, feature_matrix(transactions, _FEATURES), random.random(rows) ** 4)


def decided(blocks: Sequence[Block], times: int, program: Program | None) -> float:
    """Return the processor seconds to decide all blocks a number of times."""
    thresholds = Thresholds(0.9, 0.99)
    start = time.process_time()
    for _ in range(times):
        for block in blocks:
            fired = None
            if program is not None:
                fired = program.fired(block.transactions, block.features, block.scores)
            decide(block.transactions, block.scores, thresholds, "m@1", fired)
    return time.process_time() - start


def main() -> None:
    """Decide with rules and without, in turn."""
    rows, block_rows, repeat = map(int, sys.argv[1:])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    block_rows = min(block_rows, rows)
    # A few blocks again and again: what is measured is not how quick memory is.
    blocks = [synthetic(block_rows, seed) for seed in range(min(4, rows // block_rows))]
    times = max(rows // (block_rows * len(blocks)), 1)
    program = Program(hundred_rules(), _FEATURES)
    decided(blocks, 1, program)
    with_rules, without = [], []
    for _ in range(repeat):
        with_rules.append(decided(blocks, times, program))
        without.append(decided(blocks, times, None))
    fired = [program.fired(b.transactions, b.features, b.scores) for b in blocks]
    names_a_row = sum(sum(each.counts) for each in fired) / (block_rows * len(blocks))
    done = times * block_rows * len(blocks)
    print(json.dumps({"rows": done, "with": with_rules, "without": without, "fired": names_a_row}))


if __name__ == "__main__":
    main()
