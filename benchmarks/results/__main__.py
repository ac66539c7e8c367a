"""Print every figure of docs/results.md, computed from the raw transactions.

    python -m benchmarks.results --data DIR [--only ulb-time,handbook] [--seeds 5] [--json]
        [--out docs/results.md]

DIR holds `creditcard.parquet` (ULB) and `handbook_transactions.parquet`. With `--out` the tables
take the place of those in the page, whose other words stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from beam_fraud.errors import FraudError
from benchmarks.results import handbook, keras_section, ulb_stratified, ulb_time
from benchmarks.results.lines import Section
from benchmarks.results.page import markdown, replaced

#: What `--only` calls the sections, in the order of the page.
SECTIONS: dict[str, Callable[[Path, int], Section]] = {
    "ulb-time": ulb_time.section,
    "ulb-stratified": ulb_stratified.section,
    "handbook": handbook.section,
    "keras": keras_section.section,
}


def main(arguments: list[str] | None = None) -> None:
    """Compute and print the requested sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the transactions")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--json", action="store_true", help="every seed's figures as JSON")
    parser.add_argument("--out", type=Path, help="page to put the tables into")
    options = parser.parse_args(arguments)
    keys = options.only.split(",")
    for key in keys:
        if key not in SECTIONS:
            parser.error(f"--only {key}: no such section; there are {', '.join(SECTIONS)}")
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: must be at least 1")
    sections = []
    try:
        for key in keys:
            sections.append(SECTIONS[key](options.data, options.seeds))
            print(f"{key}: {sections[-1].seconds:.0f} s", file=sys.stderr, flush=True)
        if options.out is not None:
            page = replaced(options.out.read_text("utf-8"), sections)
            options.out.write_text(page, "utf-8")
    except (FraudError, OSError) as error:
        parser.exit(1, f"results: {error}\n")
    if options.json:
        print(json.dumps([asdict(section) for section in sections]))
    else:
        print("\n\n".join(markdown(section) for section in sections))


if __name__ == "__main__":
    main()
