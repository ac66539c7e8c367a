"""What a server answers by: a model and rules, prepared before the first request meets them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pyarrow as pa

from beam_fraud import __version__
from beam_fraud.alerts.queue import Notice
from beam_fraud.cli.commands.scoring import ScoringPlan
from beam_fraud.cli.commands.serve_plan import ServePlan
from beam_fraud.decisions.decider import Decider, Pair, shown
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.definition_sets import covers
from beam_fraud.models.bundle import Bundle, read_reference, shared_model
from beam_fraud.models.predict import noting_libraries
from beam_fraud.models.reference import usual_values
from beam_fraud.models.registry.champion_watch import ChampionWatch, Windows
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.models.small_blocks.predictor import Predictor, probing_rows
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.serve.deliveries import Deliveries
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.feature_records import FeatureRecords, FeatureScoring
from beam_fraud.serve.http.json_schema import Typical, transaction_schema
from beam_fraud.serve.http.openapi import Api
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.queue import Change
from beam_fraud.serve.shadow import ShadowScoring, ShadowSettings
from beam_fraud.serve.state import ServerState
from beam_fraud.storage.batch_outputs import SHADOW
from beam_fraud.transforms.shadow import notice_of

if TYPE_CHECKING:
    from beam_fraud.serve.http.server import HttpServer

_LOG = logging.getLogger(__name__)
#: Type: makes an engine over the state of the server.
MakeEngine: TypeAlias = Callable[[Scorer, FeatureScoring | None], Engine]


def api_of(scored: ScoringPlan) -> Api:
    """Return what the OpenAPI document describes."""
    bundle, features = scored.scoring.bundle, scored.features
    usual = usual_values(read_reference(bundle), bundle.features)
    numbers = {
        name: value
        for name, value in zip(bundle.features.names, usual.tolist(), strict=True)
        if math.isfinite(value)
    }
    typical = Typical(numbers, dict(bundle.features.categories))
    records = FeatureRecords.of(features, scored.scoring.rules)
    schema, labels = features.schema, features.labels
    return Api(schema, labels, bundle.model_id, features.names, typical, records)


def about(scored: ScoringPlan) -> dict[str, object]:
    """Return what `/model` shows."""
    bundle, rules = scored.scoring.bundle, scored.scoring.rules
    thresholds = bundle.thresholds
    return {
        "model_id": bundle.model_id,
        "name": bundle.manifest.name,
        "created": bundle.manifest.created,
        "thresholds": {"review": thresholds.review, "decline": thresholds.decline},
        "features": list(scored.features.names),
        "schema": scored.features.schema.name,
        "rules": [] if rules is None else list(rules.names),
        "rules_id": None if rules is None else rules.id,
    }


def build_of(scored: ScoringPlan) -> dict[str, str]:
    """Return the labels of `beam_fraud_build_info`."""
    return {"version": __version__, "model_id": scored.scoring.bundle.model_id}


class Engines:
    """Builds the engines of a server, each with everything made that its first request needs.

    Args:
      make: makes an engine over the state.
    """

    def __init__(self, make: MakeEngine) -> None:
        self._make = make
        #: Id of the last model, and what predicts by it.
        self._known: tuple[str, Predictor] | None = None

    def engine(self, scored: ScoringPlan, api: Api, *, exact: bool = False) -> Engine:
        """Return an engine.

        Args:
          scored: the model and the rules.
          api: its example is scored here.
          exact: whether to refuse a model whose fast form for single rows gives other scores;
            otherwise its library predicts them.

        Raises:
          FraudError: a file of the bundle is missing or changed, or single rows get other scores.
        """
        scoring, features = scored.scoring, scored.features
        bundle = scoring.bundle
        predictor = self._predictor(bundle)
        if exact and predictor.differs:
            raise FraudError(
                f"{bundle.model_id}: its fast form for single rows gives other scores "
                f"({predictor.reason}); start the server again to predict them by its library",
                Code.MODEL_UNSUITED,
            )
        parts = bundle, features, scoring.rules, scoring.reasons, predictor
        kept = scoring.decider(features).kept
        scorer = Scorer(*parts, kept, scoring.audit, scoring.linked)
        engine = self._make(scorer, FeatureScoring.of(*parts))
        (example,) = transaction_schema(api.schema, api.labels, api.typical)["examples"]
        engine.rehearse(msgspec.json.encode(example), api.typical.numbers)
        self._known = bundle.model_id, predictor
        return engine

    def _predictor(self, bundle: Bundle) -> Predictor:
        """Return what predicts single rows fast, checked against the model."""
        if self._known is not None and self._known[0] == bundle.model_id:
            return self._known[1]
        reference = read_reference(bundle)
        predictor = Predictor.of(shared_model(bundle), probing_rows(reference, bundle.features))
        if predictor.own:
            _LOG.info(
                "model %s: single rows take as long as its library takes for them (%s)",
                *(bundle.model_id, predictor.reason),
            )
        return predictor


def shadow_of(planned: ServePlan, deliveries: Deliveries) -> ShadowScoring | None:
    """Return what scores in shadow; None without `--shadow`.

    Raises:
      FraudError: its archive or its state cannot be used.
    """
    scoring, features, outputs = planned.scored.scoring, planned.scored.features, planned.outputs
    if scoring.shadow_names is None:
        return None
    first = scoring.decider(features)

    def decider_of(pair: Pair) -> Decider:
        decider = first
        if pair != first.pair and planned.choice is not None:
            decider = _widened(planned.choice.named(pair, first), features)
        if decider.pair != pair:
            raise FraudError(
                f"{shown(pair)} decided on them before the restart, and cannot be opened any more",
                Code.REGISTRY_UNKNOWN,
            )
        return decider

    def dropped(key: str, reason: str) -> None:
        notice = notice_of(key, reason, planned.run_id)
        _LOG.error("%s", notice.text)
        deliveries.notify([notice])

    velocity = [name for one in features.velocity for name in one.names]
    described = features.schema.transactions(labels=features.labels)
    directory = outputs.archive(SHADOW)
    assert isinstance(directory, Path), "a server keeps its state on this machine"
    return ShadowScoring(
        ShadowSettings(
            checkpoint=outputs.shadow_checkpoint,
            directory=directory,
            roll_rows=planned.settings.roll_rows,
            roll_seconds=planned.settings.roll_seconds,
            live=LiveShadows(
                first, scoring.challengers, scoring.shadow_names, scoring.max_microseconds
            ),
            described=pa.schema([*described, *(pa.field(n, pa.float64()) for n in velocity)]),
            decider_of=decider_of,
            dropped=dropped,
        )
    )


def _widened(decider: Decider, read: FeatureSet) -> Decider:
    """Return a decider whose schema also has the columns of challengers and of links."""
    schema = decider.features.schema
    known = {feature.column for feature in schema.features}
    further = (feature for feature in read.schema.features if feature.column not in known)
    schema = replace(schema, features=(*schema.features, *further))
    return replace(decider, features=replace(decider.features, schema=schema))


class Renewal:
    """Decides between two groups whether what was prepared answers from here on.

    A model with other windows waits until the state has filled them.

    Args:
      watch: prepares it.
      state: the state of the engines.
    """

    def __init__(self, watch: ChampionWatch[Change], state: ServerState) -> None:
        self._watch, self._state = watch, state
        self._awaited: Change | None = None

    def __call__(self) -> Change | None:
        """Return what answers from here on; None for as before."""
        state, change = self._state, self._watch.prepared
        if change is None:
            if self._awaited is not None or (state.wanted is None and self._watch.settled):
                self._await(None)
            return None
        velocity = change.engine.velocity
        standing = True if covers(state.velocity, velocity) else state.standing(velocity)
        if standing:
            taken = self._watch.take(change)
            self._awaited = None
            return taken
        if change is not self._awaited:
            self._await(change)
        if standing is False:
            self._watch.wait(change)
        return None

    def _await(self, change: Change | None) -> None:
        """Let the state fill the windows of another model."""
        self._awaited, state = change, self._state
        state.awaited = None if change is None else str(change.about["model_id"])
        further = () if change is None else (change.engine.velocity,)
        state.wanted = (state.velocity, *further)


def watch_of(
    planned: ServePlan,
    engines: Engines,
    server: HttpServer,
    deliveries: Deliveries,
    metrics: Metrics,
    shadow: ShadowScoring | None,
    state: ServerState,
) -> ChampionWatch[Change] | None:
    """Return what follows the choice of a server and prepares its changes; None without one."""
    if planned.choice is None:
        return None
    scoring, features = planned.scored.scoring, planned.scored.features

    def prepare(decider: Decider) -> Change:
        if shadow is not None or scoring.linked is not None:
            decider = _widened(decider, features)
        if shadow is not None:
            shadow.follow(decider)
        changed = replace(scoring, bundle=decider.bundle, rules=decider.rules)
        scored = replace(planned.scored, scoring=changed, features=decider.features)
        api = api_of(scored)
        description, build = server.described(api), build_of(scored)
        counters = state.settings.drift
        if counters is not None:
            counters.add(decider.bundle)
        in_force = msgspec.json.encode(decider.pair).decode()

        def taken(since: int) -> None:
            state.decide_by(decider.features.velocity, in_force)
            if counters is not None:
                counters.bundle = decider.bundle
            deliveries.decide_by(decider.context, since)
            server.describe(description)
            metrics.build = build
            count(metrics.swaps, "taken_up")

        with noting_libraries():
            change = Change(engines.engine(scored, api, exact=True), about(scored), taken)
        # Before any row names them.
        keep_rules(planned.outputs.directory, decider.rules)
        return change

    def refused(notice: Notice) -> None:
        count(metrics.swaps, "refused")
        deliveries.notify([notice])

    instead = "one with another --state and --history"
    watch = ChampionWatch(
        planned.choice,
        Decider(scoring.bundle, features, scoring.rules),
        Windows(features, "server", instead, features.labels, planned.keys),
        planned.max_microseconds,
        prepare,
        refused,
        lambda notice: deliveries.notify([notice]),
    )
    if shadow is not None:
        watch.look_also(shadow.live.look)
    return watch
