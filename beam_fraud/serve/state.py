"""The durable state of a server: windows, ids, answers and what waits for other places."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.inputs import without_inputs
from beam_fraud.decisions.rules.rule import RULE_LIMIT, RuleSet
from beam_fraud.errors import FraudError
from beam_fraud.models.manifest import Thresholds
from beam_fraud.monitoring.counters import Count
from beam_fraud.records.doubts import Doubt
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.stages import DEAD_LETTER, SCORED
from beam_fraud.schema.velocity import Velocity
from beam_fraud.serve.answered_rows import ANSWERED, Rows, batch_of, flagged_of, scored_of
from beam_fraud.serve.backlog import Backlog, Deliver
from beam_fraud.serve.drift import DriftCounters, KeptCounts
from beam_fraud.serve.kept_answers import KeptAnswers, Prepared
from beam_fraud.serve.rule_shares import RuleShares
from beam_fraud.serve.shadow_backlog import Scoring, ShadowBacklog, drop_waiting
from beam_fraud.serve.windows import ServerWindows, WindowSettings
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.state.identity import IN_FORCE, checkpoint_hash
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.state.shard import Effects, Shard
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES
from beam_fraud.storage.journal import JournaledCheckpoint

#: Backlogs, and their steps.
FLAGGED, AUDITED, DEAD, LABELS = "flagged", "audited", "dead letters", "labels"
LINKED = "linked values"
#: Start of the source of the records of requests, and name of their number among the positions.
_SOURCE = "predict"
#: Name of the random part of a server's source, in its identity.
_SERVER = "server"
#: Name of the time of the last commit, seconds of the epoch, among the positions.
_COMMITTED = "committed at"

#: Answers in memory beside those of two files: those of a part that is not finished must be there,
#: and others may be numbered before them.
_WAITING_ROWS = 10_000


@dataclass(frozen=True)
class StateSettings:
    """Settings of a server's state."""

    #: File of the state.
    checkpoint: Path
    #: Directories of the archives of answers and of dead letters.
    scores: Path
    dead_letters: Path
    #: Settings of the windows and ids.
    windows: WindowSettings
    #: Thresholds of the model at the start, to decide again when a rule is muted.
    thresholds: Thresholds
    #: Rules at the start, or None.
    rules: RuleSet | None = None
    #: What decides at the start (`decisions.decider.Pair`), as JSON.
    in_force: str = "null"
    #: Microseconds that an event may be ahead of its arrival.
    ahead: int = 0
    #: Share of an hour's rows from which a rule is muted; 1 mutes none.
    rule_limit: float = RULE_LIMIT
    #: Rows or seconds at which a Parquet file of the archive is finished.
    roll_rows: int = 100_000
    roll_seconds: float = 300.0
    #: Backlog to its delivery.
    deliveries: Mapping[str, Deliver] = field(default_factory=dict)
    #: Which unflagged rows are delivered as well; None for none.
    audit: AuditLane | None = None
    #: Directory of flagged rows, for a sink that is one; or None.
    flagged: Path | None = None
    #: Scores answered transactions in shadow, or None; and without it, the last group that an
    #: earlier server scored.
    shadow: Scoring | None = None
    last_shadowed: int = 0
    #: Counts answers for drift; None to count none.
    drift: DriftCounters | None = None
    #: Whether the archive has the inputs of decisions, where answers keep them.
    keeps_inputs: bool = True
    #: Identity: settings that must not change for the life of the state.
    about: Mapping[str, str] = field(default_factory=dict)


