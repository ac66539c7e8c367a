"""Run `python -m beam_fraud` as `beam-fraud`."""

import sys

from beam_fraud.cli import main

if __name__ == "__main__":
    sys.exit(main())
