"""All that a worker needs, imported once: workers are forked from the process that has it.

Importing it takes seconds; a process that is forked later has it at once and shares its memory.
"""

from __future__ import annotations

import gc
from importlib import import_module

#: The graphs with all of their steps, the harness that runs them, and what models are of.
_NEEDED = (
    "beam_fraud.workers.worker",
    "beam_fraud.pipeline",
    "beam_fraud.stream_pipeline",
    "apache_beam.ml.inference.base",
    "joblib",
    "pyarrow.compute",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
)

for _name in _NEEDED:
    import_module(_name)
# What is never looked at again by the collector is never copied by it either.
gc.collect()
gc.freeze()
