"""Lets `python -m beam_fraud` be `beam-fraud`."""

import sys

from beam_fraud.cli import main

if __name__ == "__main__":
    sys.exit(main())
