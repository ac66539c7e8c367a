"""Score card transactions for fraud with one Apache Beam pipeline, in batch and in stream."""

from beam_fraud.models.old_paths import register as _register_old_paths

__version__ = "0.1.0"

# Whatever opens a pickle that names a module of this package imports the package first.
_register_old_paths()
