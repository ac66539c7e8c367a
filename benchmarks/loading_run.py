"""Time the opening of a bundle in a new process, and print it as JSON.

python -m benchmarks.loading_run BUNDLE
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Open the bundle and its model, then once more."""
    start = time.perf_counter()
    # Every command has imported these before it opens a model.
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import sklearn  # noqa: F401

    from beam_fraud.models.bundle import load_model, open_bundle

    imported = time.perf_counter()
    load_model(open_bundle(sys.argv[1]))
    first = time.perf_counter()
    load_model(open_bundle(sys.argv[1]))
    again = time.perf_counter()
    seconds = {"all": first - start, "first": first - imported, "again": again - first}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
