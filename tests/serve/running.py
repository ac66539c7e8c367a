"""An engine and a queue in this process, for tests without HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.inputs import DecisionInputs
from beam_fraud.decisions.linked_values import LinkedColumns, reading
from beam_fraud.decisions.reasons.reasons import reasons_of
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.schema.duration import DAY
from beam_fraud.serve.backlog import Deliver
from beam_fraud.serve.drift import DriftCounters
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.fallback import Fallback
from beam_fraud.serve.feature_records import FeatureScoring
from beam_fraud.serve.shadow_backlog import Scoring
from beam_fraud.serve.state import ServerState, StateSettings
from beam_fraud.serve.windows import WindowSettings
from beam_fraud.sources.source import find_history
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.read import earlier_transactions
from tests.serve.conftest import Served


@dataclass
class Running:
    """Opens engines over one state."""

    served: Served
    directory: Path
    deliveries: dict[str, Deliver] = field(default_factory=dict)
    degraded: Callable[[], str | None] = lambda: None
    counted: Counter[str] = field(default_factory=Counter)
    #: Whether rows keep the inputs of their decisions.
    keep_features: bool = False
    rule_limit: float = 1.0
    #: Which unflagged rows are audited, or None.
    audit: AuditLane | None = None
    #: Columns whose values are delivered, or None.
    linked: LinkedColumns | None = None
    #: Scores answered transactions in shadow, or None.
    shadow: Scoring | None = None
    #: Counts answers for drift, or None; and whether the archive has the inputs that rows keep.
    drift: DriftCounters | None = None
    archives_inputs: bool = True
    #: Age at which a file of the archive is finished.
    roll_seconds: float = 300.0
    #: Directory of a sink for flagged rows, or None.
    flagged: Path | None = None

    @property
    def scores(self) -> Path:
        return self.directory / "scores"

    def engine(self, directory: Path | None = None, over: ServerState | None = None) -> Engine:
        """Return an engine.

        Args:
          directory: bundle of the model; None for the one that is served.
          over: the state; None to restore it.
        """
        bundle = open_bundle(self.served.bundle if directory is None else directory)
        schema = bundle.schema
        if self.linked is not None:
            schema = reading(schema, self.linked.columns)
        rules = None
        if self.served.rules:
            known = vocabulary(schema, bundle.velocity_names(), scored=True)
            rules = load_rules(self.served.rules, known)
        features = bundle.features_in(schema, () if rules is None else rules.columns)
        settings = self._settings(bundle, features)
        settings = replace(settings, rules=rules, rule_limit=self.rule_limit, audit=self.audit)
        kept = DecisionInputs.of(features, rules) if self.keep_features else None
        parts = bundle, features, rules, reasons_of(bundle, 5)
        return Engine(
            over or ServerState(settings, self._count),
            Scorer(*parts, kept=kept, audit=self.audit, linked=self.linked),
            Fallback.parse("approve<100,else=review"),
            self._count,
            feature_scoring=FeatureScoring.of(*parts),
            degraded=lambda: self.degraded(),
        )

    def _settings(self, bundle: Bundle, features: FeatureSet) -> StateSettings:
        for place in (self.scores, self.directory / "dead", self.flagged):
            if place is not None:
                place.mkdir(exist_ok=True, parents=True)
        earlier = [self.served.history] if self.served.history else []
        files = find_history(Place.parse_all(earlier), (), features.schema, labels=features.labels)
        history = partial(
            earlier_transactions,
            tuple(files),
            features.schema,
            features.labels,
            count_left_out=False,
        )
        return StateSettings(
            checkpoint=self.directory / "serve" / "state.db",
            scores=self.scores,
            dead_letters=self.directory / "dead",
            windows=WindowSettings(features, history=history if earlier else None),
            thresholds=bundle.thresholds,
            ahead=1_000 * 365 * DAY,
            deliveries=self.deliveries,
            shadow=self.shadow,
            drift=self.drift,
            keeps_inputs=self.archives_inputs,
            roll_seconds=self.roll_seconds,
            flagged=self.flagged,
        )

    def _count(self, name: str, rows: int) -> None:
        self.counted[name] += rows


def ids(rows: pa.RecordBatch | pa.Table) -> list[str]:
    names: list[str] = rows.column("transaction_id").to_pylist()
    return names


def kill(state: ServerState) -> None:
    """End a state as the end of its process does: nothing is closed properly or delivered any more.

    Its threads would otherwise go on beside other tests.
    """

    def ended(_: pa.RecordBatch) -> None:
        raise FraudError("the process has ended", Code.WORKER_ENDED)

    for backlog in state._backlogs.values():
        backlog._deliver = ended
        backlog.stop(5.0)
    state._checkpoint.close()
