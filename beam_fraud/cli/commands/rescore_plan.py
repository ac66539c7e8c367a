"""Plan a rescore: models, rules, archive, history and comparison."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import realpath
from typing import TYPE_CHECKING, Any

from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.comparison import ComparisonPlan, comparison_plan
from beam_fraud.cli.commands.inputs import refuse_bundles, refuse_own_outputs
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.decisions.inputs import KEPT
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.comparison.scored_rows import Side as ComparedSide
from beam_fraud.models.bundle import Bundle, check_packages, open_bundle
from beam_fraud.pipeline.rescore.run import Settings
from beam_fraud.pipeline.rescore.sides import Challenge, Sides, sides_of
from beam_fraud.schema.event_time import micros_of
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.archive import ArchiveFile, ArchivePartition
from beam_fraud.sources.source import found_files
from beam_fraud.storage.batch_outputs import new_run_id
from beam_fraud.storage.rescore_objects import RescoreObjects
from beam_fraud.storage.rescore_outputs import RescoreDirectory, RescoreOutputs
from beam_fraud.storage.urls import Place

if TYPE_CHECKING:
    from beam_fraud.cli.commands.backfill import BackfillPlan
    from beam_fraud.runners.submission import Submission

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RescorePlan:
    """The checked options of a call."""

    options: RescoreOptions
    outputs: RescoreOutputs
    sides: Sides
    settings: Settings
    places: tuple[Place, ...]
    history: ArchivePartition | None
    since: int | None
    until: int | None
    #: None without anything to compare with.
    comparison: ComparisonPlan | None
    #: Places that the scores of the new model are written to as well, or None.
    backfill: BackfillPlan | None
    #: What scores ranges of partitions instead of this process, or None.
    elsewhere: Submission | None

    @property
    def changing(self) -> dict[str, Any]:
        """Options that change the rows of a partition."""
        options = self.options
        changing: dict[str, Any] = {"reasons": options.reasons, "dedupe": options.dedupe}
        if options.keep_features:
            changing["keep_features"] = True
        if self.sides.segments:
            changing["segments"] = list(self.sides.segments)
        return changing


def plan_rescore(options: RescoreOptions) -> RescorePlan:
    """Check the options of a call.

    Raises:
      UsageError: an option is invalid.
      FraudError: a bundle, a rule file or the history cannot be used.
    """
    places = Place.parse_all(options.files)
    outputs = _outputs(Place.parse(options.out))
    refuse_bundles(places)
    refuse_own_outputs((*places, *Place.parse_all(options.history)), outputs.directory)
    since = parse_moment("--from", options.since)
    until = parse_moment("--until", options.until)
    if since is not None and until is not None and until <= since:
        raise UsageError("--until: must be after --from", Code.OPTION_CONFLICT)
    model = ChosenModel.of(options)
    # Before anything is read: a runner's options may say how.
    elsewhere = _elsewhere(options, model)
    registered = None
    if options.rules is None and model.registry is not None:
        registered = model.registry.standing.rules
    options = replace(options, rules=options.rules or model.rules_file())
    new, *against = _bundles(model, options.against)
    schema = new.schema if options.schema is None else load_schema(options.schema)
    challenges = _challenges(options, new, against, registered)
    sides = sides_of(challenges[0], challenges[1:], schema, options.segments)
    if options.keep_features and (shared := set(sides.segments).intersection(KEPT)):
        raise UsageError(
            f"--segment {min(shared)}: --keep-features writes a column of that name; leave one out",
            Code.OPTION_CONFLICT,
        )
    comparison = _comparison(options, sides)
    settings = Settings(
        options.reasons,
        options.dedupe == "run",
        options.keep_features,
        options.max_dead,
        options.block_rows,
        options.workers,
    )
    return RescorePlan(
        options,
        outputs,
        sides,
        settings,
        places,
        _history(options, places, sides),
        None if since is None else micros_of(since),
        None if until is None else micros_of(until),
        comparison,
        _backfill(options, outputs, sides),
        elsewhere,
    )


def _outputs(out: Place) -> RescoreOutputs:
    if out.local is None:
        return RescoreObjects(out.name.rstrip("/"), new_run_id())
    return RescoreDirectory(out.local, new_run_id())


def _elsewhere(options: RescoreOptions, model: ChosenModel) -> Submission | None:
    """Return the runner of a call; None if it runs in this process.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    if not options.beam_args:
        return None
    # Imported here: Beam takes seconds to import, and nothing else needs it.
    from beam_fraud.cli.commands.places import RunPlaces
    from beam_fraud.runners.call import Call
    from beam_fraud.runners.checks import enforce
    from beam_fraud.runners.submission import Submission

    submission = Submission.of(options.beam_args, 1)
    places = RunPlaces.of(
        files=options.files,
        history=options.history,
        model=model.place,
        model_option=model.option,
        against=options.against,
        out=options.out,
    ).of_workers(None)
    workers = 1 if not submission.runner.local else options.workers
    call = Call(
        submission, streaming=False, places=places, workers=workers, attended=("the comparison",)
    )
    target = enforce(call)
    return None if target.runner.local else submission


