"""Models of mature labels against models of all labels, on the month after the retraining."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import average_precision_score, log_loss
from threadpoolctl import threadpool_limits

from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.threshold import AlertBudget, LeastLoss, MostF1, operating_points
from beam_fraud.models.training import Recipe, Trained
from beam_fraud.operations.retraining.challenger import Archive, fit_again
from beam_fraud.operations.retraining.periods import Periods, advised_maturity
from beam_fraud.records.label_file import NEVER
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.simulate.label_delay import parse_label_delay
from beam_fraud.simulate.simulation import Simulation, simulate

#: Days until the retraining, and days after it.
DAYS, AFTER = 365, 30
#: Charge-backs: half of them within five weeks, 95 % within three months.
DELAY = "median=35d,sigma=0.6"
#: Cost of a false alarm; a missed fraud costs its amount.
ALARM = 5.0
SCHEMA = HANDBOOK.with_labels()
SCHEMA = replace(SCHEMA, roles={**SCHEMA.roles, "labelled_at": "LABELLED_AT"})


def as_known(table: pa.Table, moment: int) -> pa.Table:
    """Return rows with the labels that are known at a moment; the others look genuine."""
    known_at = np.array(table["labelled_at"].cast(pa.int64()).fill_null(NEVER).to_numpy())
    known = (known_at != NEVER) & (known_at <= moment)
    labels = np.where(known, table["label"].to_numpy(), 0).astype(np.int8)
    for name, values in (
        ("label", pa.array(labels)),
        ("labelled_at", pa.array(known_at, mask=~known).cast(EVENT_TIME)),
    ):
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), values)
    return table


def figures(trained: Trained, after: pa.Table) -> dict[str, float]:
    """Return figures of the next month by its true labels, at thresholds of the validation rows."""
    scores = predict_scores(trained.model, feature_matrix(after, trained.features))
    labels, amounts = after["label"].to_numpy(), after["amount"].to_numpy()
    first, last = map(datetime.fromisoformat, trained.validated_on)
    days = int((last - first).total_seconds()) / 86_400
    points = operating_points(trained.labels, trained.scores, days, trained.amounts)
    fraud = labels == 1
    found = {
        "average precision": average_precision_score(labels, scores),
        "log loss": log_loss(labels, np.clip(scores, 1e-6, 1 - 1e-6)),
        "expected to true frauds": scores.sum() / labels.sum(),
    }
    for name, rule in (
        ("f1", MostF1()),
        ("cost=amount:5", LeastLoss(ALARM)),
        ("budget=8", AlertBudget(8.0)),
    ):
        hit = scores >= rule.choose(points)
        lost = amounts[fraud & ~hit].sum() + ALARM * (hit & ~fraud).sum()
        found |= {
            f"{name}: recall": hit[fraud].mean(),
            f"{name}: precision": fraud[hit].mean() if hit.any() else 0.0,
            f"{name}: F1": 2 * (hit & fraud).sum() / (hit.sum() + fraud.sum()),
            f"{name}: cost, of the fraud's amount": lost / amounts[fraud].sum(),
        }
    return {key: float(value) for key, value in found.items()}


def months(seed: int) -> dict[str, dict[str, float]]:
    """Return the figures of models of mature, all and weighted labels."""
    spec = Simulation(days=DAYS + AFTER, accounts=200, merchants=400, fraud_rate=0.02, seed=seed)
    rows = simulate(replace(spec, label_delay=parse_label_delay(DELAY)))
    # Features of known fraud see a label from its time on; the truth is in the scenario.
    truth = pc.greater(rows["TX_FRAUD_SCENARIO"], 0).cast(pa.int8())
    place = rows.column_names.index("TX_FRAUD")
    table = load_dataset(rows.set_column(place, "TX_FRAUD", truth), SCHEMA).transactions
    times = event_micros(table)
    end = int(times[0]) // DAY * DAY + DAYS * DAY
    count = int(np.searchsorted(times, end))
    archive = Archive.of(as_known(table.slice(0, count), end), SCHEMA, None)
    delays = archive.labelled.delays()
    assert delays is not None
    as_of, found = archive.labelled.as_of, {}
    kind = model_kind("hist_gradient_boosting")
    recipe = Recipe(kind=kind, rule=LeastLoss(ALARM), calibrate="platt")
    for name, maturity, weighted in (
        ("mature", advised_maturity(delays), None),
        ("all", 0, None),
        ("weighted", advised_maturity(delays), delays),
    ):
        cut = as_of - maturity + 1
        with threadpool_limits(1):
            trained = fit_again(archive, Periods(as_of, maturity, cut, cut), recipe, weighted)
        found[name] = figures(trained, table.slice(count))
    return found


@pytest.mark.soak
def test_models_of_mature_labels_are_better_on_the_next_month() -> None:
    first = int(os.environ.get("BEAM_FRAUD_MATURE_FIRST", "600"))
    count = int(os.environ.get("BEAM_FRAUD_MATURE_SEEDS", "20"))
    found = [months(seed) for seed in range(first, first + count)]
    gains = {}
    for key in found[0]["all"]:
        for name in ("mature", "weighted"):
            gain = np.array([one[name][key] - one["all"][key] for one in found])
            gains[name, key] = gain.mean(), gain.std(ddof=1) / np.sqrt(count)
        values = {name: np.mean([one[name][key] for one in found]) for name in found[0]}
        print(
            f"{key}: {', '.join(f'{name} {value:.3f}' for name, value in values.items())}; "
            f"mature less all {gains['mature', key][0]:+.3f} ± {gains['mature', key][1]:.3f}",
            flush=True,
        )
    # Twice the standard error.
    for key, sign in (("log loss", -1), ("expected to true frauds", 1)):
        gain, error = gains["mature", key]
        assert sign * gain > 2 * error
