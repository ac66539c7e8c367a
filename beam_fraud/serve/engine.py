"""Answer records: the steps of the graph in plain calls, with the state of a server."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.decision import APPROVE
from beam_fraud.decisions.inputs import without_inputs
from beam_fraud.decisions.linked_values import without_linked
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import use_one_thread
from beam_fraud.monitoring.counters import (
    DEAD_PREFIX,
    DOUBT_PREFIX,
    LABELS_DEAD,
    LABELS_IN,
    ROWS_AHEAD,
    ROWS_AUDITED,
    ROWS_CORRECTION,
    ROWS_DEAD,
    ROWS_FLAGGED,
    ROWS_IN,
    ROWS_SCORED,
    ROWS_TOMBSTONE,
    RULES_MUTED,
    Count,
)
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.records.dead_letters import no_dead_letters
from beam_fraud.records.doubts import warnings_of
from beam_fraud.records.envelopes import CORRECTION, TOMBSTONE
from beam_fraud.records.labels import read_labels
from beam_fraud.records.parse import parse
from beam_fraud.records.plain_records import PlainRecords
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.schema import EVENT_TIME, Labels, Schema
from beam_fraud.schema.stages import LATER_COLUMNS
from beam_fraud.schema.velocity import Velocity
from beam_fraud.serve.answered_rows import ANSWERED, Block, Features
from beam_fraud.serve.answers import Answered, faults_of
from beam_fraud.serve.fallback import Fallback
from beam_fraud.serve.feature_records import Divided, FeatureScoring, merged, without_ids
from beam_fraud.serve.few_records import FEW, FewRecords
from beam_fraud.serve.group import TIMEOUT, Followed, Group, marked
from beam_fraud.serve.predictions import Call
from beam_fraud.serve.rehearsal import rehearse
from beam_fraud.serve.state import LINKED, ServerState
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.raw import APPENDED, PAYLOAD, POSITION, Origin, is_of_labels, with_origin
from beam_fraud.state.rule_share import MutedRule, muted_in, without_muted

_LOG = logging.getLogger(__name__)
_RAW = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary()), (APPENDED, pa.int64())])
#: Microseconds of clock difference that no counter notes.
_SKEW = 60_000_000


#: An empty mask, which says of no row that it is faulty or known.
_NOT_ONE = np.zeros(0, dtype=bool)
_NONE_DEAD = no_dead_letters()
_NONE = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in ANSWERED], schema=ANSWERED)


class ReadRecords(NamedTuple):
    """Transactions of which nothing is to be said but that they are valid."""

    #: Reader of plain records of the engine that read them.
    reader: PlainRecords
    #: Rows of `Schema.transactions`, then `@position`, from 0 on.
    rows: pa.RecordBatch


class Engine:
    """Answer records in the order of their arrival; for one thread.

    An engine has one model and one rule set. Another one over the same state takes its place
    between two groups. It is made, and rehearses, in any thread beside them: until then it asks the
    state for nothing that groups change.

    Args:
      state: the state.
      scorer: model, rules and reasons.
      fallback: decisions without a score in time.
      count: adds to a counter.
      feature_scoring: scores records of features; None to refuse them.
      registry: schema registry of a followed topic, or None.
      degraded: why windows cannot be used, or None; asked for each group.
      muted: notified of muted rules.
    """

    def __init__(
        self,
        state: ServerState,
        scorer: Scorer,
        fallback: Fallback,
        count: Count,
        *,
        feature_scoring: FeatureScoring | None = None,
        registry: RegistrySettings | None = None,
        degraded: Callable[[], str | None] = lambda: None,
        muted: Callable[[Sequence[MutedRule]], None] = lambda rules: None,
    ) -> None:
        self.state = state
        self._scorer = scorer
        self._features = features = scorer.features
        self._schema = features.schema
        self._labels: Labels = features.labels
        origin = Origin(state.source, "jsonl")
        self._raw_schema = with_origin(_RAW, origin)
        self._plain = PlainRecords.of(self._schema, self._labels, origin)
        self._fallback = fallback
        self._count = count
        self._feature_scoring = feature_scoring
        self._registry = registry
        self._degraded = degraded
        self._muted = muted
        self._few = None
        if self._plain is not None:
            self._few = FewRecords(self._plain, state, scorer, count, muted)
        self._identified = self._schema.role("transaction_id") is not None
        self._nothing = _NONE, np.empty((0, len(features.names)))

    @property
    def velocity(self) -> tuple[Velocity, ...]:
        """Velocity definitions of the model and the rules."""
        return self._features.velocity

    @property
    def decides_by(self) -> tuple[Thresholds, RuleSet | None]:
        """Thresholds and rules."""
        return self._scorer.thresholds, self._scorer.rules

    def rehearse(self, record: bytes, computed: Mapping[str, float], rows: int = FEW) -> None:
        """Score a record without the state, as columns and as values, in any thread.

        Args:
          record: a JSON object.
          computed: velocity features of it.
          rows: how many rows of it.

        Raises:
          FraudError: the two ways give other results.
        """
        transactions = self._read([record] * rows, 0).transactions
        if len(transactions):
            values = None if self._plain is None else self._plain.values(record, self._latest)
            rehearse(self._scorer, transactions, values, computed)

    def record(
        self,
        records: Sequence[bytes],
        late: npt.NDArray[np.bool_] | None = None,
        *,
        features: bool = False,
    ) -> Group:
        """Answer records and take them into the state, which the caller commits.

        Args:
          records: n JSON objects.
          late: bool[n]: whose callers already got the fallback; None for none.
          features: whether to return the model's input.
        """
        records, divided = self._divided(records)
        if divided is not None and late is not None:
            late = late[divided.places]
        group = self._record(records, late, features=features)
        return self._beside(group, divided, features=features)

    def read(self, records: Sequence[bytes]) -> ReadRecords | None:
        """Read records for `record_read`, in any thread; None if one of them is not plain."""
        if self._plain is None or self._feature_scoring is not None:
            return None
        rows = self._plain.read(records, 0, self._latest)
        return None if rows is None else ReadRecords(self._plain, rows)

    def read_table(self, table: pa.RecordBatch) -> ReadRecords | None:
        """Read a table for `record_read`, in any thread; None if a row has a fault or a doubt."""
        if self._plain is None:
            return None
        checked = self._valid(self._of_table(table, 0))
        ahead = checked.ahead is not None and bool((checked.ahead > _SKEW).any())
        if ahead or checked.faulty.any() or any(checked.doubts.values()):
            return None
        return ReadRecords(self._plain, checked.transactions)

    def has_read(self, part: ReadRecords | None) -> bool:
        """Return whether `record_read` takes what was read."""
        return part is not None and part.reader is self._plain

    def record_read(
        self,
        parts: Sequence[ReadRecords | None],
        late: npt.NDArray[np.bool_] | None = None,
        *,
        features: bool = False,
    ) -> Group | None:
        """Do what `record` and `record_table` do with rows that were read before.

        Args:
          parts: the rows.
          late: as for `record`.
          features: as for `record`.

        Returns:
          Their answers; None, with no change of the state, if some have not been read, or by
          another engine.
        """
        read = [part.rows for part in parts if part is not None and self.has_read(part)]
        if len(read) < len(parts):
            return None
        rows = pa.concat_batches(read)
        first = self.state.numbers(len(rows))
        place = rows.schema.get_field_index(POSITION)
        numbers = pa.array(np.arange(first, first + len(rows)))
        rows = rows.set_column(place, rows.schema.field(place), numbers)
        checked = self._checked(Arrived(rows, _NONE_DEAD, None, _NOT_ONE), len(rows))
        return self._recorded(checked, first, len(rows), late, features=features)

    def record_table(self, table: pa.RecordBatch, *, features: bool = False) -> Group:
        """Answer the rows of a table, as `record` does."""
        first = self.state.numbers(len(table))
        checked = self._checked(self._valid(self._of_table(table, first)), len(table))
        return self._recorded(checked, first, len(table), None, features=features)

    def peek(self, records: Sequence[bytes], *, features: bool = False) -> Group:
        """Score records, each as if it came alone; change nothing.

        A transaction that was answered before gets that answer.
        """
        records, divided = self._divided(records)
        checked = self._checked(self._read(records, 0), len(records))
        group = self._peek(checked, len(records), features=features)
        return self._beside(group, divided, features=features)

    def peek_table(self, table: pa.RecordBatch, *, features: bool = False) -> Group:
        """Score the rows of a table, as `peek` does."""
        checked = self._checked(self._valid(self._of_table(table, 0)), len(table))
        return self._peek(checked, len(table), features=features)

    def _record(
        self,
        records: Sequence[bytes],
        late: npt.NDArray[np.bool_] | None,
        *,
        features: bool,
    ) -> Group:
        if self._few is not None and 0 < len(records) <= FEW and late is None:
            recorded = self._few.record(records, self._latest, self._degraded())
            if recorded is not None:
                rows, places = recorded.rows, np.arange(len(records))
                inputs = Features(self._features.names, recorded.block) if features else None
                answered = Answered(rows, places, {}, len(records), inputs)
                return Group(answered, {}, rows, places)
        first = self.state.numbers(len(records))
        checked = self._checked(self._read(records, first), len(records))
        return self._recorded(checked, first, len(records), late, features=features)

    def _peek(self, checked: Arrived, records: int, *, features: bool) -> Group:
        transactions = checked.transactions
        places = np.asarray(transactions.column(POSITION))
        known = np.array(self.state.windows.known(transactions), dtype=bool)
        new = transactions.filter(pa.array(~known))
        # One by one: they must not see each other.
        alone = [self.state.windows.peek(new.slice(row, 1)) for row in range(len(new))]
        rows, block = self._nothing
        if alone:
            computed = {name: np.concatenate([one[name] for one in alone]) for name in alone[0]}
            rows, block, _ = self._scored(new, computed, limited=False)
        return self._group(
            records, checked, 0, rows, places[~known], block, known, features=features
        )

    def _divided(self, records: Sequence[bytes]) -> tuple[Sequence[bytes], Divided | None]:
        """Return the records of transactions, and how all divide if some are of features."""
        if self._feature_scoring is None:
            return records, None
        divided = self._feature_scoring.records.divide(records)
        return divided.transactions, divided if divided.features else None

    def _beside(self, group: Group, divided: Divided | None, *, features: bool) -> Group:
        """Return the results for all records, of those for the transactions among them."""
        if divided is None:
            return group
        assert self._feature_scoring is not None
        checked = self._checked(self._read_features(divided), len(divided.features))
        rows, block = self._nothing
        if len(checked.transactions):
            scorer = self._feature_scoring.scorer
            rows, block, _ = self._scored(checked.transactions, {}, scorer, limited=False)
        inputs = Features(self._features.names, block) if features else None
        of_features = without_ids(checked, rows, len(divided.features), inputs)
        return replace(
            group,
            answered=merged(group.answered, of_features, divided),
            archived={int(divided.places[at]): name for at, name in group.archived.items()},
            new_places=divided.places[group.new_places],
        )

    def _read_features(self, divided: Divided) -> Arrived:
        assert self._feature_scoring is not None
        raw = self._raw(divided.features, 0)
        return self._valid(raw, self._feature_scoring.records.schema)

    def follow(self, raw: pa.RecordBatch) -> Followed:
        """Take rows of a topic into the state: transactions, which are scored, or labels."""
        rows, labels = _NONE, None
        if is_of_labels(raw):
            labels, dead = read_labels(raw, self._registry)
            self._count(LABELS_IN, len(raw))
            self._count(LABELS_DEAD, len(dead))
            self.state.windows.label(labels)
        else:
            checked = self._checked(self._valid(raw), len(raw))
            dead = checked.dead
            new = self.state.windows.deduplicated(checked.transactions)
            if len(new):
                rows, _, inputs = self._scored(new, self.state.windows.observe(new))
                self._keep_links(rows, new)
                self.state.answers.add(rows, inputs)
        self.state.bury(dead)
        return Followed(rows, labels)

    def forward_audited(self, answered: pa.RecordBatch) -> None:
        """Deliver the audited ones of committed answers, and count them."""
        audited = self.state.forward_audited(answered)
        if audited:
            self._count(ROWS_AUDITED, audited)

    def fallbacks(self, call: Call, reason: str) -> Answered:
        """Return the fallback for a call, in any thread; a repeat gets the answer of before."""
        if call.table is not None:
            checked = self._valid(self._of_table(call.table, 0))
            return self._fallbacks(checked, len(call.table), reason)
        records, divided = self._divided(call.records)
        answered = self._fallbacks(self._read(records, 0), len(records), reason)
        if divided is None:
            return answered
        checked = self._read_features(divided)
        rows = self._default_rows(checked.transactions, reason)
        return merged(answered, without_ids(checked, rows, len(divided.features)), divided)

    def _fallbacks(self, checked: Arrived, records: int, reason: str) -> Answered:
        rows = self._or_given(self._default_rows(checked.transactions, reason))
        places = np.asarray(checked.transactions.column(POSITION))
        return Answered(rows, places, faults_of(0, checked), records)

    def _default_rows(self, transactions: pa.RecordBatch, reason: str) -> pa.RecordBatch:
        scores = np.full(len(transactions), np.nan)
        decided = {
            **{name: transactions.column(name) for name in ANSWERED.names[:5]},
            "score": pa.array(scores),
            "rules": pa.nulls(len(transactions), ANSWERED.field("rules").type),
            "reasons": pa.nulls(len(transactions), ANSWERED.field("reasons").type),
            "model_id": pa.repeat(self._scorer.model_id, len(transactions)),
            # No rule was asked.
            **{
                name: pa.nulls(len(transactions), ANSWERED.field(name).type)
                for name in LATER_COLUMNS
            },
            "features_as_of": _now(len(transactions)),
            "degraded": pa.repeat(reason, len(transactions)),
            **self._default(transactions),
        }
        return pa.RecordBatch.from_arrays(
            [decided[name] for name in ANSWERED.names], schema=ANSWERED
        )

    def _or_given(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return n answers, or those that were given to the same transactions before."""
        if not self._identified:
            return rows
        given = [
            self.state.answers.given(name) for name in rows.column("transaction_id").to_pylist()
        ]
        if not any(given):
            return rows
        return pa.concat_batches(
            [rows.slice(row, 1) if one is None else one for row, one in enumerate(given)]
        )

    def defaulted(
        self, answered: pa.RecordBatch, late: npt.NDArray[np.bool_], reason: str
    ) -> pa.RecordBatch:
        """Return answers with the fallback's decisions where `late` (bool[n]) holds."""
        default = self._default(answered)
        mask = pa.array(late)
        for name in ("decision", "flagged"):
            place = answered.schema.get_field_index(name)
            column = pc.if_else(mask, default[name], answered.column(name))
            answered = answered.set_column(place, answered.schema.field(place), column)
        return marked(answered, reason, mask)

    def _default(self, transactions: pa.RecordBatch) -> dict[str, pa.Array]:
        amounts = np.asarray(transactions.column("amount"), dtype=np.float64)
        decisions = pa.array(self._fallback.decide(amounts), pa.string())
        return {"decision": decisions, "flagged": pc.not_equal(decisions, APPROVE)}

    def _recorded(
        self,
        checked: Arrived,
        base: int,
        records: int,
        late: npt.NDArray[np.bool_] | None,
        *,
        features: bool,
    ) -> Group:
        transactions = checked.transactions
        every = np.asarray(transactions.column(POSITION)) - base
        new = self.state.windows.deduplicated(transactions) if self._identified else transactions
        places = every if len(new) == len(every) else np.asarray(new.column(POSITION)) - base
        rows, block = self._nothing
        inputs = None
        if len(new):
            rows, block, inputs = self._scored(new, self.state.windows.observe(new))
        if late is not None and late[places].any():
            rows = self.defaulted(rows, late[places], TIMEOUT)
        self._keep_links(rows, new)
        self.state.answers.add(rows, inputs)
        self.state.bury(checked.dead)
        known = _NOT_ONE if len(new) == len(every) else np.isin(every, places, invert=True)
        return self._group(records, checked, base, rows, places, block, known, features=features)

    def _group(
        self,
        records: int,
        checked: Arrived,
        base: int,
        rows: pa.RecordBatch,
        places: npt.NDArray[np.int64],
        block: Block,
        known: npt.NDArray[np.bool_],
        *,
        features: bool,
    ) -> Group:
        """Join new answers, those given before, and faults."""
        new, new_places = rows, places
        inputs = Features(self._features.names, block) if features else None
        archived: dict[int, str] = {}
        if known.any():
            repeated = checked.transactions.filter(pa.array(known))
            ids = repeated.column("transaction_id").to_pylist()
            earlier, found = [], []
            for place, name in zip(
                (np.asarray(repeated.column(POSITION)) - base).tolist(), ids, strict=True
            ):
                answer = self.state.answers.earlier(name)
                if answer is None:
                    archived[place] = name
                else:
                    earlier.append(answer)
                    found.append(place)
            places = np.concatenate((places, np.array(found, dtype=np.int64)))
            order = np.argsort(places, kind="stable")
            rows = pa.concat_batches([rows, *earlier]).take(pa.array(order))
            places = places[order]
            if inputs is not None:
                # The model's input of an earlier answer is not kept.
                absent = np.full((len(earlier), block.shape[1]), np.nan)
                inputs = Features(inputs.names, np.concatenate((block, absent))[order])
        faults = faults_of(base, checked)
        answered = Answered(rows, places, faults, records, inputs)
        return Group(answered, archived, new, new_places)

    def _checked(self, checked: Arrived, records: int) -> Arrived:
        """Count records and their faults."""
        count = self._count
        count(ROWS_IN, records)
        if len(checked.dead):
            count(ROWS_DEAD, len(checked.dead))
            for reason, rows in Counter(checked.dead.column("reason").to_pylist()).items():
                count(DEAD_PREFIX + reason, rows)
        if checked.skipped:
            count(ROWS_TOMBSTONE, checked.skipped[TOMBSTONE])
            count(ROWS_CORRECTION, checked.skipped[CORRECTION])
        if checked.ahead is not None:
            early = (checked.ahead > _SKEW) & ~checked.faulty
            count(ROWS_AHEAD, int(np.count_nonzero(early)))
        new = {doubt: rows for doubt, rows in checked.doubts.items() if rows}
        if new:
            for doubt, rows in new.items():
                count(DOUBT_PREFIX + doubt, rows)
            said = self.state.doubts
            fresh = {doubt: rows for doubt, rows in new.items() if doubt not in said}
            said |= set(fresh)
            for warning in warnings_of(fresh, self._schema):
                _LOG.warning("%s", warning)
        return checked

    @property
    def _latest(self) -> int:
        """Event time from which a row is too far ahead, or worth a counter; microseconds."""
        return time.time_ns() // 1_000 + min(self.state.settings.ahead, _SKEW)

    def _read(self, records: Sequence[bytes], first: int) -> Arrived:
        """Parse and validate JSON objects."""
        if self._plain is not None:
            plain = self._plain.read(records, first, self._latest)
            if plain is not None:
                return Arrived(plain, _NONE_DEAD, None, _NOT_ONE)
        return self._valid(self._raw(records, first))

    def _valid(self, raw: pa.RecordBatch, schema: Schema | None = None) -> Arrived:
        """Parse and validate a raw batch, by another schema than the server's if one is given."""
        schema = schema or self._schema
        parsed = parse(raw, schema, labels=self._labels, registry=self._registry)
        return validate_arrivals(
            parsed,
            schema,
            labels=self._labels,
            ahead=self.state.settings.ahead,
            now=time.time_ns() // 1_000,
        )

    def _scored(
        self,
        transactions: pa.RecordBatch,
        computed: dict[str, npt.NDArray[np.float64]],
        scorer: Scorer | None = None,
        *,
        limited: bool = True,
    ) -> tuple[pa.RecordBatch, Block, pa.RecordBatch | None]:
        """Score transactions.

        Args:
          transactions: n rows.
          computed: their velocity features, float64[n] each.
          scorer: scorer of another schema than the server's, or None.
          limited: whether the rows count for the share from which rules are muted.

        Returns:
          Rows of `ANSWERED`; the model's input; and, if they are kept, the inputs of the decisions.
        """
        use_one_thread()
        scorer = scorer or self._scorer
        why = self._degraded()
        if why is not None:
            computed = {name: np.full(len(transactions), np.nan) for name in computed}
        if transactions.schema.metadata is not None:
            transactions = transactions.replace_schema_metadata(None)
        decided, block = scorer.decide(transactions, computed)
        if limited:
            if self.state.shadow is not None:
                scores = decided.column("score")
                self.state.shadow.take_columns(scorer.pair, transactions, computed, scores)
            decided = self.state.rules.limited(decided)
            if muted := muted_in(decided):
                self._count(RULES_MUTED, len(muted))
                self._muted(muted)
                decided = without_muted(decided)
        scored = scorer.explain(decided, block)
        scored = without_linked(scored)
        self._count(ROWS_SCORED, len(scored))
        self._count(ROWS_FLAGGED, scored.column("flagged").true_count)
        rows = len(scored)
        marks = _unmarked(rows) if why is None else pa.repeat(why, rows)
        plain = without_inputs(scored)
        arrays = [*plain.columns, _now(rows), marks]
        answered = pa.RecordBatch.from_arrays(arrays, schema=ANSWERED)
        kept = None if scorer.kept is None else scored.drop_columns(plain.schema.names)
        return answered, block, kept

    def _keep_links(self, rows: pa.RecordBatch, transactions: pa.RecordBatch) -> None:
        """Keep the linked values of n new transactions, whose last decisions are in their rows."""
        linked = self._scorer.linked
        if linked is not None and len(rows):
            self.state.take(LINKED, linked.seen(linked.beside(rows, transactions)))

    def _raw(self, records: Sequence[bytes], first: int) -> pa.RecordBatch:
        rows = len(records)
        positions = np.arange(first, first + rows, dtype=np.int64)
        arrivals = np.full(rows, time.time_ns() // 1_000_000, dtype=np.int64)
        arrays = [pa.array(positions), pa.array(records, pa.binary()), pa.array(arrivals)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._raw_schema)

    def _of_table(self, table: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """Return a raw batch of the rows of a table."""
        positions = pa.array(np.arange(first, first + len(table)))
        described = table.schema.append(_RAW.field(POSITION))
        described = described.with_metadata(self._raw_schema.metadata)
        return pa.RecordBatch.from_arrays([*table.columns, positions], schema=described)


@lru_cache(maxsize=16)
def _unmarked(rows: int) -> pa.Array:
    return pa.nulls(rows, pa.string())


def _now(rows: int) -> pa.Array:
    return pa.array(np.full(rows, time.time_ns() // 1_000)).view(EVENT_TIME)
