"""All that a worker needs, imported once: workers are forked from the process that has it.

Importing it takes seconds; a process that is forked later has it at once and shares its memory.
"""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from importlib import import_module

from beam_fraud.errors import FraudError

#: The graphs with all of their steps, the harness that runs them, and what models are of.
_NEEDED = (
    "beam_fraud.runners.workers.worker",
    "beam_fraud.pipeline.batch",
    "beam_fraud.pipeline.stream",
    "apache_beam.ml.inference.base",
    "joblib",
    "pyarrow.compute",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
)

#: What reads and writes topics; it needs an extra.
_OF_KAFKA = ("beam_fraud.sources.kafka.source", "beam_fraud.sinks.topic")

# Beam warns of extras that are not installed, which is no news to whoever has not installed them.
logging.disable(logging.WARNING)
for _name in _NEEDED:
    import_module(_name)
with suppress(FraudError):
    for _name in _OF_KAFKA:
        import_module(_name)
logging.disable(logging.NOTSET)
# What is never looked at again by the collector is never copied by it either.
gc.collect()
gc.freeze()
