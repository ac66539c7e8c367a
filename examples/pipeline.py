"""A Beam pipeline of your own with fraud scores in it: JSON lines in, flagged rows and alerts out.

python examples/pipeline.py --transactions day.jsonl --model bundle --out out \
    --history 'archive/*.parquet' --sink sqlite:///flagged.db
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

import beam_fraud as bf
from beam_fraud.transforms.records import DeadLetter, ScoredTransaction

#: Needs no download; `--runner=...` takes any other.
LOCAL = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def score_line(row: ScoredTransaction) -> str:
    """Format a scored transaction as a line of JSON."""
    return json.dumps({"id": row.transaction_id, "score": row.score, "decision": row.decision})


def dead_line(letter: DeadLetter) -> str:
    """Format a dead letter as a line of JSON."""
    return json.dumps({"reason": letter.reason, "detail": letter.detail})


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline; other options go to Beam."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", required=True, help="JSON lines")
    parser.add_argument("--model", required=True, help="directory or URL of a bundle")
    parser.add_argument("--out", required=True, help="directory or URL of the outputs")
    parser.add_argument("--history", action="append", default=[], help="earlier transactions")
    parser.add_argument("--sink", help="URL of a database for flagged rows")
    options, beam_args = parser.parse_known_args(argv)
    with beam.Pipeline(options=PipelineOptions(["--runner", LOCAL, *beam_args])) as pipeline:
        records = pipeline | beam.io.ReadFromText(options.transactions)
        result = records | bf.Score(options.model, history=options.history)
        scores = result.scored | "ScoreLines" >> beam.Map(score_line)
        scores | "Scores" >> beam.io.WriteToText(f"{options.out}/scores", ".jsonl")
        dead = result.dead_letters | "DeadLines" >> beam.Map(dead_line)
        dead | "Dead" >> beam.io.WriteToText(f"{options.out}/dead_letters", ".jsonl")
        if options.sink is not None:
            result.scored | bf.WriteFlagged(options.sink)


if __name__ == "__main__":
    main()
