"""The model and rules of a server, opened and rehearsed before the first request."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from beam_fraud import __version__
from beam_fraud.alerts.queue import Notice
from beam_fraud.cli.commands.scoring import ScoringPlan
from beam_fraud.cli.commands.serve_plan import ServePlan
from beam_fraud.cli.commands.side_process import SideProcess
from beam_fraud.decisions.decider import Decider, Pair, shown
from beam_fraud.decisions.reasons.reasons import Reasons, reasons_of
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.decisions.rules.rule import RuleSet, listings_of
from beam_fraud.decisions.rules.toml import files_of_lists
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.definition_sets import covers
from beam_fraud.models.bundle import Bundle, read_reference, share_model, shared_model
from beam_fraud.models.predict import noting_libraries
from beam_fraud.models.reference import usual_values
from beam_fraud.models.registry.champion_watch import ChampionWatch, Conditions, Windows
from beam_fraud.models.registry.choice import Choice, Chosen
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.models.small_blocks.predictor import Predictor, probing_rows
from beam_fraud.pipeline.frames.scoring import Block, Scorer
from beam_fraud.serve.deliveries import Deliveries
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.feature_records import FeatureRecords, FeatureScoring
from beam_fraud.serve.few_records import FEW
from beam_fraud.serve.http.json_schema import Typical
from beam_fraud.serve.http.openapi import Api
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.queue import Change
from beam_fraud.serve.rehearsal import rehearse_plain
from beam_fraud.serve.shadow import ShadowScoring, ShadowSettings
from beam_fraud.serve.state import ServerState
from beam_fraud.serve.windows import ServerWindows
from beam_fraud.storage.batch_outputs import SHADOW
from beam_fraud.transforms.shadow import notice_of

if TYPE_CHECKING:
    from beam_fraud.serve.http.app import Description
    from beam_fraud.serve.http.server import Describer, HttpServer

_LOG = logging.getLogger(__name__)
#: Rows of a rehearsal of what another process has rehearsed.
_ROWS_AGAIN = 3
#: Bytes of a rules file that is parsed sooner than another process has begun.
_SHORT = 1 << 18
#: Type: makes an engine over the state of the server.
MakeEngine: TypeAlias = Callable[[Scorer, FeatureScoring | None], Engine]


def api_of(bundle: Bundle, features: FeatureSet, rules: RuleSet | None) -> Api:
    """Return what the OpenAPI document describes."""
    usual = usual_values(read_reference(bundle), bundle.features)
    numbers = {
        name: value
        for name, value in zip(bundle.features.names, usual.tolist(), strict=True)
        if math.isfinite(value)
    }
    typical = Typical(numbers, dict(bundle.features.categories))
    records = FeatureRecords.of(features, rules)
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


@dataclass(frozen=True)
class OpenModel:
    """A model that predicts and explains, which takes long to make and is quickly sent."""

    bundle: Bundle
    model: Any
    #: Predicts single rows fast, checked against the model.
    predictor: Predictor
    #: Explains its scores; None without reasons.
    reasons: Reasons | None

    @classmethod
    def of(cls, bundle: Bundle, reasons: int) -> OpenModel:
        """Open the model of a bundle.

        Args:
          bundle: the bundle.
          reasons: maximum of reasons per flagged row; 0 for none.

        Raises:
          FraudError: a file of the bundle is missing or changed, or the model cannot be opened.
        """
        model = shared_model(bundle)
        predictor = Predictor.of(model, probing_rows(read_reference(bundle), bundle.features))
        if predictor.own:
            _LOG.info(
                "model %s: single rows take as long as its library takes for them (%s)",
                *(bundle.model_id, predictor.reason),
            )
        return cls(bundle, model, predictor, reasons_of(bundle, reasons))


@dataclass(frozen=True)
class Opened:
    """A model and rules that are about to decide, opened and checked."""

    decider: Decider
    #: Its model; None for one that was open.
    model: OpenModel | None
    api: Api
    description: Description
    #: Whether its example has been rehearsed.
    rehearsed: bool


@dataclass(frozen=True)
class Opening:
    """Opens and checks what shall decide, in any process."""

    conditions: Conditions
    #: Maximum of reasons per flagged row; 0 for none.
    reasons: int
    describer: Describer
    #: The features of the start, with the columns of challengers and of links; None without any.
    read: FeatureSet | None

    def opened(self, chosen: Chosen, known: Decider, open_id: str) -> Opened:
        """Open what is chosen.

        Args:
          chosen: what shall decide.
          known: what decides.
          open_id: id of a model that is open where the result is used.

        Raises:
          FraudError: it cannot be used, or single rows get other scores.
        """
        decider, model = self.conditions.checked(chosen, known), None
        bundle = decider.bundle
        if bundle.model_id != open_id:
            model = OpenModel.of(bundle, self.reasons)
            if model.predictor.differs:
                raise FraudError(
                    f"{bundle.model_id}: its fast form for single rows gives other scores "
                    f"({model.predictor.reason}); start the server again to predict them by its "
                    "library",
                    Code.MODEL_UNSUITED,
                )
        if self.read is not None:
            decider = _widened(decider, self.read)
        api = api_of(bundle, decider.features, decider.rules)
        rehearsed = _rehearsed(decider, model, api)
        return Opened(decider, model, api, self.describer.describe(api), rehearsed)


def _rehearsed(decider: Decider, model: OpenModel | None, api: Api) -> bool:
    """Rehearse what shall decide where that delays no answer; return whether it can be done.

    What is made at first use comes with the model then. Rules beside an open model are checked by
    scores of any kind. Lists that rules name are not read here.
    """
    bundle, features, rules = decider.bundle, decider.features, decider.rules
    if rules is not None and listings_of(rules):
        return False
    if model is None:
        scorer = Scorer(bundle, features, rules, None, _any_scores)
    else:
        scorer = Scorer(bundle, features, rules, model.reasons, model.predictor)
    return rehearse_plain(scorer, api.labels, api.example, api.typical.numbers)


def _any_scores(block: Block) -> Block:
    return np.linspace(0.0, 1.0, len(block))


class Engines:
    """Builds the engines of a server, each with everything made that its first request needs.

    Args:
      make: makes an engine over the state.
      model: the model of the first one.
    """

    def __init__(self, make: MakeEngine, model: OpenModel) -> None:
        self._make = make
        #: The model of the last one.
        self.model = model

    def engine(
        self, scored: ScoringPlan, api: Api, model: OpenModel, *, rehearsed: bool = False
    ) -> Engine:
        """Return an engine.

        Args:
          scored: the model and the rules.
          api: its example is scored here.
          model: the model, open.
          rehearsed: whether another process has rehearsed it. Then few rows are enough here, where
            answers wait for the interpreter meanwhile.

        Raises:
          FraudError: a row by itself gets another score than in a block.
        """
        scoring, features = scored.scoring, scored.features
        parts = scoring.bundle, features, scoring.rules, model.reasons, model.predictor
        kept = scoring.decider(features).kept
        scorer = Scorer(*parts, kept, scoring.audit, scoring.linked)
        engine = self._make(scorer, FeatureScoring.of(*parts))
        rows = _ROWS_AGAIN if rehearsed else FEW
        engine.rehearse(api.example, api.typical.numbers, rows)
        self.model = model
        return engine


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


@dataclass(frozen=True)
class _ChoiceBeside:
    """A choice whose rules file is parsed in another process if it is long."""

    choice: Choice
    side: SideProcess

    def look(self, known: Decider) -> Chosen:
        """Return what `Choice.look` does."""
        return self.choice.look(known, self._files_of)

    def _files_of(self, data: bytes, where: str) -> tuple[str, ...]:
        if len(data) <= _SHORT:
            return files_of_lists(data, where)
        # A buffer is sent without a copy.
        return self.side.call(_files_of_lists, PickleBuffer(data), where)


def _files_of_lists(data: PickleBuffer, where: str) -> tuple[str, ...]:
    return files_of_lists(bytes(data), where)


class Renewal:
    """Decides between two groups whether what was prepared answers from here on.

    A model with other windows waits until they are full.

    Args:
      watch: prepares it.
      windows: those of the engines' state.
    """

    def __init__(self, watch: ChampionWatch[Change], windows: ServerWindows) -> None:
        self._watch, self._windows = watch, windows
        self._awaited: Change | None = None

    def __call__(self) -> Change | None:
        """Return what answers from here on; None for as before."""
        windows, change = self._windows, self._watch.prepared
        if change is None:
            if self._awaited is not None or (windows.wanted is None and self._watch.settled):
                self._await(None)
            return None
        velocity = change.engine.velocity
        standing = True if covers(windows.velocity, velocity) else windows.standing(velocity)
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
        """Fill the windows of another model."""
        self._awaited, windows = change, self._windows
        windows.awaited = None if change is None else str(change.about["model_id"])
        further = () if change is None else (change.engine.velocity,)
        windows.wanted = (windows.velocity, *further)


def watch_of(
    planned: ServePlan,
    engines: Engines,
    server: HttpServer,
    deliveries: Deliveries,
    metrics: Metrics,
    shadow: ShadowScoring | None,
    state: ServerState,
    side: SideProcess | None,
) -> ChampionWatch[Change] | None:
    """Return what follows the choice of a server and prepares its changes; None without one.

    Args:
      side: opens and checks what shall decide; there is one if there is a choice.
    """
    if planned.choice is None or side is None:
        return None
    scoring, features = planned.scored.scoring, planned.scored.features
    instead = "one with another --state and --history"
    windows = Windows(features, "server", instead, features.labels, planned.keys)
    opening = Opening(
        Conditions(windows, planned.max_microseconds),
        scoring.reasons,
        server.describer,
        None if shadow is None and scoring.linked is None else features,
    )

    def prepare(chosen: Chosen, known: Decider) -> tuple[Decider, Change]:
        with noting_libraries():
            # Its rules are not needed there, and may hold long lists.
            before = replace(known, rules=None)
            opened = side.call(opening.opened, chosen, before, engines.model.bundle.model_id)
        decider, model = opened.decider, opened.model or engines.model
        # Challengers of the same model share it.
        share_model(decider.bundle, model.model)
        if shadow is not None:
            shadow.follow(decider)
        changed = replace(scoring, bundle=decider.bundle, rules=decider.rules)
        scored = replace(planned.scored, scoring=changed, features=decider.features)
        build = build_of(scored)
        counters = state.settings.drift
        if counters is not None:
            counters.add(decider.bundle)
        in_force = msgspec.json.encode(decider.pair).decode()

        def taken(since: int) -> None:
            state.decide_by(decider.features.velocity, in_force)
            if counters is not None:
                counters.bundle = decider.bundle
            deliveries.decide_by(decider.context, since)
            server.describe(opened.description)
            metrics.build = build
            count(metrics.swaps, "taken_up")

        with noting_libraries():
            engine = engines.engine(scored, opened.api, model, rehearsed=opened.rehearsed)
            change = Change(engine, about(scored), taken)
        # Before any row names them.
        keep_rules(planned.outputs.directory, decider.rules)
        return decider, change

    def refused(notice: Notice) -> None:
        count(metrics.swaps, "refused")
        deliveries.notify([notice])

    watch = ChampionWatch(
        _ChoiceBeside(planned.choice, side),
        Decider(scoring.bundle, features, scoring.rules),
        prepare,
        refused,
        lambda notice: deliveries.notify([notice]),
    )
    if shadow is not None:
        watch.look_also(shadow.live.look)
    return watch
