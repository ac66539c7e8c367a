"""Check that Prism exists and has Beam's version."""

from __future__ import annotations

import mmap
import re
from importlib.metadata import version
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.operations.doctor.check import Check, failed, ok, warning
from beam_fraud.runners.downloads import prism_program

NAME = "Prism"
#: Go's record of the module in a program.
_BUILT_FROM = re.compile(rb"mod\tgithub\.com/apache/beam/sdks/v2\t(\S+)")


def check_prism(options: PipelineOptions) -> Check:
    """Check that Prism exists and was built from the installed Beam.

    Raises:
      FraudError: there is no Prism.
    """
    program, beam = prism_program(options), version("apache-beam")
    built = _version(program)
    if built is None:
        return warning(NAME, f"{program} does not report its version", f"check that it is {beam}")
    if built != f"v{beam}":
        fix = f"go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam}"
        return failed(NAME, f"{program} is {built}, apache-beam is {beam}", fix)
    return ok(NAME, f"{program} is {built}, as apache-beam is")


def _version(program: Path) -> str | None:
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        match = _BUILT_FROM.search(text)
        built = match[1].decode() if match else None
    # A program of Beam's own release has no version.
    return None if built in (None, "(devel)") else built
