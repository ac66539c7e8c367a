"""Score the rows of a partition by all models and rule sets, and write them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.inputs import DecisionInputs, without_inputs
from beam_fraud.decisions.reasons.reasons import reasons_of
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.model_group import ModelGroup, of_one_block
from beam_fraud.models.predict import use_one_thread
from beam_fraud.models.small_blocks.predictor import Predictor
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.pipeline.rescore.sides import Side, Sides
from beam_fraud.records.doubts import Doubt
from beam_fraud.records.read import ReadBlock
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.rescore_outputs import RescoreOutputs


class Scored(NamedTuple):
    """The rows of a side."""

    side: Side
    rows: pa.RecordBatch
    #: Seconds of the processor.
    seconds: float


@dataclass(frozen=True)
class _Models:
    """Models of the same features."""

    features: FeatureSet
    group: ModelGroup
    #: The sides of each model.
    sides: tuple[tuple[tuple[Side, Scorer], ...], ...]


class Scorers:
    """The models and rules of all sides; one prediction serves all sides of a model."""

    def __init__(self, sides: Sides, reasons: int, *, keep_features: bool = False) -> None:
        """Load the models.

        Args:
          sides: the models and rules.
          reasons: maximum of reasons per flagged row.
          keep_features: whether rows keep the inputs of their decisions.

        Raises:
          FraudError: a model cannot be opened.
        """
        self.sides = sides
        self._kept = {
            side.key: DecisionInputs.of(side.features, side.rules) if keep_features else None
            for side in sides.all
        }
        self._beside = sides.beside
        alike = of_one_block(sides.all, lambda side: side.features)
        self._models = [_models(same, reasons, self._kept) for same in alike]

    def written(self, side: Side) -> pa.Schema:
        """Return the columns of a side's rows."""
        kept, written = self._kept[side.key], self.sides.written
        return written if kept is None else kept.after(written)

    def score(self, transactions: pa.RecordBatch) -> Iterator[Scored]:
        """Score n transactions with velocity features.

        Yields:
          n rows of `written` for each side, in the order of the transactions.
        """
        use_one_thread()
        beside = self._columns_beside(transactions)
        for models in self._models:
            start = time.thread_time()
            block = feature_matrix(transactions, models.features)
            predicted = models.group.predict(block)
            each = (time.thread_time() - start) / len(predicted)
            for scores, sides in zip(predicted, models.sides, strict=True):
                shared = each
                for side, scorer in sides:
                    start = time.thread_time()
                    decided = scorer.explain(scorer.rule(transactions, block, scores), block)
                    rows = self._with_beside(decided, side, beside)
                    yield Scored(side, rows, shared + time.thread_time() - start)
                    shared = 0.0

    def _columns_beside(self, transactions: pa.RecordBatch) -> list[pa.Array]:
        there = set(transactions.schema.names)
        rows = len(transactions)
        columns = []
        for described in self._beside:
            if described.name in there:
                columns.append(transactions.column(described.name))
            else:
                columns.append(pa.nulls(rows, described.type))
        return columns

    def _with_beside(
        self, decided: pa.RecordBatch, side: Side, beside: list[pa.Array]
    ) -> pa.RecordBatch:
        rows = len(decided)
        own = [pa.repeat(side.shadow, rows), pa.repeat(side.rule_set, rows)]
        plain = without_inputs(decided)
        kept = decided.columns[len(plain.columns) :]
        return pa.RecordBatch.from_arrays(
            [*plain.columns, *own, *beside, *kept], schema=self.written(side)
        )


def _models(
    alike: Sequence[Side], reasons: int, kept: Mapping[str, DecisionInputs | None]
) -> _Models:
    """Load the models of sides of the same features.

    Args:
      alike: the sides.
      reasons: maximum of reasons per flagged row.
      kept: what the rows of each side, by its key, keep of the inputs of their decisions.
    """
    models: dict[str, list[Side]] = {}
    for side in alike:
        models.setdefault(side.bundle.model_id, []).append(side)
    group = ModelGroup.of([sides[0].bundle for sides in models.values()])
    return _Models(
        alike[0].features,
        group,
        tuple(
            _scorers(sides, reasons, predictor, kept)
            for sides, predictor in zip(models.values(), group.predictors, strict=True)
        ),
    )


