"""Check that Prism exists and has Beam's version."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.call import Call
from beam_fraud.runners.check import Caution, Finding, RunnerCheck
from beam_fraud.runners.downloads import prism_program

#: Go's record of the module in a program.
_BUILT_FROM = re.compile(rb"mod\tgithub\.com/apache/beam/sdks/v2\t(\S+)")


def _prism(call: Call) -> Iterator[Finding]:
    """Find the program, which a launch may download; compare its version with Beam's."""
    if call.endpoint is not None:
        return
    program, beam = prism_program(call.submission), version("apache-beam")
    if not call.thorough:
        return
    built = _version(program)
    if built is None:
        yield Caution(f"{program} does not report its version", f"check that it is {beam}")
    elif built != f"v{beam}":
        raise FraudError(
            f"{program} is {built}, apache-beam is {beam}; "
            f"go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam}",
            Code.RUNNER_MISMATCH,
        )
    else:
        yield f"{program} is {built}, as apache-beam is"


def _version(program: Path) -> str | None:
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = _BUILT_FROM.search(text)
        built = found[1].decode() if found else None
    # A program of Beam's own release has no version.
    return None if built in (None, "(devel)") else built


#: The checks of Prism.
CHECKS = (RunnerCheck("Prism", _prism),)