class ServerState:
    """The state, used by one thread and committed by groups of requests.

    Other threads use only what says so: even a look at the windows may restore them, and they would
    lack what the group of that moment adds.

    Everything that a group changes is one commit: windows, ids, answers, dead letters, and the
    flagged rows that wait for their sink.
    """

    def __init__(self, settings: StateSettings, count: Count) -> None:
        """Restore the state.

        Args:
          settings: the settings.
          count: adds to a counter.

        Raises:
          FraudError: it cannot be read or written, or is another server's.
        """
        self.settings = settings
        self._checkpoint = JournaledCheckpoint(settings.checkpoint)
        base = self._checkpoint.base
        hashing = checkpoint_hash(base)
        base.claim(settings.about)
        own = base.about(_SERVER) or secrets.token_hex(4)
        base.claim({_SERVER: own})
        #: Source of the records of requests: no other server's, because a database has one row for
        #: the source and position of a dead letter, and for an id that is made of them.
        self.source = f"{_SOURCE}-{own}"
        positions = self._checkpoint.positions
        #: Seconds of the epoch of the last commit; None for a new state.
        self.committed_at = float(positions[_COMMITTED]) if _COMMITTED in positions else None
        self._next = int(positions.get(_SOURCE, "0"))
        #: Positions of the followed topics: "topic:partition" to offset.
        self.positions = {
            name: position
            for name, position in positions.items()
            if name not in (_SOURCE, _COMMITTED, IN_FORCE)
        }
        self._uncommitted: dict[str, str] = {}
        #: The windows and ids.
        self.windows = ServerWindows(settings.windows, self._checkpoint, hashing, count)
        #: The shares of rules, of those in force.
        self.rules = RuleShares(
            self._checkpoint,
            settings.rule_limit,
            settings.windows.lateness + max(settings.ahead, DAY),
        )
        self.rules.decide_by(settings.thresholds, settings.rules)
        self._scores = self._archive(SCORES, settings.scores, ANSWERED)
        self._dead = self._archive(DEAD_LETTERS, settings.dead_letters, DEAD_LETTER)
        self._flagged = (
            None if settings.flagged is None else self._archive("sink", settings.flagged, SCORED)
        )
        self._backlogs = {
            name: Backlog(name, self._checkpoint, deliver)
            for name, deliver in settings.deliveries.items()
        }
        #: What waits for the challengers; None without shadows.
        self.shadow: ShadowBacklog | None = None
        if settings.shadow is not None:
            self.shadow = ShadowBacklog(self._checkpoint, settings.shadow)
        else:
            drop_waiting(self._checkpoint, settings.last_shadowed)
        #: What was counted of the answers.
        self._drift = (
            None
            if settings.drift is None
            else KeptCounts(self._checkpoint, settings.drift, settings.windows.features.schema)
        )
        #: The answers.
        self.answers = KeptAnswers(
            self._checkpoint,
            SCORES,
            2 * settings.roll_rows + _WAITING_ROWS,
            settings.drift,
            archives_inputs=settings.keeps_inputs,
        )
        for answered in self.answers.restored():
            rows = batch_of(answered)
            self.forward_flagged(rows)
            self.forward_audited(rows)
        #: Doubts about rows that this process has warned of.
        self.doubts = set[Doubt]()
        # A history is durable before the first request.
        self._checkpoint.commit({IN_FORCE: settings.in_force}, fold=True)

    @property
    def stopped_for(self) -> float | None:
        """Seconds since the last commit of an earlier process; None for a new state."""
        return None if self.committed_at is None else max(time.time() - self.committed_at, 0.0)

    def claim(self, about: Mapping[str, str]) -> None:
        """Record, or check, what must not change for the life of the state.

        Raises:
          FraudError: it has changed.
        """
        self._checkpoint.claim(about)

    def start(self) -> None:
        """Start to deliver what waits.

        Raises:
          FraudError: the disk has no room for the journal.
        """
        self._checkpoint.reserve()
        for backlog in self._backlogs.values():
            backlog.start()
        if self.shadow is not None:
            self.shadow.start()

    def numbers(self, records: int) -> int:
        """Return the first of so many consecutive numbers, which no other record gets."""
        first, self._next = self._next, self._next + records
        return first

    def decide_by(self, velocity: tuple[Velocity, ...], in_force: str) -> None:
        """Decide by another model from the next rows on.

        Args:
          velocity: its definitions, whose windows are full.
          in_force: what decides, as in the settings.
        """
        self.windows.decide_by(velocity)
        self._uncommitted[IN_FORCE] = in_force

    def bury(self, dead: pa.RecordBatch) -> None:
        """Keep dead letters, and deliver them once they are committed."""
        if len(dead):
            self._dead.take(0, dead)
            self.take(DEAD, dead)
            if self._drift is not None:
                self._drift.bury(dead)

    def move(self, positions: Mapping[str, int]) -> None:
        """Note positions of followed topics for the next commit."""
        self._uncommitted |= {name: str(position) for name, position in positions.items()}

    def commit(self, *, fold: bool = False, meanwhile: Callable[[], None] | None = None) -> None:
        """Make all changes durable.

        Args:
          fold: whether to fold the journal, too.
          meanwhile: perhaps called while the disk takes them; must not raise.

        Raises:
          FraudError: the disk does not take them; the next commit includes them.
        """
        fold = fold or self._checkpoint.overdue
        if fold:
            self._archive_all()
            for backlog in self._backlogs.values():
                backlog.tidy()
        now = {_SOURCE: str(self._next), _COMMITTED: f"{time.time():.3f}"}
        beside = None if meanwhile is None else partial(self._beside, meanwhile)
        self._checkpoint.commit(self._uncommitted | now, fold=fold, meanwhile=beside)
        self._uncommitted = {}
        self.answers.committed()
        for backlog in self._backlogs.values():
            backlog.committed()
        if self.shadow is not None:
            self.shadow.committed()

    def _beside(self, meanwhile: Callable[[], None]) -> None:
        """Do what may be done while the disk takes a commit."""
        meanwhile()
        self.answers.enter()

    def drift(self) -> list[bytes]:
        """Return the committed pieces of the counts for drift, in any thread."""
        return [] if self._drift is None else self._drift.stored()

    @property
    def untidy(self) -> bool:
        """Return whether `begin_fold` is worth while if there is nothing else to do."""
        return self._checkpoint.worth

    @property
    def due(self) -> bool:
        """Return whether `begin_fold` should come between two groups of requests."""
        return self._checkpoint.due

    def archive(self, prepared: Prepared) -> None:
        """Pass answers to the archive, whose part they join with the next commit."""
        if not self.answers.holds(prepared):
            # A commit was overdue to fold the journal, and has done it meanwhile.
            return
        uncommitted = self._checkpoint.uncommitted
        try:
            self._pass(prepared)
        except FraudError:
            # Else one of two archives would get the same rows again.
            self._checkpoint.discard(uncommitted)
            raise
        self.answers.archive(prepared)
        # Until now, rows that wait for their places could be found again among the answers.
        for backlog in self._backlogs.values():
            backlog.fold()

    def _pass(self, prepared: Prepared) -> None:
        if self._drift is not None and prepared.counted is not None:
            self._drift.keep(prepared.counted)
        for rows, encoded in zip(prepared.rows, prepared.encoded, strict=True):
            archived = rows if self.settings.keeps_inputs else without_inputs(rows)
            self._scores.call(0, partial(_archive, rows=archived, encoded=encoded))
            if self._flagged is not None and rows.column("flagged").true_count:
                self._flagged.take(0, scored_of(rows.filter(rows.column("flagged"))))

    def begin_fold(self) -> None:
        """Begin to fold the journal, so that no later commit has to."""
        for backlog in self._backlogs.values():
            backlog.tidy()
        self.commit()
        self._checkpoint.begin_fold()

    def end_fold(self, pause: Callable[[], object] = lambda: None) -> None:
        """Fold what `begin_fold` left, in any thread, beside groups of requests.

        Args:
          pause: called between two parts of the work, each of about a millisecond.

        Raises:
          FraudError: the state cannot be written; the next call does it again.
        """
        self._checkpoint.end_fold(pause)

    def _archive_all(self, *, last: bool = False) -> None:
        if (groups := self.answers.groups(last=last)) is not None:
            prepared = groups.prepared()
            self.archive(prepared)
            self.answers.remember(prepared)

    def discard(self) -> None:
        """Return to the last commit, after a failure."""
        self._checkpoint.discard()
        self.windows.discarded()
        for backlog in self._backlogs.values():
            backlog.discarded()
        if self.shadow is not None:
            self.shadow.discarded()
        self._uncommitted = {}
        self.answers.discard()
        if self._drift is not None:
            self._drift.discarded()

    def take(self, name: str, rows: pa.RecordBatch) -> None:
        """Deliver rows once they are committed, if they have a place to go to."""
        backlog = self._backlogs.get(name)
        if backlog is not None:
            backlog.take(rows)

    def forward(self, name: str, rows: pa.RecordBatch) -> None:
        """Deliver rows of committed answers, if they have a place to go to."""
        backlog = self._backlogs.get(name)
        if backlog is not None:
            backlog.add(rows)

    def forward_flagged(self, answered: Rows) -> None:
        """Deliver the flagged ones of committed answers, if they have a place to go to."""
        # As columns only then: the next group waits.
        if FLAGGED in self._backlogs and flagged_of(answered):
            rows = batch_of(answered)
            self.forward(FLAGGED, rows.filter(rows.column("flagged")))

    def forward_audited(self, answered: pa.RecordBatch) -> int:
        """Deliver the audited ones of committed answers; return their number."""
        audit = self.settings.audit
        audited = None if audit is None else audit.audited(answered)
        if audit is None or audited is None or not len(audited):
            return 0
        self.forward(AUDITED, audit.with_probability(scored_of(audited)))
        return len(audited)

    @property
    def changed(self) -> bool:
        """Return whether there is something to commit, such as what an earlier commit could not."""
        return self._checkpoint.changed

    def close_complete_files(self) -> None:
        """Close complete files of the archive, in any thread, beside groups of requests."""
        for shards in self._archives:
            shard = shards.opened(0)
            if isinstance(shard, ArchiveShard):
                shard.close_complete()

    def tick(self, *, anew: bool = False) -> None:
        """Finish files of the archive that are old enough, and fill windows.

        Args:
          anew: whether to write all files of the archive again that are not finished, and finish
            them, after one could not be written.

        Raises:
          FraudError: the disk does not take them.
        """
        now = time.time()
        for shards in self._archives:
            list(shards.tick(now))
            if anew:
                shards.finish(0)
        self.windows.read_earlier()

    @property
    def waiting(self) -> dict[str, int]:
        """Backlog to the rows that wait in it."""
        waiting = {name: backlog.rows for name, backlog in self._backlogs.items()}
        return waiting if self.shadow is None else {**waiting, "shadow": self.shadow.waiting}

    def close(self, seconds: float) -> dict[str, int]:
        """Finish the archive, deliver what waits for at most so many seconds, and close.

        Returns:
          Backlog to the rows that still wait; the next server delivers them.
        """
        until = time.monotonic() + seconds
        self._archive_all(last=True)
        for shards in self._archives:
            shards.finish(0)
        waiting = {
            name: backlog.stop(max(until - time.monotonic(), 0.0))
            for name, backlog in self._backlogs.items()
        }
        if self.shadow is not None:
            self.shadow.close(max(until - time.monotonic(), 0.0))
            waiting["shadow"] = self.shadow.waiting
        self.commit(fold=True)
        self.windows.close()
        self._checkpoint.close()
        return waiting

    @property
    def _archives(self) -> list[LocalShards]:
        return [s for s in (self._scores, self._dead, self._flagged) if s is not None]

    def _archive(self, step: str, directory: Path, schema: pa.Schema) -> LocalShards:
        settings = self.settings
        make = lambda shard: ArchiveShard(  # noqa: E731
            directory, schema, shard, settings.roll_rows, settings.roll_seconds, beside=True
        )
        shards = LocalShards(make, step, self._checkpoint)
        shards.shard(0)
        return shards


def _archive(shard: Shard, rows: pa.RecordBatch, encoded: Sequence[bytes]) -> Effects:
    assert isinstance(shard, ArchiveShard)
    return shard.take(rows, encoded)