def _scorers(
    sides: Sequence[Side],
    reasons: int,
    predictor: Predictor,
    kept: Mapping[str, DecisionInputs | None],
) -> tuple[tuple[Side, Scorer], ...]:
    """Return the scorers of the sides of one model, which share what explains it."""
    explaining = reasons_of(sides[0].bundle, reasons)
    return tuple(
        (
            side,
            Scorer(side.bundle, side.features, side.rules, explaining, predictor, kept[side.key]),
        )
        for side in sides
    )


@dataclass
class Tally:
    """Rows of a partition by outcome."""

    rows: Counter[str] = field(default_factory=Counter)
    dead_reasons: Counter[str] = field(default_factory=Counter)
    side_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    doubts: Counter[Doubt] = field(default_factory=Counter)
    #: Earliest and latest event time, microseconds.
    first: int | None = None
    last: int | None = None

    def count(self, block: ReadBlock, outside: int = 0) -> None:
        """Count a block as read, of which some rows are outside the period."""
        left = len(block.transactions) - outside
        self.rows["rows_in"] += left + block.rows_left_out
        self.rows["rows_outside"] += outside
        self.rows["rows_dead"] += len(block.dead_letters)
        self.rows["rows_duplicate"] += block.duplicates
        for reason, rows in block.skipped.items():
            self.rows[f"rows_{reason}"] += rows
        self.dead_reasons.update(block.dead_letters.column("reason").to_pylist())
        self.doubts += block.doubts
        if len(block.transactions):
            times = event_micros(block.transactions)
            first, last = int(times.min()), int(times.max())
            self.first = first if self.first is None else min(first, self.first)
            self.last = last if self.last is None else max(last, self.last)


class PartitionWriter:
    """Write the files of a partition to the staging of the run."""

    def __init__(self, outputs: RescoreOutputs, name: str, scorers: Scorers) -> None:
        """Write nothing yet."""
        self._outputs = outputs
        self._name = name
        self._scorers = scorers
        self._writers: dict[str, ParquetBlockWriter] = {}
        #: Rows so far.
        self.tally = Tally()

    def score(self, transactions: pa.RecordBatch) -> None:
        """Score rows and write them, for each side to a file of its own.

        Raises:
          OSError: the disk is full or unavailable.
        """
        self.tally.rows["rows_scored"] += len(transactions)
        for side, rows, seconds in self._scorers.score(transactions):
            start = time.thread_time()
            self._writer(SCORES, side.key, rows.schema).write(rows)
            self.tally.side_seconds[side.key] += seconds + time.thread_time() - start
            if not side.shadow:
                flagged: npt.NDArray[np.bool_] = rows.column("flagged").to_numpy(
                    zero_copy_only=False
                )
                self.tally.rows["rows_flagged"] += int(np.count_nonzero(flagged))

    def dead(self, dead_letters: pa.RecordBatch) -> None:
        """Write dead letters.

        Raises:
          OSError: the disk is full or unavailable.
        """
        if len(dead_letters):
            self._writer(DEAD_LETTERS, "dead", DEAD_LETTER).write(dead_letters)

    def close(self) -> None:
        """Finish all files; a side without rows gets an empty one.

        Raises:
          OSError: the disk is full or unavailable.
        """
        for side in self._scorers.sides.all:
            self._writer(SCORES, side.key, self._scorers.written(side))
        for key, writer in self._writers.items():
            start = time.thread_time()
            writer.close()
            if key in {side.key for side in self._scorers.sides.all}:
                self.tally.side_seconds[key] += time.thread_time() - start

    def give_up(self) -> None:
        """Write nothing more."""
        for writer in self._writers.values():
            writer.give_up()
        self._writers = {}

    def _writer(self, branch: str, name: str, schema: pa.Schema) -> ParquetBlockWriter:
        if name not in self._writers:
            part = self._outputs.part(self._name, branch, name)
            self._writers[name] = ParquetBlockWriter(part, schema)
        return self._writers[name]
