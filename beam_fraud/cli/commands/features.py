"""`beam-fraud features`: compute the features of files."""

from __future__ import annotations

import time

from beam_fraud.cli.commands import batch
from beam_fraud.cli.commands.places import RunPlaces
from beam_fraud.cli.options import FeaturesOptions
from beam_fraud.features.matrix import FeatureSet, table_schema
from beam_fraud.monitoring import counters
from beam_fraud.pipeline.batch import build_features
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, FEATURES, batch_outputs


def run(options: FeaturesOptions) -> dict[str, object]:
    """Compute the features of files; nothing is published unless all of it succeeds.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      UsageError: an option is invalid.
      FraudError: a file cannot be used, or a directory cannot be written.
    """
    started = time.monotonic()
    places = RunPlaces.of(files=options.files, history=options.history, out=options.out)
    plan = batch.plan(options, places)
    features = FeatureSet(load_schema(options.schema))
    branches = {FEATURES: table_schema(features), DEAD_LETTERS: DEAD_LETTER}
    outputs = batch_outputs(places.out, branches)
    inputs = batch.find(plan, features, outputs)
    outputs.check()
    batch.warn_of_windows(inputs)
    if options.dry_run:
        return batch.dry_run(inputs)
    outputs.begin(attended=plan.template is None)
    if plan.template is not None:
        return batch.leave_template(plan, inputs, build_features)
    try:
        counted = batch.run(plan, inputs, build_features, "computing")
        batch.check_rows(counted, inputs)
        outputs.publish()
    except BaseException:
        outputs.abandon()
        raise
    seconds = time.monotonic() - started
    rows_in = counted.get(counters.ROWS_IN, 0)
    summary: dict[str, object] = {
        **batch.row_counts(counted),
        **batch.windows_summary(inputs, counted),
        "rows_out": counted.get(counters.ROWS_OUT, 0),
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows_in / seconds),
        "features": list(features.names),
        "run_id": outputs.run_id,
        "outputs": {name: outputs.place(name) for name in (FEATURES, DEAD_LETTERS)},
    }
    if not outputs.write_summary(summary):
        batch.refuse_replaced(outputs)
    return summary


def render(result: dict[str, object]) -> str:
    """Return the summary for a terminal."""
    from beam_fraud.cli.terminal.summary import summary

    return summary(result)
