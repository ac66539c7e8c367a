"""`beam-fraud retrain`: fit a challenger, compare it with the champion, register it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from beam_fraud.cli.commands import labels as label_commands
from beam_fraud.cli.commands import rescore
from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.comparison import comparison_plan
from beam_fraud.cli.commands.inputs import input_places, refuse_own_outputs
from beam_fraud.cli.commands.times import parse_duration, parse_moment
from beam_fraud.cli.commands.tuning import forget_trials, tuning_of
from beam_fraud.cli.options import ExportLabelsOptions, RescoreOptions, RetrainOptions
from beam_fraud.cli.options.decisions import ModelOptions
from beam_fraud.cli.terminal.columns import fact
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.decisions.rules.figure_condition import FigureCondition
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.candidate import candidate_of
from beam_fraud.evaluation.comparison.figures import figure_names
from beam_fraud.evaluation.comparison.scored_rows import Side
from beam_fraud.evaluation.traffic import TRAFFIC_KEYS, weighted_figures
from beam_fraud.features.velocity.reach import look_back
from beam_fraud.models.bundle import Bundle, check_packages, check_place, load_model
from beam_fraud.models.calibration import Calibrated, Calibration, Method
from beam_fraud.models.fitting import Rows, bundle_of
from beam_fraud.models.kinds import ModelKind, model_kind, with_settings
from beam_fraud.models.recorded_kind import recorded_kind
from beam_fraud.models.registry import registry as registries
from beam_fraud.models.registry.registry import Author, Registry, check_changeable
from beam_fraud.models.threshold import AlertBudget, ThresholdRule, parse_threshold
from beam_fraud.models.training import DECLINE_OPTION, Recipe, Trained
from beam_fraud.operations.retraining.challenger import (
    Archive,
    alert_rate,
    fit_again,
    fit_compared,
)
from beam_fraud.operations.retraining.periods import Periods, advised_maturity, periods_of
from beam_fraud.records.label_file import LabelFile, read_label_file
from beam_fraud.schema.duration import DAY, SECOND
from beam_fraud.schema.event_time import moment_of
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.atomic import make_directory, whole_file, write_file
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: What is in `--out`.
COMPARED, CHALLENGER, COMPARISON = "compared", "challenger", "comparison"
LABELS, COUNTED, SUMMARY = "labels.parquet", "counted_labels.parquet", "retrain.json"
#: Frauds of equal weight that say as much as the weighted ones, below which a warning says so.
_FEW_EFFECTIVE = 30


def call(options: RetrainOptions, *, as_json: bool) -> Outcome:
    """Run the command; the exit code is 3 if a condition of `--fail-if` holds."""
    result = run(options)
    return Outcome(result, render, 3 if result.get("fail_if") else 0)


def run(options: RetrainOptions) -> dict[str, object]:
    """Fit, compare and register a challenger, unless nothing is new.

    Returns:
      The summary, as in `retrain.json`; `state` is `nothing_new`, `registered` or `promoted`.

    Raises:
      UsageError: an option is invalid.
      FraudError: there is no champion, rows or labels cannot be used, no model can be fitted, a
        condition compares an undefined figure, or somebody changed the champion meanwhile.
    """
    out = Place.parse(options.out)
    if out.local is None:
        raise UsageError(f"--out {out.shown}: give a directory of this machine", Code.OUTPUT_NAME)
    refuse_own_outputs(Place.parse_all((*options.files, *options.history)), out.local.absolute())
    check_output(Directory(out.local), f"--out {out.shown}")
    check_changeable(Place.parse(options.registry))
    model = ChosenModel.of(ModelOptions(registry=options.registry))
    assert model.registry is not None
    with sole_writer("--out", out):
        retraining = _plan(options, model.registry, model.rules_file(), out.local)
        result = retraining.run()
        if result["state"] != "nothing_new":
            write_file(out.local / SUMMARY, msgspec.json.format(msgspec.json.encode(result)))
    return result


def _plan(options: RetrainOptions, registry: Registry, rules: str | None, out: Path) -> _Retraining:
    """Check the options before anything is read.

    Raises:
      UsageError: an option is invalid.
      FraudError: the champion cannot be used, or a directory not be written.
    """
    champion = registry.champion()
    check_packages(champion)
    name = champion.manifest.name
    sides = (
        Side("new", name, f"{name}@", "", 0.0),
        Side("old", champion.model_id, champion.model_id, "", champion.thresholds.review),
    )
    # The rescoring checks them again, but only once there is a model.
    comparison_plan(options, sides, champion.schema.timezone)
    traffic = [*TRAFFIC_KEYS, *(f"old.{key}" for key in TRAFFIC_KEYS)]
    names = (*figure_names(sides), *traffic)
    conditions = tuple(
        FigureCondition.read("--promote-if", text, names) for text in options.promote_if
    )
    if options.database is not None and options.labels is not None:
        raise UsageError("--database: not together with --labels", Code.OPTION_CONFLICT)
    kind = _kind(options, champion)
    kind.check_packages()
    maturity = None
    if options.label_maturity is not None:
        maturity = parse_duration("--label-maturity", options.label_maturity)
    make_directory(out)
    for part in (COMPARED, CHALLENGER):
        check_place(Place.at(out / part))
    schema = champion.schema if options.schema is None else load_schema(options.schema)
    recipe = Recipe(
        kind=kind,
        # Replaced once the champion's alerts are known, unless it is given.
        rule=AlertBudget(1.0) if options.threshold is None else parse_threshold(options.threshold),
        decline=_decline(options),
        calibrate=_calibration(options, champion),
        drop_known_cards=options.drop_known_cards,
        tuning=tuning_of(options, kind, Place.at(out / CHALLENGER), frozenset()),
        seed=options.seed,
    )
    compared = parse_duration("--compare", options.compare)
    if not compared:
        raise UsageError("--compare 0: must be above 0", Code.OPTION_VALUE)
    return _Retraining(
        options, registry, champion, rules, out, schema, recipe, maturity, compared, conditions
    )


def _kind(options: RetrainOptions, champion: Bundle) -> ModelKind:
    if options.model is not None:
        return model_kind(options.model, options.settings)
    return with_settings(recorded_kind(champion.manifest, champion.model_id), options.settings)


def _decline(options: RetrainOptions) -> ThresholdRule | None:
    return None if options.decline is None else parse_threshold(options.decline, DECLINE_OPTION)


def _calibration(options: RetrainOptions, champion: Bundle) -> Method | None:
    if options.calibrate is not None:
        return None if options.calibrate == "none" else options.calibrate
    model = load_model(champion)
    if isinstance(model, Calibrated) and isinstance(model.calibration, Calibration):
        return model.calibration.method
    return None


@dataclass(frozen=True)
class _Retraining:
    """A retraining whose options are checked."""

    options: RetrainOptions
    registry: Registry
    champion: Bundle
    #: File of the rule set in force, which decides beside both models; None without one.
    rules: str | None
    out: Path
    schema: Schema
    recipe: Recipe
    #: Minimum age of rows whose labels count, microseconds; None to estimate it.
    maturity: int | None
    #: Maximum length of the compared period, microseconds.
    compared: int
    #: Conditions of `--promote-if`.
    conditions: tuple[FigureCondition, ...]

    def run(self) -> dict[str, Any]:
        labels = self._labels()
        given = None if labels is None else read_label_file(Path(labels))
        archive = self._archive(given)
        maturity = self._maturity(archive)
        periods = periods_of(archive.labelled, maturity, self.compared, self.champion)
        digest = archive.digest(periods, self._settings())
        about = self._about(archive, periods, digest, labels)
        if (reason := self._nothing_new(archive, periods, digest)) is not None:
            _LOG.info("nothing new: %s", reason)
            return {"state": "nothing_new", "reason": reason, **about}
        recipe, rules = self._with_thresholds(archive, periods)
        trained = fit_compared(archive, periods, recipe)
        compared = self._bundle(trained, archive.schema, recipe, rules).save(self.out / COMPARED)
        comparison = self._comparison(compared, archive, periods)
        figures = {**comparison["figures"], **self._traffic(archive, periods, compared)}
        challenger, alerts = compared, None
        if self.options.register != "compared":
            # What tuning found stays.
            recipe = replace(recipe, kind=_untuned(trained, recipe), tuning=None)
            again = self._fitted_again(archive, periods, recipe)
            alerts = again.budgeted and again.budgeted.per_day
            challenger = self._bundle(again, archive.schema, recipe, rules).save(
                self.out / CHALLENGER
            )
        about |= {
            "compared": compared.model_id,
            "registered_as": self.options.register,
            "alerts_a_day": alerts,
            "sentence": comparison["sentence"],
            "figures": figures,
            "promote_if": [condition.text for condition in self.conditions],
        }
        forget_trials(self.options, self.recipe.tuning)
        registered = self._register(challenger, about)
        return {
            **about,
            **registered,
            "challenger": challenger.model_id,
            "bundle": challenger.path,
            "warnings": list(comparison["warnings"]),
            "fail_if": comparison["fail_if"],
            "outputs": comparison["outputs"],
        }

    def _labels(self) -> str | None:
        """Return the file of the labels, or None."""
        if self.options.database is None:
            return self.options.labels
        file = str(self.out / LABELS)
        label_commands.run_export(ExportLabelsOptions(database=self.options.database, out=file))
        return file

    def _archive(self, given: LabelFile | None) -> Archive:
        options = self.options
        rows = Rows(
            input_places(options.files),
            input_places(options.history),
            parse_moment("--from", options.since),
            parse_moment("--until", options.until),
            given,
        )
        schema = self.schema if given is None else self.schema.with_labels()
        dataset = rows.read(schema, "required")
        if dataset.rows_dead:
            _LOG.warning("%s", dataset.left_out)
        if not dataset.transactions.num_rows:
            raise FraudError("no rows to learn from in the files and times given", Code.INPUT_EMPTY)
        if look_back(schema.velocity) and (reach := dataset.reach) is not None:
            warning = reach.warning()
            if warning is not None:
                _LOG.warning("%s", warning)
        return Archive.of(dataset.transactions, schema, given)

    def _maturity(self, archive: Archive) -> int:
        if self.maturity is not None:
            return self.maturity
        delays = archive.labelled.delays()
        if delays is None:
            raise FraudError(
                f"{archive.labelled.timed_frauds} labels of frauds have a labelled_at, too "
                "few to estimate how late labels come; give --label-maturity, such as 30d",
                Code.LABELS_NEEDED,
            )
        maturity = advised_maturity(delays)
        _LOG.info("95 %% of the labels of frauds come within %d days", maturity // DAY)
        return maturity

    def _settings(self) -> str:
        """Return what the model depends on beside the rows."""
        options, kind = self.options, self.recipe.kind
        given = (options.threshold, options.decline, self.recipe.calibrate, options.settings)
        named = (options.model, options.tune, options.register, options.seed)
        length = (options.label_maturity, options.compare, options.drop_known_cards)
        return repr((kind.name, self.schema.to_dict(), given, named, length))

    def _about(
        self, archive: Archive, periods: Periods, digest: str, labels: str | None
    ) -> dict[str, Any]:
        times = archive.labelled.times
        learned, mature = periods.learned(times), periods.mature(times)
        frauds = archive.labelled.labels == 1
        weights = archive.weights(mature)
        effective = weights.effective(archive.labelled.labels[:mature])
        if weights.weighted and effective < _FEW_EFFECTIVE:
            _LOG.warning(
                "the audit found %d frauds, which say as much as %.0f frauds of equal weight: "
                "what the champion misses is learned from few; audit more (--audit-share)",
                weights.audited,
                effective,
            )
        return {
            "champion": self.champion.model_id,
            "data_sha256": digest,
            "files": [Path(file).name for file in self.options.files],
            "labels": None if labels is None else Path(labels).name,
            "labels_as_of": _written(periods.as_of),
            "label_maturity_days": periods.maturity / DAY,
            "maturity_estimated": self.maturity is None,
            "compared_from": _written(periods.compared_from),
            "mature_until": _written(periods.mature_until),
            "rows": {
                "learned": learned,
                "compared": mature - learned,
                "immature": len(times) - mature,
            },
            "frauds": {
                "learned": int(frauds[:learned].sum()),
                "compared": int(frauds[learned:mature].sum()),
                "audited": weights.audited,
                "effective": round(effective, 1),
                "weighted": float(weights.values[frauds[:mature]].sum()),
            },
        }

    def _nothing_new(self, archive: Archive, periods: Periods, digest: str) -> str | None:
        """Return why there is nothing to do, or None."""
        for entry in self.registry.log.entries:
            if entry.action == "add" and (entry.evidence or {}).get("data_sha256") == digest:
                return f"{entry.id} was made of the same rows and labels (entry {entry.number})"
        times, labels = archive.labelled.times, archive.labelled.labels
        learned, mature = periods.learned(times), periods.mature(times)
        if not labels[learned:mature].any():
            known = f"labels count until {_written(periods.mature_until)}"
            fitted = self.champion.manifest.trained_on
            until = (
                "" if fitted is None else f", and the champion was fitted on rows to {fitted[1]}"
            )
            return f"no mature row to compare on is a fraud: {known}{until}"
        return None

    def _with_thresholds(
        self, archive: Archive, periods: Periods
    ) -> tuple[Recipe, tuple[str, str | None]]:
        """Return the recipe with both rules of thresholds, and the rules for the card."""
        options, recipe = self.options, self.recipe
        if options.threshold is not None and (
            options.decline is not None or self.champion.thresholds.decline is None
        ):
            return recipe, (options.threshold, options.decline)
        rate = alert_rate(archive, periods, self.champion)
        rule, decline = options.threshold, options.decline
        if rule is None:
            recipe, rule = (
                replace(recipe, rule=AlertBudget(rate.review)),
                f"budget={rate.review:.4g}, as many as {self.champion.model_id}",
            )
        if decline is None and rate.decline is not None:
            recipe = replace(recipe, decline=AlertBudget(rate.decline))
            decline = f"budget={rate.decline:.4g}, as many as {self.champion.model_id}"
        return recipe, (rule, decline)

    def _bundle(
        self, trained: Trained, schema: Schema, recipe: Recipe, rules: tuple[str, str | None]
    ) -> Bundle:
        for warning in trained.warnings:
            _LOG.warning("%s", warning)
        files = tuple(Path(file).name for file in self.options.files)
        name = self.champion.manifest.name
        return bundle_of(trained, schema, recipe, name=name, rules=rules, data=files)

    def _fitted_again(self, archive: Archive, periods: Periods, recipe: Recipe) -> Trained:
        if self.options.register == "refit":
            return fit_again(archive, periods, recipe, None)
        delays = archive.labelled.delays()
        if delays is None:
            raise FraudError(
                f"--register weighted: only {archive.labelled.timed_frauds} labels of frauds have "
                "a labelled_at, too few to estimate how late labels come",
                Code.LABELS_NEEDED,
            )
        return fit_again(archive, periods, recipe, delays)

    def _comparison(self, compared: Bundle, archive: Archive, periods: Periods) -> dict[str, Any]:
        """Compare with the champion as `rescore` does, and return its result.

        Rows without a label count as genuine, as in training.
        """
        options, file = self.options, self.out / COUNTED
        with whole_file(file) as stream:
            pq.write_table(archive.counted_labels(periods.learned(archive.labelled.times)), stream)
        result: Any = rescore.run(
            RescoreOptions(
                files=options.files,
                history=options.history,
                schema=options.schema,
                since=moment_of(periods.compared_from).isoformat(),
                until=options.until,
                model=compared.path,
                against=(self.champion.path,),
                rules=self.rules,
                labels=str(file),
                label_maturity=f"{periods.maturity // SECOND}s",
                cost=options.cost,
                segments=options.segments,
                fail_if=options.fail_if,
                resamples=options.resamples,
                out=str(self.out / COMPARISON),
            )
        )
        return dict(result["comparison"])

    def _traffic(
        self, archive: Archive, periods: Periods, compared: Bundle
    ) -> dict[str, float | None]:
        """Return the figures of all traffic of both models, None without an audit."""
        times = archive.labelled.times
        first, end = periods.learned(times), periods.mature(times)
        labels = archive.labelled.labels[first:end]
        weights = archive.weights(end)
        named: dict[str, float | None] = {}
        rows = archive.transactions.slice(first, end - first)
        for prefix, bundle in (("", compared), ("old.", self.champion)):
            figures = dict.fromkeys(TRAFFIC_KEYS)
            if weights.audited:
                scored = candidate_of(bundle, rows, bundle.features_in(archive.schema))
                figures = weighted_figures(
                    labels, scored.scores, scored.threshold, weights.values[first:]
                )
            named |= {f"{prefix}{key}": value for key, value in figures.items()}
        return named

    def _register(self, challenger: Bundle, about: dict[str, Any]) -> dict[str, Any]:
        """Add the challenger, and promote it if all conditions hold."""
        place, options = self.registry.place, self.options
        report = ("comparison.html", (self.out / COMPARISON / "comparison.html").read_bytes())
        author = Author.of(options.who, f"retrain: {about['sentence']}")
        added = registries.add_model(place, challenger, author, evidence=about, report=report)
        registered = {"state": "registered", "entry": added.log.entries[-1].number}
        if not self.conditions:
            return registered
        figures = about["figures"]
        unmet = [each.text for each in self.conditions if not each.holds(figures)]
        if unmet:
            _LOG.warning("not promoted, --promote-if does not hold: %s", "; ".join(unmet))
            return {**registered, "unmet": unmet}
        before, now = self.registry.standing, added.standing
        if (before.champion, before.rules) != (now.champion, now.rules):
            raise FraudError(
                f"{place.shown}: the champion was changed while {challenger.model_id} was made; "
                "it is a challenger, compare it with the new champion",
                Code.REGISTRY_CHANGED,
            )
        conditions = "; ".join(each.text for each in self.conditions)
        why = Author.of(options.who, f"retrain --promote-if {conditions}: {about['sentence']}")
        promoted = registries.promote(
            added, challenger.model_id, why, evidence=about, report=report
        )
        return {"state": "promoted", "entry": promoted.log.entries[-1].number}


def _untuned(trained: Trained, recipe: Recipe) -> ModelKind:
    """Return the kind to fit again: what tuning chose, else the kind as it was."""
    return recipe.kind if trained.tuned is None else trained.tuned.chosen.kind


def _alerts(a_day: float | None) -> list[str]:
    if a_day is None:
        return []
    return [fact("alerts a day", f"{a_day:,.1f}", "on rows too young to learn from")]


def _written(micros: int) -> str:
    return moment_of(micros).isoformat(timespec="seconds")


def render(result: dict[str, object]) -> str:
    """Return the summary for a terminal."""
    shown: Mapping[str, Any] = result
    rows, frauds = shown["rows"], shown["frauds"]
    estimated = "(estimated: 95 % of labels)" if shown["maturity_estimated"] else ""
    lines = [
        fact("champion", shown["champion"]),
        fact("label maturity", f"{shown['label_maturity_days']:g} days", estimated),
        fact("rows", rows["learned"], f"learned, {frauds['learned']:,} frauds"),
        fact("", rows["compared"], f"compared, {frauds['compared']:,} frauds"),
        fact("", rows["immature"], "too young"),
    ]
    if frauds["audited"]:
        lines.append(fact("audited frauds", frauds["audited"], "stand for those not shown"))
    if shown["state"] == "nothing_new":
        return "\n".join([*lines, f"Nothing was done: {shown['reason']}"])
    figures = shown["figures"]
    lines += [
        fact("challenger", shown["challenger"], f"({shown['registered_as']})"),
        *_alerts(shown["alerts_a_day"]),
        fact("comparison", shown["outputs"][0]),
        str(shown["sentence"]),
    ]
    if figures["traffic_recall"] is not None:
        lines.append(
            f"Of all traffic, by the audit: recall {figures['traffic_recall']:.3f}, the "
            f"champion's {figures['old.traffic_recall']:.3f}"
        )
    lines += [f"--promote-if {text}: does not hold" for text in shown.get("unmet", ())]
    lines.append(f"{shown['state']} (entry {shown['entry']})")
    return "\n".join(lines)