def _backfill(
    options: RescoreOptions, outputs: RescoreOutputs, sides: Sides
) -> BackfillPlan | None:
    """Plan the back-fill; None if the call names no destination.

    Raises:
      UsageError, FraudError: as `backfill_plan`.
    """
    given = (options.sink, options.alerts, options.out_topic, options.kafka)
    if not any(given) and options.max_rows_per_second is None:
        return None
    # Imported here: sinks and channels take seconds to import, and most runs need none.
    from beam_fraud.alerts.alert import AlertContext
    from beam_fraud.cli.commands.backfill import backfill_plan

    new = sides.all[0]
    thresholds, rules = new.bundle.thresholds, () if new.rules is None else new.rules.terms
    context = AlertContext(sides.schema.timezone, thresholds.review, thresholds.decline, rules)
    return backfill_plan(options, outputs, context)


def _comparison(options: RescoreOptions, sides: Sides) -> ComparisonPlan | None:
    """Check the options of the comparison.

    A model alone is measured if an option asks for that.

    Raises:
      UsageError: one is invalid.
    """
    asked = (options.fail_if, options.labels, options.label_maturity, options.segments)
    if len(sides.all) == 1 and not any(asked):
        return None
    compared = [
        ComparedSide(
            side.key,
            side.name,
            side.bundle.model_id,
            side.rule_set,
            side.bundle.thresholds.review,
        )
        for side in sides.all
    ]
    roles = {column: role for role, column in sides.schema.roles.items()}
    segments = tuple(roles.get(name, name) for name in options.segments)
    options = replace(options, segments=segments)
    return comparison_plan(options, compared, sides.schema.timezone)


def _bundles(model: ChosenModel, against: Sequence[str]) -> list[Bundle]:
    bundles = [model.open(), *map(open_bundle, Place.parse_all(against))]
    for bundle in bundles:
        check_packages(bundle)
    return bundles


def _challenges(
    options: RescoreOptions, new: Bundle, against: Sequence[Bundle], registered: str | None
) -> list[Challenge]:
    """Return the models and rules; models without rules of their own are decided by the same.

    Args:
      options: options of the call, with the file of the rules.
      new: the new model.
      against: the others.
      registered: id of the rules in the registry that they come from, or None.
    """
    others, id_of_others = options.against_rules or options.rules, registered
    if options.against_rules is not None:
        id_of_others = None
    challenges = [Challenge(new, options.rules, registered)]
    challenges += [Challenge(bundle, others, id_of_others) for bundle in against]
    if options.against_rules is not None and not against:
        challenges.append(Challenge(new, options.against_rules))
    return challenges


def _history(
    options: RescoreOptions, places: Sequence[Place], sides: Sides
) -> ArchivePartition | None:
    """Return the files of --history as a partition."""
    if not options.history:
        return None
    if not sides.velocity:
        _LOG.warning("no model has velocity features: --history adds nothing")
        return None
    files = found_files(Place.parse_all(options.history))
    own = {realpath(one.file.path) for one in found_files(places)}
    for one in files:
        if realpath(one.file.path) in own:
            raise UsageError(
                f"--history {one.file.path}: is among the files as well; give it once",
                Code.PLACE_SHARED,
            )
    return ArchivePartition("--history", tuple(map(ArchiveFile, files)))
