"""Compute an archived decision again from its kept inputs, and compare both bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.decision import APPROVE, DecidedRow, decided_rows
from beam_fraud.decisions.inputs import FEATURES, MUTED_RULES, RULE_INPUTS
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.decisions.rules.condition import Kind, Listed
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import Fired, RuleSet, listing_of
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.predict import predict_scores
from beam_fraud.operations.audit.archive import ArchivedRow
from beam_fraud.schema.stages import SCORED

Floats = npt.NDArray[np.float64]
#: Rows of blocks in which a row is computed: sums of BLAS, in linear models and networks, depend on
#: a row's place in its block, in the remainder of four or not.
_BLOCKS = (1, 2, 3, 4, 5, 6, 7, 8, 67)
#: Reasons that are computed; a run may have kept fewer.
_MOST_REASONS = 10
_OWN = SCORED.names[:5]


@dataclass(frozen=True)
class Check:
    """A part of a decision, as it was recorded and as it is computed again."""

    what: Literal["score", "decision", "rules", "reasons", "lists"]
    recorded: Any
    recomputed: Any
    agrees: bool


@dataclass(frozen=True)
class KeptInputs:
    """The inputs of the model and the rules for one row."""

    #: The model's input, by feature.
    features: Mapping[str, float]
    #: What rules read beside, by name.
    rule_inputs: Mapping[str, pa.Array]
    #: Look-ups of lists and their results.
    listed: Mapping[str, bool]
    #: Rules that held, and were muted; None without rules.
    muted: tuple[str, ...] | None

    @classmethod
    def of(cls, row: pa.Table) -> KeptInputs | None:
        """Return the inputs of an archived row; None if it keeps none."""
        values = {name: column[0].as_py() for name, column in _members(row, FEATURES).items()}
        if not values:
            return None
        read = _members(row, RULE_INPUTS)
        listed = {
            name: bool(column[0].as_py())
            for name, column in read.items()
            if pa.types.is_boolean(column.type)
        }
        muted = None
        if MUTED_RULES in row.column_names:
            muted = tuple(row.column(MUTED_RULES)[0].as_py() or ())
        return cls(values, {n: c for n, c in read.items() if n not in listed}, listed, muted)

    def block(self, features: FeatureSet) -> Floats | None:
        """Return the model's input, float64[1, features]; None if it is another model's."""
        if tuple(self.features) != features.names:
            return None
        return np.array([list(self.features.values())], dtype=np.float64)

    def vocabulary(self, features: FeatureSet) -> dict[str, Kind]:
        """Return the names that rules may use: what they could have read."""
        coded = {features.names[place] for place in features.categorical}
        names: dict[str, Kind] = {"amount": "number", "score": "number"}
        names |= dict.fromkeys(("transaction_id", "account_id", "merchant_id"), "text")
        names |= {name: "number" for name in self.features if name not in coded}
        for name, column in self.rule_inputs.items():
            names[name] = "text" if pa.types.is_string(column.type) else "number"
        return names

    @property
    def lists(self) -> frozenset[str]:
        """Names of the lists that rules looked into."""
        return frozenset(name.rpartition(" in @")[2] for name in self.listed)


def _members(row: pa.Table, name: str) -> dict[str, pa.Array]:
    """Return the columns of a struct of one row; empty for null and without the struct."""
    if name not in row.column_names or row.column(name).null_count:
        return {}
    struct = row.column(name).combine_chunks()
    return dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))


def recompute(
    archived: ArchivedRow, inputs: KeptInputs, block: Floats, bundle: Bundle, rules: RuleSet | None
) -> list[Check]:
    """Compute score, decision, rules and reasons again.

    Args:
      archived: the row.
      inputs: its kept inputs.
      block: the model's input, float64[1, features].
      bundle: the model that decided.
      rules: the rules that decided, or None.

    Raises:
      FraudError: a file of the bundle is missing or changed, or the model cannot be opened.
    """
    with threadpool_limits(1):
        score = _score(bundle, block, archived.value("score"))
        fired = None if rules is None else _fired(archived.row, inputs, block, score, bundle, rules)
        checks = [_score_check(archived.value("score"), score)]
        muted = frozenset(inputs.muted or ())
        effective = None if fired is None else _without(fired, muted)
        [decided] = decided_rows(np.array([score]), bundle.thresholds, effective)
        held = frozenset[str]() if fired is None else _names(fired)
        checks.append(_rules_check(archived, decided, held, muted))
        if archived.value("degraded") != "timeout":
            # Otherwise the decision is that of --on-timeout.
            recorded, now = archived.value("decision"), decided.decision
            agrees = recorded == now and archived.value("flagged") == (now != APPROVE)
            checks.append(Check("decision", recorded, now, agrees))
        checks += _reasons_check(archived.value("reasons"), bundle, block)
    return checks


def _score(bundle: Bundle, block: Floats, recorded: float | None) -> float:
    """Return the score of a row, in the block that gives the recorded bits if one does."""
    model = shared_model(bundle)
    first: float | None = None
    for score in _scores(model, block):
        if first is None:
            first = score
        if recorded is not None and _same_bits(score, recorded):
            return score
    assert first is not None
    return first


def _scores(model: Any, block: Floats) -> Iterator[float]:
    for rows in _BLOCKS:
        yield from predict_scores(model, np.repeat(block, rows, axis=0)).tolist()


def _same_bits(one: float, other: float) -> bool:
    return bool(np.float64(one).tobytes() == np.float64(other).tobytes())


def _score_check(recorded: float | None, score: float) -> Check:
    if recorded is None or math.isnan(recorded):
        # A server's answer without a score in time.
        return Check("score", None, score, agrees=True)
    return Check("score", recorded, score, _same_bits(recorded, score))


class _Recorded:
    """A list, with the result of one row's look-up."""

    def __init__(self, result: bool) -> None:
        self._result = result

    def of(self, column: pa.StringArray, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.full(len(column), self._result)


def _fired(
    row: pa.Table,
    inputs: KeptInputs,
    block: Floats,
    score: float,
    bundle: Bundle,
    rules: RuleSet,
) -> Fired:
    """Return the rules that hold for a row, muted ones too."""
    features = bundle.features
    coded = {features.names[place] for place in features.categorical}
    columns = {name: row.column(name).combine_chunks() for name in _OWN}
    for name, value in inputs.features.items():
        if name not in coded and name not in columns:
            columns[name] = pa.array([value], pa.float64(), from_pandas=False)
    columns |= inputs.rule_inputs
    # Calendar features are read from the block: the time zone was that of the run's schema.
    beside = [name for name in ("is_weekend", "is_night") if name in inputs.rule_inputs]
    seen = FeatureSet(features.schema, features.categories, (*features.names, *beside))
    values = [np.asarray(inputs.rule_inputs[name], dtype=np.float64) for name in beside]
    wide = np.column_stack([block, *values]) if values else block

    def recorded(part: Listed) -> _Recorded:
        return _Recorded(inputs.listed[listing_of(part)])

    program = Program(rules, seen, recorded)
    transactions = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return program.fired(transactions, wide, np.array([score]))


def _without(fired: Fired, muted: frozenset[str]) -> Fired:
    keep = np.array([[rule.name not in muted] for rule in fired.rules])
    return replace(fired, holds=fired.holds & keep)


def _names(fired: Fired) -> frozenset[str]:
    pairs = zip(fired.rules, fired.holds, strict=True)
    return frozenset(rule.name for rule, holds in pairs if holds[0])


def _rules_check(
    archived: ArchivedRow, decided: DecidedRow, held: frozenset[str], muted: frozenset[str]
) -> Check:
    recorded = [*(archived.value("rules") or ()), *_in_shadow(archived.value("shadow_rules"))]
    computed = [*decided.rules, *_in_shadow(decided.shadow_rules)]
    return Check("rules", recorded, computed, recorded == computed and muted <= held)


def _in_shadow(names: Iterable[str] | None) -> list[str]:
    return [f"{name} (in shadow)" for name in names or ()]


def _reasons_check(
    recorded: list[dict[str, Any]] | None, bundle: Bundle, block: Floats
) -> list[Check]:
    if recorded is None:
        # A run with --reasons 0.
        return []
    [computed] = Reasons.of(bundle, _MOST_REASONS).of_rows(block)
    computed = computed[: len(recorded)]
    agrees = len(recorded) == len(computed) and all(map(_same_reason, recorded, computed))
    return [Check("reasons", recorded, computed, agrees)]


def _same_reason(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return _same_bits(one, other)
    return bool(one == other)
