"""Score answered transactions by challengers, in a thread beside the answers of a server."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.decider import Decider, OpenDecider, Pair
from beam_fraud.decisions.decision import decision_codes
from beam_fraud.decisions.shadow import Shadowed
from beam_fraud.errors import FraudError, line_of
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.predict import use_one_thread
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.monitoring.shadow import Dropped, ShadowFigures
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.schema.stages import SHADOWED
from beam_fraud.serve.shadow_backlog import ShadowGroup, transactions_of
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.storage.batch_outputs import SHADOW
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.stream_outputs import claim_archives

_LOG = logging.getLogger(__name__)
#: Rows of a block, and seconds that its first row waits for others: a block costs as much as some
#: hundred rows, and the engine needs the interpreter meanwhile.
_BLOCK_ROWS, _BLOCK_SECONDS = 2_000, 0.5
#: Seconds between two attempts while the disk takes no rows.
_PAUSE = 1.0
#: Name of the number of the last group among the positions.
_DONE = "groups"
#: What decided lately, which stays open.
_OPEN = 4
#: Seconds to finish the block at hand, at the end.
_LAST = 5.0


@dataclass(frozen=True)
class ShadowSettings:
    """Where and by what a server scores in shadow."""

    #: File of what is done, and of rows in no finished Parquet file.
    checkpoint: Path
    #: Directory of the Parquet files; rows or seconds at which one is finished.
    directory: Path
    roll_rows: int
    roll_seconds: float
    #: The challengers.
    live: LiveShadows
    #: The columns of transactions with velocity features.
    described: pa.Schema
    #: Opens what decided once. Raises FraudError if it is no longer there.
    decider_of: Callable[[Pair], Decider]
    #: Called with the id of a challenger that is dropped, and the reason.
    dropped: Callable[[str, str], None]


class ShadowScoring:
    """The thread that scores in shadow, and its archive.

    Rows and the number of their group are one commit, so no group is archived twice. Whatever
    happens here, answers go on.

    Args:
      settings: the settings.

    Raises:
      FraudError: the archive or its state cannot be used.
    """

    def __init__(self, settings: ShadowSettings) -> None:
        self._settings = settings
        self._checkpoint = LocalCheckpoint(settings.checkpoint, flushed=True)
        claim_archives([settings.directory], settings.directory.parent, self._checkpoint)
        #: None after a failure, until it is restored.
        self._archive: LocalShards | None = _archive(settings, self._checkpoint)
        self._done = int(self._checkpoint.positions().get(_DONE, "0"))
        self._changed = threading.Condition()
        self._groups = deque[ShadowGroup]()
        self._waiting, self._since = 0, 0.0
        #: Time by which it must end, monotonic; None while it goes on.
        self._until: float | None = None
        self._open = OrderedDict[Pair, OpenDecider]()
        # Loaded before the first row, and while none comes.
        settings.live.beside(settings.live.first)
        self._wait = Wait(_LOG)
        self._left_out = 0
        self._figures = dict[str, ShadowFigures]()
        self._dropped = dict[str, Dropped]()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def done(self) -> int:
        """Number of the last group whose rows in shadow are durable; 0 for none."""
        return self._done

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._waiting

    @property
    def left_out(self) -> int:
        """Rows of groups that could not be scored."""
        return self._left_out

    @property
    def live(self) -> LiveShadows:
        """The challengers."""
        return self._settings.live

    def figures(self) -> dict[str, ShadowFigures]:
        """Return the figures of this process by challenger, in any thread."""
        with self._changed:
            figures, dropped = dict(self._figures), dict(self._dropped)
        for key in (*self.live.keys, *dropped):
            figures.setdefault(key, ShadowFigures())
        return {key: replace(one, dropped=dropped.get(key)) for key, one in figures.items()}

    def start(self) -> None:
        """Start to score."""
        self._thread.start()

    def follow(self, decider: Decider) -> None:
        """Know what decides soon, before its first group comes; in any thread."""
        opened = OpenDecider(decider, reasons=0)
        _ = opened.program
        with self._changed:
            self._remember(opened)

    def add(self, groups: Sequence[ShadowGroup]) -> None:
        """Add durable groups, in any thread."""
        with self._changed:
            if not self._groups:
                self._since = time.monotonic()
            self._groups.extend(groups)
            self._waiting += sum(group.rows for group in groups)
            if self._waiting >= _BLOCK_ROWS:
                self._changed.notify()

    def close(self, seconds: float) -> None:
        """Score what waits for at most so many seconds, finish the archive and end."""
        if not self._thread.is_alive():
            return
        with self._changed:
            self._until = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds + _LAST)

    def _run(self) -> None:
        try:
            while (groups := self._next()) is not None:
                self._score(groups)
            archive = self._restored()
            archive.keep(0, archive.shard(0).finish())
            self._checkpoint.commit({})
            self._checkpoint.close()
        except BaseException as error:
            _LOG.error("--shadow has ended, and answers go on: %s", line_of(error))

    def _next(self) -> list[ShadowGroup] | None:
        """Return the groups of a block, all of one champion; [] for none yet, None at the end."""
        with self._changed:
            if self._until is None and self._waiting < _BLOCK_ROWS:
                age = time.monotonic() - self._since if self._groups else 0.0
                self._changed.wait(max(_BLOCK_SECONDS - age, 0.0))
            if self._until is not None and (not self._groups or time.monotonic() >= self._until):
                return None
            due = (
                self._until is not None
                or self._waiting >= _BLOCK_ROWS
                or time.monotonic() - self._since >= _BLOCK_SECONDS
            )
            groups, rows = list[ShadowGroup](), 0
            while due and self._groups and rows < _BLOCK_ROWS:
                if groups and self._groups[0].pair != groups[0].pair:
                    break
                groups.append(self._groups.popleft())
                rows += groups[-1].rows
            return groups

    def _score(self, groups: list[ShadowGroup]) -> None:
        """Score a block and store its rows; none is a look at the age of the archive."""
        scored: list[Shadowed] = []
        if groups:
            try:
                scored = self._shadowed(groups)
            except Exception as error:
                rows = sum(group.rows for group in groups)
                _LOG.error("--shadow: %s rows are left out: %s", f"{rows:,}", line_of(error))
                self._left_out += rows
        try:
            archive = self._restored()
            for one in scored:
                archive.take(0, one.rows)
            list(archive.tick(time.time()))
            self._checkpoint.commit({_DONE: str(groups[-1].number)} if groups else {})
        except FraudError as error:
            self._wait.goes_on(f"--shadow: {error}")
            self._undo(groups)
            return
        self._wait.over("--shadow: rows are stored again")
        if groups:
            self._note(groups, scored)

    def _shadowed(self, groups: Sequence[ShadowGroup]) -> list[Shadowed]:
        """Score groups of one champion, in pieces of a block."""
        settings = self._settings
        opened = self._opened(groups[0].pair)
        champion = opened.decider
        shadows, refused = settings.live.beside(champion)
        for name, why in refused.items():
            settings.dropped(name, f"cannot score beside {champion.bundle.model_id}: {why}")
        every = transactions_of(groups, settings.described)
        of_champion = np.concatenate([np.frombuffer(group.scores) for group in groups])
        use_one_thread()
        results = []
        for start in range(0, len(every), _BLOCK_ROWS):
            rows = every.slice(start, _BLOCK_ROWS)
            scores = of_champion[start : start + _BLOCK_ROWS]
            block = feature_matrix(rows, champion.features)
            fired = opened.fired(rows, block, scores)
            decided = decision_codes(scores, champion.bundle.thresholds, fired)
            results.append(shadows.score(rows, block, scores, decided))
        return results

    def _opened(self, pair: Pair) -> OpenDecider:
        with self._changed:
            known = self._open.get(pair)
        if known is None:
            known = OpenDecider(self._settings.decider_of(pair), reasons=0)
            with self._changed:
                self._remember(known)
        return known

    def _remember(self, opened: OpenDecider) -> None:
        self._open[opened.decider.pair] = opened
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)

    def _undo(self, groups: Sequence[ShadowGroup]) -> None:
        """Return to the last commit, and score the groups again later."""
        with self._changed:
            self._groups.extendleft(reversed(groups))
            ending = self._until is not None
        self._archive = None
        if not ending:
            time.sleep(_PAUSE)

    def _restored(self) -> LocalShards:
        """Return the archive as of the last commit and what came since."""
        if self._archive is None:
            self._checkpoint.roll_back()
            self._archive = _archive(self._settings, self._checkpoint)
        return self._archive

    def _note(self, groups: Sequence[ShadowGroup], scored: Sequence[Shadowed]) -> None:
        with self._changed:
            self._done = groups[-1].number
            self._waiting -= sum(group.rows for group in groups)
            self._since = time.monotonic()
            for one in scored:
                for key, figures in one.figures.items():
                    self._figures[key] = self._figures.get(key, ShadowFigures()).plus(figures)
        for one in scored:
            for key, dropped in one.dropped.items():
                if self.live.drop(key):
                    with self._changed:
                        self._dropped.setdefault(key, dropped)
                    self._settings.dropped(key, dropped.reason)


def finish_shadows(checkpoint: Path, directory: Path) -> int:
    """Finish the archive that an earlier server left, for one without shadows.

    Returns:
      Number of the last group that is in it; 0 for none.

    Raises:
      FraudError: it cannot be read or written.
    """
    if not checkpoint.exists():
        return 0
    opened = LocalCheckpoint(checkpoint, flushed=True)
    try:
        shards = LocalShards(
            lambda shard: ArchiveShard(directory, SHADOWED, shard, 1, 1.0), SHADOW, opened
        )
        shards.keep(0, shards.shard(0).finish())
        opened.commit({})
        return int(opened.positions().get(_DONE, "0"))
    finally:
        opened.close()


def _archive(settings: ShadowSettings, checkpoint: LocalCheckpoint) -> LocalShards:
    shards = LocalShards(
        lambda shard: ArchiveShard(
            settings.directory, SHADOWED, shard, settings.roll_rows, settings.roll_seconds
        ),
        SHADOW,
        checkpoint,
    )
    shards.shard(0)
    return shards
