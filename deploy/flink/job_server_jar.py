"""Beam's job server as one jar, for `--runner=FlinkRunner --flink_job_server_jar=JAR`.

python -m deploy.flink.job_server_jar prints where it is, and makes it if it isn't there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from beam_fraud.errors import FraudError
from deploy.java import class_path, compiled, maven

_POM = Path(__file__).parent / "pom.xml"
_JAR = _POM.parent / "target/beam-flink-job-server.jar"
#: What stands before Beam's classes; each file says why.
_SOURCES = sorted((_POM.parent / "src/main/java").rglob("*.java"))


def patched_class_path(pom: Path = _POM) -> str:
    """Return the jars of a Maven project with Beam's Flink runner, the patched classes first.

    Raises:
      FraudError: Maven or Java is missing or fails.
    """
    jars = class_path(pom)
    return f"{compiled(_SOURCES, _JAR.parent, jars)}{os.pathsep}{jars}"


def job_server_jar() -> Path:
    """Return the jar; build it in half a minute if it is missing or older than its sources.

    Raises:
      FraudError: Maven is missing or fails.
    """
    made_of = max(file.stat().st_mtime for file in (_POM, *_SOURCES))
    if not _JAR.exists() or _JAR.stat().st_mtime < made_of:
        maven(_POM, "package")
    return _JAR


if __name__ == "__main__":
    try:
        print(job_server_jar())
    except FraudError as error:
        sys.exit(str(error))
