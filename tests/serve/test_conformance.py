"""The server does what its OpenAPI document says, whatever a client sends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.stand_in import TOKEN, served

#: What a JSON Schema cannot say: which texts and numbers are times, ids and amounts; and that an
#: invalid row of an array is answered in its place.
BEYOND_SCHEMAS = "positive_data_acceptance,negative_data_rejection"


@pytest.mark.parametrize(
    "examples", [pytest.param(8), pytest.param(600, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_schemathesis_finds_no_5xx_and_no_violation_of_the_document(
    examples: int, tmp_path: Path
) -> None:
    with served() as api:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all"),
                *("--exclude-checks", BEYOND_SCHEMAS, "--continue-on-failure", "--no-color"),
                *("--max-examples", str(examples), "--seed", "7"),
                *("--generation-database", ":memory:"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    assert "internal" not in api.metrics.errors
    assert api.metrics.errors.get("BF001", 0) == 0
    assert len(api.predictions.calls) > 10
