"""Import everything that a worker needs, once: workers are forked from this process.

The imports take seconds; a forked process has them at once and shares their memory.
"""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from importlib import import_module

from beam_fraud.errors import FraudError

#: The graphs with all steps, the harness that runs them, and the packages of models.
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

#: Readers and writers of topics, which need an extra.
_OF_KAFKA = ("beam_fraud.sources.kafka.source", "beam_fraud.sinks.topic")

# Beam warns of missing extras, which users chose not to install.
logging.disable(logging.WARNING)
for _name in _NEEDED:
    import_module(_name)
with suppress(FraudError):
    for _name in _OF_KAFKA:
        import_module(_name)
logging.disable(logging.NOTSET)
# Objects frozen for the collector are never copied by it.
gc.collect()
gc.freeze()
