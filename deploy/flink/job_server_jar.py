"""Beam's job server as one jar, for `--runner=FlinkRunner --flink_job_server_jar=JAR`.

python -m deploy.flink.job_server_jar prints where it is, and makes it if it isn't there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from beam_fraud.errors import FraudError
from deploy.java import maven

_POM = Path(__file__).parent / "pom.xml"
_JAR = _POM.parent / "target/beam-flink-job-server.jar"


def job_server_jar() -> Path:
    """The jar; made in half a minute if it is not there or older than what it is made of.

    Raises:
      FraudError: Maven is missing or fails.
    """
    if not _JAR.exists() or _JAR.stat().st_mtime < _POM.stat().st_mtime:
        maven(_POM, "package")
    return _JAR


if __name__ == "__main__":
    try:
        print(job_server_jar())
    except FraudError as error:
        sys.exit(str(error))
