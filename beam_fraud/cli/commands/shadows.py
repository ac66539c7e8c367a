"""Plan `--shadow`: what scores beside the champion, and the features that all of them need."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.scoring import ScoringPlan
from beam_fraud.cli.options import ScoreOptions, ServeOptions, StreamOptions
from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.shadow import Challenger
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.feature_union import velocity_union
from beam_fraud.models.registry.challengers import (
    ShadowNames,
    refuse_other_windows,
    with_lenient_columns,
)
from beam_fraud.monitoring.shadow import Dropped, dropped_in, shadow_figures
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)


def shadow_bundles(options: ScoreOptions | StreamOptions, model: ChosenModel) -> tuple[Place, ...]:
    """Return the places of the models that `--shadow` names, which workers open.

    Raises:
      UsageError: all challengers of no registry are asked for.
    """
    return tuple(ShadowNames(_places(options)).bundles(model.registry))


def with_shadows(
    planned: ScoringPlan,
    options: ScoreOptions | StreamOptions | ServeOptions,
    model: ChosenModel,
    *,
    here: bool,
    streaming: bool,
) -> ScoringPlan:
    """Return a plan that also scores by what `--shadow` names.

    Args:
      planned: the plan of the champion alone.
      options: options of the call.
      model: the model of the call.
      here: whether this machine scores.
      streaming: whether windows are those of the champion; otherwise the union is computed.

    Raises:
      UsageError: `--max-microseconds` limits nothing, or rules use what the schema lacks.
      FraudError: something cannot be used, or needs other windows than the stream has.
    """
    if not options.shadow:
        if options.max_microseconds is not None and not streaming:
            raise UsageError(
                "--max-microseconds: needs --shadow, which it limits", Code.OPTION_CONFLICT
            )
        return planned
    scoring, schema = planned.scoring, planned.features.schema
    champion = scoring.decider(planned.features)
    names = ShadowNames(
        _places(options),
        None if model.registry is None else model.registry.place,
        lists_directory(options.lists),
        None if options.schema is None else load_schema(options.schema),
        here,
    )
    challengers: dict[str, Challenger] = {}
    for name in names.ids(model.registry):
        with _named(name):
            challenger = names.challenger(name, champion, model.registry, {})
            if challenger.key in champion.pair:
                _LOG.warning("%s decides, so it is no shadow", challenger.key)
                continue
            schema = with_lenient_columns(schema, challenger)
            if streaming:
                refuse_other_windows(challenger, champion)
            challengers[challenger.key] = challenger
    if not challengers:
        _LOG.warning("--shadow: nothing scores beside %s", champion.bundle.model_id)
    scoring = replace(
        scoring,
        challengers=tuple(challengers.values()),
        shadow_names=names,
        max_microseconds=options.max_microseconds,
    )
    together = _together(champion, list(challengers.values()), schema)
    return replace(planned, scoring=scoring, features=together)


def shadow_counts(
    challengers: Sequence[Challenger], counted: Mapping[str, int], dropped: Mapping[str, Dropped]
) -> dict[str, object]:
    """Return the figures of challengers for `summary.json`; empty without any.

    Args:
      challengers: of the run, at its start.
      counted: the counters of the run.
      dropped: challengers that a stream's workers dropped, beside those in the counters.
    """
    keys = dict.fromkeys((*(one.key for one in challengers), *dropped))
    known = shadow_figures(counted, dropped, keys)
    figures = shadow_figures(counted, {**dropped_in(counted, known), **dropped}, keys)
    shown = {key: one.to_dict() for key, one in figures.items()}
    return {"shadows": shown} if shown else {}


def _places(options: ScoreOptions | StreamOptions | ServeOptions) -> dict[str, Place]:
    return {name: Place.parse(name) for name in options.shadow}


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except FraudError as error:
        raise error.with_message(f"--shadow {name}: {error}") from None


def _together(champion: Decider, challengers: Sequence[Challenger], schema: Schema) -> FeatureSet:
    """Return the champion's features, with what challengers need computed beside them.

    Raises:
      FraudError: two models define a feature in different ways, or windows are by a column that
        the champion does not read.
    """
    own = champion.features
    known = {name for one in own.schema.velocity for name in one.names}
    sets = [(one.key, one.decider.features) for one in challengers]
    # The champion's definitions stay as they are: a stream's state names them.
    further = [
        part
        for definition in velocity_union([(champion.bundle.path, own), *sets])
        for part in definition.only(set(definition.names) - known)
    ]
    for key, features in sets:
        # What cannot be read in a key would make the row a dead letter.
        unread = set(replace(schema, velocity=features.velocity).key_columns)
        unread -= set(own.schema.key_columns)
        if unread:
            raise FraudError(
                f"--shadow {key}: its windows are by {min(unread)!r}, which the champion does "
                "not read; compare it by `rescore`",
                Code.BUNDLE_SCHEMA,
            )
    names = (name for part in further for name in part.names)
    velocity = (*own.schema.velocity, *further)
    return replace(own, schema=replace(schema, velocity=velocity), also=(*own.also, *names))
